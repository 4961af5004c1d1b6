"""The explorer of cases in a real browser: by mouse, by keyboard, with hostile texts, narrow and dark."""

from __future__ import annotations

from explored_runs import compared, dataset
from panel_page import FOREIGN, pictured, shown
from shown_pages import SHOWN

pytestmark = SHOWN
HOSTILE = (
    "<script>window.injected = 1</script>",
    "<img src=x onerror='window.injected=1'>",
    '"><svg onload=window.injected=1>',
    "</p><iframe srcdoc='<script>parent.injected=1</script>'>",
    "\u202e\x1b[31mtxt.exe <b>bold</b>",
    "שלום עולם, כמה ימי חופשה יש?",
)
FLIPPED = {"old": (1, 1, 0, 0, 1, None) * 4, "new": (1, 0, 1, 0, 1, 1) * 4}


def explorer(root, **how):
    how.setdefault("answers", {"q0001": "Full-time employees have 46 days of holiday a year."})
    return compared(root, **{**FLIPPED, **how}).explore()


def test_by_mouse_a_case_is_found_explained_and_kept(tmp_path):
    panel = explorer(tmp_path)
    with shown(panel) as page:
        assert page.get_by_role("heading", name="q0001 · globex").count() == 1
        pictured(page, "explorer")
        page.get_by_role("combobox", name="cases").select_option("wrong")
        page.settle()
        page.get_by_role("button", name="q0003").click()
        page.settle()
        assert panel.current == "q0003"
        assert page.locator("details[open] mark").first.is_visible()  # the passages of a wrong answer
        page.get_by_role("button", name="why this answer").click()
        page.settle()
        assert page.get_by_text("call new-q0003").count() == 1
        page.get_by_label("what is wrong with").fill("the page has changed")
        page.get_by_role("button", name="note as wrong").click()
        page.settle()
        assert "noted" in page.get_by_role("status").text_content()
        page.get_by_role("button", name="add the case").click()
        page.settle()
        assert "q0003 added" in page.get_by_role("status").text_content()
        assert (tmp_path / "data/answers-hard-cases.jsonl").is_file()
        page.get_by_label("with the text").fill("year 7")
        page.wait_for_timeout(300)
        page.settle()
        assert panel.cases["case"].to_list() == ["q0007"]
        pictured(page, "explorer-case")


def test_by_keys_alone_cases_are_gone_through(tmp_path):
    panel = explorer(tmp_path)
    with shown(panel) as page:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("q0001"):
                break
        page.keyboard.press("n")
        page.settle()
        page.keyboard.press("n")
        page.settle()
        assert panel.current == panel.cases["case"][2]
        page.keyboard.press("p")
        page.settle()
        assert panel.current == panel.cases["case"][1]
        page.keyboard.press("w")
        page.settle()
        assert page.get_by_text(f"call new-{panel.current}").count() == 1
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("add the case"):
                break
        page.keyboard.press("Enter")
        page.settle()
        assert f"{panel.current} added" in page.get_by_role("status").text_content()


def test_no_text_of_a_question_an_answer_or_a_passage_is_interpreted(tmp_path):
    with shown(explorer(tmp_path)) as page:
        for text in HOSTILE:
            cases = dataset(6, question=text + " {}")
            answers = {f"q{i:04}": f"{text} {i}" for i in range(6)}
            flipped = {arm: scores[:6] for arm, scores in FLIPPED.items()}
            panel = explorer(tmp_path, cases=cases, answers=answers, **flipped)
            page.show(panel)
            panel.act("reason", text)
            panel.act("note")
            panel.act("search", text)
            page.settle()
            assert page.evaluate(FOREIGN) == []
            assert page.get_by_text(text).count() > 0 or "\x1b" in text


def test_a_narrow_dark_page_holds_it(tmp_path):
    panel = explorer(tmp_path)
    panel.act("why")
    with shown(panel, width=360, scheme="dark") as page:
        assert page.locator("details[open] mark").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        pictured(page, "explorer-narrow-dark")
