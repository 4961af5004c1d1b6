"""The editor of a prompt in a real browser: by mouse, by keyboard alone, narrow, dark, hostile texts."""

from __future__ import annotations

import pytest
from edited_prompts import Around, dataset, editor
from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN
from test_panel_shown import HOSTILE

from workbench import registry

pytestmark = SHOWN


@pytest.fixture
def made(tmp_path):
    return editor(Around(tmp_path))


def settled(page, panel):
    """Wait until nothing goes on and the page shows it."""
    page.settle()
    while panel.busy or (panel._renewal is not None and not panel._renewal.done()):
        page.settle()
    page.settle()


def test_by_mouse_from_a_change_to_a_saved_version(made):
    with shown(made) as page:
        made._renew()
        settled(page, made)
        assert page.get_by_text("42 tokens of input").count() == 1
        page.get_by_label("Turn 1: system").fill("Be short. {{ qestion }}")
        page.wait_for_timeout(300)
        settled(page, made)
        assert page.get_by_text("undefined variable 'qestion'").count() == 1
        assert page.get_by_role("button", name="Ask tiny").is_disabled()
        page.get_by_label("Turn 1: system").fill("Be short.")
        page.wait_for_timeout(300)
        settled(page, made)
        assert page.get_by_text("undefined variable").count() == 0
        page.get_by_role("button", name="Ask tiny").click()
        settled(page, made)
        assert page.get_by_text("the answer").count() == 1
        page.get_by_label("Number of cases").fill("40")
        page.get_by_role("button", name="Run on these cases").click()
        settled(page, made)
        assert page.get_by_text("accuracy: the draft is better than answer@1 on 40 cases").count() == 1
        pictured(page, "prompt-editor")
        page.get_by_role("button", name="Save as the next version").click()
        settled(page, made)
        assert page.get_by_role("status").text_content().startswith("a new version needs a reason")
        page.get_by_label("Reason").fill("shorter answers")
        page.get_by_role("button", name="Save as the next version").click()
        settled(page, made)
        assert page.get_by_role("status").text_content().startswith("saved as answer@2")
        assert page.get_by_role("heading", name="Prompt answer@2 · unchanged").count() == 1
    assert registry.load(made.around.root, "prompt", "answer").versions[2].reason == "shorter answers"


def test_by_keyboard_alone(made):
    with shown(made) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.press("Control+A")
        page.keyboard.type("Be short.")
        page.wait_for_timeout(300)
        settled(page, made)
        assert made.system == "Be short."
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA", (
            "the focus stays while it is shown"
        )
        pressed(page, made, "Add an example")  # a button, after which single keys are not typed
        page.keyboard.press("j")
        settled(page, made)
        assert made.shown_case.id == "q00001"
        page.keyboard.press("k")
        settled(page, made)
        assert made.shown_case.id == "q00000"
        pressed(page, made, "Remove the last example")
        pressed(page, made, "Run on these cases")
        assert made.trial is not None and "accuracy" in page.inner_text("body")
        while page.evaluate("document.activeElement.tagName") != "TEXTAREA":
            page.keyboard.press("Tab")
        page.keyboard.type("better")
        page.wait_for_timeout(300)
        settled(page, made)
        pressed(page, made, "Save as the next version")
        assert made.base.reference == "answer@2"


def pressed(page, panel, name):
    """Reach a button by Tab and press it."""
    for _ in range(80):
        if page.evaluate("document.activeElement.textContent") == name:
            page.keyboard.press("Enter")
            return settled(page, panel)
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


def test_nothing_that_is_written_found_or_answered_is_interpreted(tmp_path):
    with shown(editor(Around(tmp_path / "first"))) as page:
        for number, text in enumerate(HOSTILE):
            plain = text.replace("{{", "{ {")  # a template may not call what it does not know
            question = plain.replace("{", "(") + " {}"
            around = Around(tmp_path / str(number), cases=dataset(3, question=question))
            around.text = text
            made = editor(around)
            made.system = plain.replace("{ {", "( (")
            made.ask()
            made.run(3)
            page.show(made)
            settled(page, made)
            assert page.evaluate(FOREIGN) == []
            assert page.get_by_label("Turn 1: system").input_value().startswith(made.system[:5])


def test_narrow_and_dark(made):
    made.system = "Be short. " * 30
    made.add_example("What is it?", "short")
    made.preview()
    made.run(40)
    with shown(made, width=360, scheme="dark") as page:
        settled(page, made)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "prompt-editor-narrow-dark")
