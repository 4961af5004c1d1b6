"""The panel of suggested cases in a real browser: keys, mouse, hostile texts, narrow and dark."""

from __future__ import annotations

import pytest
from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN

from workbench.experiments.suggested import suggest
from workbench.experiments.suggestion_panel import SuggestionPanel
from workbench.types import Page

pytestmark = SHOWN
TEXT = (
    "Full-time employees of Acme have 29 days of annual holiday. "
    "Acme pays a grant of 150 euros for a desk at home. "
    "Exceptions outside the pay round are recorded on form W-31."
)


@pytest.fixture
def drafts():
    page = Page(source="holiday", title="Holiday", text=TEXT, tenant="acme", digest="0" * 64)
    return suggest([page], n=5, seed=7, author="ann")


def test_keys_decide_and_fields_edit(drafts):
    first, second, third = drafts.ids
    panel = SuggestionPanel(drafts)
    with shown(panel) as page:
        page.get_by_role("button", name=first).focus()
        page.keyboard.press("a")
        page.settle()
        page.keyboard.press("r")
        page.settle()
        assert [drafts.decision(name) for name in drafts.ids] == ["accepted", "rejected", "undecided"]
        assert panel.current == third
        page.get_by_role("button", name=first).click()
        page.settle()
        page.get_by_label("question", exact=True).fill("How long is the holiday?")
        page.get_by_label("accepted answers").fill("29 days | four weeks")
        page.get_by_role("button", name="next").click()
        page.settle()
        assert drafts.rows[0]["question"] == "How long is the holiday?"
        assert drafts.rows[0]["answers"] == ["29 days", "four weeks"] and panel.current == second
        pictured(page, "suggestions")


def test_no_text_of_a_draft_is_interpreted_on_a_narrow_dark_page(drafts):
    panel = SuggestionPanel(drafts)
    with shown(panel, width=360, scheme="dark") as page:
        for text in (
            "<script>window.injected = 1</script>",
            "<img src=x onerror='window.injected=1'>",
            "שלום",
        ):
            panel.act("question", text)
            panel.act("answers", text)
            page.settle()
            assert page.evaluate(FOREIGN) == [] and page.get_by_text(text).count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "suggestions-narrow-dark")
