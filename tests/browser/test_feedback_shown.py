"""The panel of feedback in a real browser: by mouse, by keyboard alone, narrow and dark, hostile texts."""

from __future__ import annotations

from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN
from test_panel_shown import HOSTILE

from workbench.records.feedback import FeedbackPanel
from workbench.records.outcomes import RecordedOutcome
from workbench.types import Reply

pytestmark = SHOWN
ANSWER = "On a business trip the meal allowance is 46 euros per day."


def panel(text=ANSWER):
    """A panel whose recording keeps what is said."""
    said = []

    def record(note, *, said: bool, kept=said):
        kept.append((said, note))
        return RecordedOutcome(
            at="2026-11-01T12:00:00+00:00", use_case="answers", tenant="acme", principal="ada", trace_id="t",
            session="", name="feedback", value=float(said), note=note,
        )  # fmt: skip

    made = FeedbackPanel(Reply(text=text, model="m", trace_id="t"), record)
    made.said = said
    return made


def test_by_mouse_and_by_keyboard_alone():
    made = panel()
    with shown(made) as page:
        page.get_by_role("button", name="Bad").click()
        page.settle()
        assert made.said == [(False, "")]
        assert page.get_by_role("button", name="Bad").get_attribute("aria-pressed") == "true"
        page.keyboard.press("y")  # the focus is in the panel
        page.settle()
        assert made.said[-1] == (True, "")
        while page.evaluate("document.activeElement.tagName") != "TEXTAREA":
            page.keyboard.press("Tab")
        page.keyboard.type("right page, yes")
        page.keyboard.press("Shift+Tab")
        page.settle()
        assert made.said[-1] == (True, "right page, yes") and len(made.said) == 3
        assert page.get_by_text("good, by ada").count() == 1
        pictured(page, "feedback")


def test_nothing_that_is_answered_or_noted_is_interpreted():
    with shown(panel()) as page:
        for text in HOSTILE:
            made = panel(text)
            made.give(good=False, note=text.replace("\u0000", ""))
            page.show(made)
            assert page.evaluate(FOREIGN) == []
            assert page.get_by_label("Note").input_value() == made.note


def test_narrow_and_dark():
    with shown(panel(ANSWER * 20), width=360, scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "feedback-narrow-dark")
