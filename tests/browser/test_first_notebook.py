"""The first notebook in a real JupyterLab: from a question to a promoted job, as a newcomer goes."""

from __future__ import annotations

import json
import re
import time

import pytest
from clone_edits import commit, make_small
from clones import Clone
from lab_server import ADD, CHANGE, READY, SOURCE, TOKEN, command, lab, opened, run, save
from panel_page import FOREIGN_IN, pictured
from shown_pages import SHOWN

pytestmark = [*SHOWN, pytest.mark.timeout(900)]
#: The twelve cases that the notebook's own sample takes of all, so that each of its arms is on the tape.
CASES = [
    *("acme-013", "acme-015", "acme-019", "acme-025", "acme-039", "acme-083"),
    *("globex-004", "globex-012", "globex-040", "globex-048", "globex-060", "globex-077"),
]
#: What the whole way may take a person. The test types faster and reads nothing.
QUARTER_OF_AN_HOUR = 15 * 60
COPY = "Copy the answer from the page, in as few words as you can."
BETTER = f"You answer questions of staff. {COPY}"
SENTENCE = "Answer in one short sentence with the words of the page."
HOSTILE = "<img src=x onerror='window.injected=1'><script>window.injected=1</script>"
#: Bring a cell into sight, and make it the active one.
SHOW = """id => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const i = notebook.widgets.findIndex(cell => cell.model.id === id);
    notebook.activeCellIndex = i;
    return notebook.scrollToItem(i, 'start').then(() => true);
}"""
#: A run whose every answer takes three seconds, so that there is time to stop it.
SLOW = """
import asyncio

@wb.task
async def slow(ws, case: wb.Question) -> wb.Answer:
    await asyncio.sleep(3)
    return await ws.model().chat_async(ws.prompt().render(question=case.question, passages=[]))

asking = asyncio.ensure_future(ws.experiment("slow").run_async(slow, cases, scorers=scorers, arm="slow"))
"""
#: A run of minutes by a sync verb, which blocks the kernel's main thread.
LONG = """import time

@wb.task
def slow(ws, case: wb.Question) -> wb.Answer:
    time.sleep(3)
    return wb.Answer(text="?")

try:
    ws.experiment("slow").run(slow, cases, scorers=scorers)
except wb.WorkbenchError as error:
    print("ended by a click:", error)
"""


class Notebook:
    """A notebook in the Lab, and the panels of its cells."""

    def __init__(self, page):
        self.page = page

    def panel(self, cell):
        """The panel that a cell shows, in sight."""
        self.page.evaluate(SHOW, cell)
        shown = self.page.locator(".jp-Cell.jp-mod-active .wb").first
        shown.wait_for()
        return shown

    def add(self, cell, source):
        """A new cell at the end, run; what it shows as text."""
        self.page.evaluate(ADD, [cell, ""])
        return run(self.page, cell, source)

    def began(self, cell, source):
        """A new cell at the end, begun."""
        self.page.evaluate(ADD, [cell, ""])
        self.page.evaluate(CHANGE, [cell, source])
        self.page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-cell')")


@pytest.fixture
def clone(head, tmp_path) -> Clone:
    """A new clone whose use case has twelve cases: test_readme has all that ship."""
    clone = head.copied(tmp_path)
    make_small(clone.folder, cases=CASES, rows=[CASES[0], CASES[-1]])
    commit(clone, "Twelve cases")
    return clone


def test_a_newcomer_goes_from_a_question_to_a_promoted_job(clone, tmp_path):
    began = time.monotonic()
    path = clone.folder / "notebooks/answers.ipynb"
    stored = path.read_bytes()
    with (
        lab(clone.folder, tmp_path) as url,
        opened(f"{url}/tree/notebooks/answers.ipynb?token={TOKEN}&reset") as page,
    ):
        notebook = Notebook(page)
        command(page, "notebook:run-all-cells")
        read_the_verdict(notebook)
        page.wait_for_function(READY, timeout=180_000)
        assert not page.locator(".jp-OutputArea-output[data-mime-type*=error]").count()
        save(page, path)
        assert path.read_bytes() == stored and clone.status() == ""
        read_the_worst_cases(notebook, clone)
        edit_the_prompt(notebook, clone)
        review_by_keys_alone(notebook, clone)
        browse_the_memory(notebook)
        give_feedback(notebook)
        look_at_a_plot(notebook)
        stop_a_run(notebook)
        stop_while_the_cell_runs(notebook)
        save(page, path)
        changed = save_a_draft(notebook, clone)
        save(page, path)
    assert changed == {"pipelines/prompts/answer/4.prompty"}
    kept = path.read_text()
    assert kept.count(SENTENCE) == 1
    assert "widget-view" not in kept and '"output_type"' not in kept and "application/vnd.jupyter" not in kept
    path.write_bytes(stored)  # the cells that were tried are no part of the notebook
    promote(clone)
    assert time.monotonic() - began < QUARTER_OF_AN_HOUR


def output(notebook, text):
    """The first output that says this; cells out of sight are not drawn."""
    said = notebook.page.locator(".jp-OutputArea-output", has_text=text).first
    said.wait_for(state="attached")
    return said


def read_the_verdict(notebook):
    """The gate's card of what was explored, the passages behind an answer, and the draft that is compared."""
    explored = output(notebook, "mvp gate · candidate").text_content()
    assert "◐ undecided" in explored and "explored, so it cannot pass" in explored
    assert "✓ pass" in explored and "✗ fail" not in explored
    for said in ("came from", "draft against today"):
        output(notebook, said)


def read_the_worst_cases(notebook, clone):
    """The explorer: what is wrong, why, and one case kept for later."""
    panel = notebook.panel("compare")
    panel.get_by_role("combobox", name="cases").select_option("wrong")
    panel.get_by_role("heading", name="1 of").wait_for()
    panel.get_by_role("button", name="why this answer").click()
    panel.get_by_text("came from").first.wait_for()
    panel.get_by_role("button", name="add the case").click()
    panel.get_by_role("status").filter(has_text="added").wait_for()
    pictured(notebook.page, "lab-explorer")
    (line,) = (clone.folder / "data/answers-hard-cases.jsonl").read_text().splitlines()
    assert json.loads(line)["question"]


def edit_the_prompt(notebook, clone):
    """The editor: a hostile text stays a text; a better one is tried and saved with a reason."""
    panel = notebook.panel("edit")
    system = panel.get_by_label("Turn 1: system")
    system.fill(HOSTILE)
    panel.get_by_text(HOSTILE).first.wait_for()
    assert panel.evaluate(FOREIGN_IN) == []
    system.fill(BETTER)
    panel.get_by_role("button", name="Ask smollm2").click()
    panel.get_by_text("tokens of output").wait_for()
    panel.get_by_label("Number of cases").fill("4")
    panel.get_by_role("button", name="Run on these cases").click()
    panel.get_by_text("on 4 cases").first.wait_for(timeout=120_000)
    pictured(notebook.page, "lab-editor")
    panel.get_by_label("Reason").fill("Shorter answers.")
    panel.get_by_role("button", name="Save as the next version").click()
    panel.get_by_role("status").filter(has_text="saved as answer@3").wait_for()
    assert BETTER in (clone.folder / "pipelines/prompts/answer/3.prompty").read_text()


def review_by_keys_alone(notebook, clone):
    """Five pairs are decided without the mouse; JupyterLab's own keys do nothing meanwhile."""
    panel = notebook.panel("review")
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.type).join()"
    before = notebook.page.evaluate(cells)
    panel.get_by_role("button", name="Left is better").focus()
    for n, key in enumerate(("l", "r", "g", "b", "l"), start=1):
        notebook.page.keyboard.press(key)
        panel.get_by_text(re.compile(rf"^{n} of \d+ pairs decided")).first.wait_for()
    pictured(notebook.page, "lab-review")
    assert notebook.page.evaluate(cells) == before
    (labels,) = (clone.folder / "pipelines/reviews/answers").glob("*.jsonl")
    assert len(labels.read_text().splitlines()) == 5
    assert "preferred" in notebook.add("report", "print(review.report())")


def browse_the_memory(notebook):
    notebook.add("memory", "ws.bind(tenant=cases.tenants[0]).memory(corpus)")
    panel = notebook.panel("memory")
    panel.get_by_label("Question").fill("How much is a hotel?")
    panel.get_by_label("Question").press("Enter")
    panel.get_by_role("cell").first.wait_for()
    pictured(notebook.page, "lab-memory")


def give_feedback(notebook):
    notebook.add("feedback", "ws.feedback(reply)")
    panel = notebook.panel("feedback")
    panel.get_by_role("button", name="Good").click()
    panel.get_by_role("status").filter(has_text="recorded").wait_for()
    pictured(notebook.page, "lab-feedback")
    assert "feedback" in notebook.add("impact", "print(ws.outcomes())")


def look_at_a_plot(notebook):
    notebook.add("plot", 'result.plot("arms")')
    notebook.page.evaluate(SHOW, "plot")
    notebook.page.locator(".jp-Cell.jp-mod-active .jp-RenderedSVG img").wait_for()
    pictured(notebook.page, "lab-plot")


def stop_a_run(notebook):
    """The finished cases of a run that is stopped by its button are kept."""
    notebook.began("slow", SLOW)
    panel = notebook.panel("slow")
    stop_after_the_first_case(panel)
    pictured(notebook.page, "lab-progress")
    said = notebook.add(
        "stopped", "try:\n    await asking\nexcept wb.WorkbenchError as error:\n    print(error)"
    )
    assert "stopped" in said and "kept" in said


def stop_after_the_first_case(shown):
    """A run without a finished case would not be kept."""
    shown.get_by_role("meter", name=re.compile(r"^[1-9]\d* of 12 cases")).wait_for()
    shown.get_by_role("button", name="Stop and keep what is finished").click()


def stop_while_the_cell_runs(notebook):
    """The button also ends a run whose cell blocks the kernel, and the run is kept."""
    notebook.began("blocking", LONG)
    notebook.page.evaluate(SHOW, "blocking")
    shown = notebook.page.locator(".jp-Cell.jp-mod-active")
    stop_after_the_first_case(shown)
    ended = shown.locator(".jp-OutputArea-output", has_text="ended by a click").first
    ended.wait_for()
    assert "kept as run" in ended.text_content()


def save_a_draft(notebook, clone):
    """A draft of the notebook's own cell is compared and saved; the files that it added are returned."""
    asset = clone.folder / "pipelines/prompts/answer/asset.yaml"
    versions, before = asset.read_text(), new_files(clone)
    source = notebook.page.evaluate(SOURCE, "draft")
    assert source.count(COPY) == source.count("cases.sample(12,") == 1
    source = source.replace(COPY, SENTENCE).replace("cases.sample(12,", "cases.sample(3,")
    shown = run(notebook.page, "draft", f"{source}\nprint(drafted)")
    assert "draft against today · accuracy" in shown and "3 cases" in shown
    assert notebook.page.locator(".jp-CodeCell .cm-lineWrapping").count(), "long lines of cells are wrapped"
    assert "answer@4" in notebook.add("save", 'print(draft.save(reason="One sentence.").reference)')
    assert SENTENCE in asset.with_name("4.prompty").read_text()
    grown = asset.read_text()
    assert grown.startswith(versions) and 'reason: "One sentence."' in grown.removeprefix(versions)
    return new_files(clone) - before


def new_files(clone):
    """The files that are not as they were committed."""
    return {line[3:] for line in clone.run("git", "status", "--porcelain", "-uall").splitlines()}


def promote(clone):
    """In a terminal, as the notebook's last cells say."""
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "-m", "A hard case, a version of the prompt, and five decisions")
    clone.run("dvc", "repro", "--quiet")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--all", "-m", "Results")
    said = clone.run("workbench", "promote", "job/answers", "--to", "production", "--commit")
    assert "ran clean alone" in said and clone.status() == ""
    assert "answers" in clone.run("workbench", "status")
