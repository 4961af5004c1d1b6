"""A blind review in a real browser: by mouse, by keyboard alone, with hostile texts, narrow and dark."""

from __future__ import annotations

import pytest
from panel_page import FOREIGN, pictured, shown
from reviewed_runs import cases_of, review_of, run_of, two_runs
from shown_pages import SHOWN

from workbench.experiments.labels import read_labels

pytestmark = SHOWN
HOSTILE = (
    "<script>window.injected = 1</script>",
    "<img src=x onerror='window.injected=1'>",
    '"><svg onload=window.injected=1>',
    "</p><iframe srcdoc='<script>parent.injected=1</script>'>",
    "' onfocus=window.injected=1 autofocus '",
    "\u202e\x1b[31mtxt.exe",
    "שלום עולם, זו תשובה",
)
QUESTION = "Within how many days is a receipt handed in after trip {}?"
OURS = "Within 30 days of the end of the trip, with the receipt of each item above 10 euros."
THEIRS = "The page says that a receipt is kept. Ask the people team about the number of days."


@pytest.fixture
def made(tmp_path):
    scores = {"accuracy": ([1.0] * 6, [0.0] * 6)}
    cases = cases_of(6, question=QUESTION, expected="30 days")
    ours = [{"text": f"{OURS} ({i})", "sources": ["expenses.md"]} for i in range(6)]
    theirs = [{"text": f"{THEIRS} ({i})", "sources": ["travel.md"]} for i in range(6)]
    runs = [
        run_of(arm, cases, outputs, accuracy=scores["accuracy"][i])
        for i, (arm, outputs) in enumerate((("candidate", ours), ("few_shot", theirs)))
    ]
    return tmp_path, cases, *runs


def choices(review):
    return [label.choice for label in read_labels(review.file.path)]


def test_a_review_by_mouse_from_the_first_pair_to_the_report(made):
    review = review_of(*made)
    with shown(review) as page:
        pictured(page, "review-pair")
        page.get_by_label("Note").fill("names the days")
        page.get_by_role("button", name="Left is better").click()
        page.settle()
        assert [(label.choice, label.note) for label in read_labels(review.file.path)] == [
            ("left", "names the days")
        ]
        assert page.get_by_label("Note").input_value() == ""
        assert "1 of 6 pairs decided" in page.content()
        page.get_by_role("button", name="Back").click()
        page.settle()
        assert page.get_by_label("Note").input_value() == "names the days"
        pressed = page.get_by_role("button", name="Left is better").get_attribute("aria-pressed")
        assert pressed == "true"
        assert "30 days 3" not in page.content() and not page.get_by_text("Expected", exact=True).count()
        page.get_by_role("button", name="Show expected").click()
        page.settle()
        assert page.get_by_role("heading", name="Expected").count() == 1
        for name in ("Right is better", "Both good", "Both bad", "Left is better", "Skip", "Left is better"):
            page.get_by_role("button", name=name).click()
            page.settle()
        assert review.current is None and page.get_by_text("candidate preferred to few_shot").count() == 1
        pictured(page, "review-report")


def test_a_review_by_keyboard_alone(made):
    review = review_of(*made)
    with shown(review) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "BUTTON"
        for key in "lrgbx":
            page.keyboard.press(key)
            page.settle()
        assert choices(review) == ["left", "right", "both_good", "both_bad"]
        assert page.get_by_role("button", name="Hide expected").count() == 1
        page.keyboard.press("p")
        page.settle()
        assert review.current.choice == "both_bad"
        while page.evaluate("document.activeElement.tagName") != "INPUT":
            page.keyboard.press("Tab")
        page.keyboard.type("slr")  # letters of a note decide nothing
        page.keyboard.press("Tab")
        page.settle()
        page.keyboard.press("l")
        page.settle()
        assert choices(review)[-1] == "left" and read_labels(review.file.path)[-1].note == "slr"
        for key in "ss":
            page.keyboard.press(key)
            page.settle()
        assert review.current is None and len(choices(review)) == 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_texts_are_shown_as_they_are_on_a_narrow_screen(tmp_path, scheme):
    cases = cases_of(len(HOSTILE))
    ours = [{"text": text, "sources": [text]} for text in HOSTILE]
    runs = (
        run_of("candidate", cases, ours),
        run_of("few_shot", cases, ["<b>other</b> " + "long" * 60] * len(HOSTILE)),
    )
    review = review_of(tmp_path, cases, *runs)
    with shown(review, width=360, scheme=scheme) as page:
        for text in HOSTILE:
            assert page.evaluate(FOREIGN) == []
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            review.act("note", text)
            page.settle()
            assert page.evaluate(FOREIGN) == []
            page.get_by_role("button", name="Left is better").click()
            page.settle()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert {label.note for label in read_labels(review.file.path)} == set(HOSTILE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_the_pair_below_each_other(made, scheme):
    with shown(review_of(*made), width=360, scheme=scheme) as page:
        left, right = (page.get_by_role("group", name=f"{side} answer") for side in ("Left", "Right"))
        assert left.bounding_box()["y"] < right.bounding_box()["y"]
        pictured(page, f"review-narrow-{scheme}")


def test_two_long_answers_do_not_slow_the_page(tmp_path):
    cases, run, other = two_runs(1, ours=["word " * 200_000], theirs=["other " * 200_000])
    with shown(review_of(tmp_path, cases, run, other)) as page:
        assert "980,000 more characters" in page.content()
