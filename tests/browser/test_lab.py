"""`make lab` in a real browser: a notebook's stored bytes stay, and its outputs are shown again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lab_server import (
    ADD,
    CHANGE,
    READY,
    SOURCE,
    TOKEN,
    command,
    git,
    lab,
    opened,
    reopen,
    run,
    save,
    shown,
    working_tree,
)
from panel_page import pictured
from shown_pages import SHOWN, browser

from workbench.notebooks import canonical as notebooks

ROOT = Path(__file__).resolve().parents[2]
NOW = "Copy the answer from the page, in as few words as you can."
EDITED = "Answer in one short sentence with the words of the page."
PROBE = {
    "cells": [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Probe"},
        {"cell_type": "code", "id": "k", "metadata": {"tags": ["parameters"]}, "source": "k = 5"},
        {
            "cell_type": "code",
            "id": "show",
            "metadata": {},
            "source": "import ipywidgets\ndisplay(ipywidgets.IntSlider(value=k))\nprint('sum', k + 37)\nk",
        },
    ],
    "metadata": {},
    "nbformat": 4,
}
EDIT = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .find(cell => cell.model.id === 'k').model.sharedModel.setSource('k = 6')"""

#: A run of minutes by a sync verb, which blocks the kernel's main thread.
LONG = """import time

@wb.task
def slow(ws, case: wb.Question) -> wb.Answer:
    time.sleep(0.5)
    return wb.Answer(text="?")

try:
    ws.experiment("slow").run(slow, cases, scorers=scorers)
except wb.WorkbenchError as error:
    print("ended by a click:", error)
"""

pytestmark = SHOWN


def stop_while_the_cell_runs(page):
    """Press the button of a run's progress while its cell blocks the kernel: the run ends and is kept."""
    page.evaluate(ADD, ["slow", ""])
    page.evaluate(CHANGE, ["slow", LONG])
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    page.get_by_role("button", name="Stop and keep what is finished").click()
    ended = page.locator(".jp-OutputArea-output", has_text="ended by a click").first
    ended.wait_for()
    assert "kept as run" in ended.text_content()


def foreign() -> str:
    """Somebody else's notebook, with an output."""
    notebook = json.loads(notebooks.as_text(PROBE))
    notebook["cells"][2]["source"] = "k"
    notebook["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "from last year"}]
    notebook["metadata"]["kernelspec"]["display_name"] = "theirs"
    return notebooks.text_of(notebook)


def committed(tmp_repo):
    """The working tree as it is, committed, with two more notebooks, and a smaller sample for the draft."""
    working_tree(tmp_repo)
    probe = tmp_repo / "notebooks" / "probe.ipynb"
    probe.parent.mkdir(exist_ok=True)
    probe.write_text(notebooks.as_text(PROBE), encoding="utf-8")
    theirs = tmp_repo / "thirdparty" / "results.ipynb"
    theirs.parent.mkdir()
    theirs.write_text(foreign(), encoding="utf-8")
    answers = tmp_repo / "notebooks" / "answers.ipynb"
    text = answers.read_text(encoding="utf-8")
    assert text.count("cases.sample(12,") == 1
    answers.write_text(text.replace("cases.sample(12,", "cases.sample(3,"), encoding="utf-8")
    git(tmp_repo, "add", "--all")
    git(tmp_repo, "commit", "--quiet", "--message", "everything")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One Lab for all tests: its repository, its address and its log."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "repo").mkdir()
    committed(folder / "repo")
    with lab(folder / "repo", folder) as url:
        yield folder / "repo", url, folder / "lab.log"


@pytest.fixture
def repository(served):
    """The repository of the Lab, as it was committed; what a test changes is taken back."""
    folder, *_ = served
    yield folder
    git(folder, "checkout", "--quiet", ".")
    git(folder, "clean", "-dfq")


def test_the_lab_opens_on_the_start_page_whose_links_open_notebooks(repository, served):
    _, url, _ = served
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{url.removesuffix('/lab')}/?token={TOKEN}", wait_until="domcontentloaded")
        preview = page.locator(".jp-MarkdownViewer")
        preview.get_by_role("heading", name="Use cases").wait_for()
        assert "workbench jobs run answers" in preview.text_content()
        pictured(page, "start_page")
        preview.get_by_role("link", name="triage").click()
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    assert not (repository / "START.md").exists() and git(repository, "status", "--porcelain") == ""


def test_running_and_saving_leaves_the_bytes_and_an_edit_changes_them(repository, served):
    _, url, log = served
    path = repository / "notebooks" / "probe.ipynb"
    stored = path.read_bytes()
    with opened(f"{url}/tree/notebooks/probe.ipynb?token={TOKEN}&reset") as page:
        command(page, "notebook:run-all-cells")
        page.locator(".jp-OutputArea-output", has_text="sum 42").first.wait_for()
        page.locator(".jp-OutputArea-output .widget-slider").first.wait_for()
        save(page, path)
        assert path.read_bytes() == stored
        assert git(repository, "status", "--porcelain") == ""

        page.evaluate(EDIT)
        save(page, path)
        assert path.read_bytes() == stored.replace(b"k = 5", b"k = 6")

        reopen(page)
        page.locator(".jp-OutputArea-output", has_text="sum 42").first.wait_for()
        save(page, path)
        path.write_bytes(path.read_bytes().replace(b"k + 37", b"k + 36"))  # outside the Lab
        reopen(page)
        assert "sum" not in shown(page)
        assert not page.get_by_text("news").count()  # nobody is asked whether to fetch them
    assert "--allow-root is passed" in log.read_text() or os.getuid()


def test_a_notebook_of_somebody_else_keeps_its_outputs_on_disk(repository, served):
    _, url, _ = served
    path = repository / "thirdparty" / "results.ipynb"
    with opened(f"{url}/tree/thirdparty/results.ipynb?token={TOKEN}&reset") as page:
        assert "from last year" in shown(page)
        page.evaluate(EDIT)
        save(page, path)
    kept = json.loads(path.read_text())
    assert kept["cells"][1]["source"] == ["k = 6"]
    assert kept["cells"][2]["outputs"][0]["text"] == ["from last year"]


def test_the_first_hour_a_verdict_then_a_draft_that_is_compared_and_saved_as_the_next_version(
    repository, served
):
    _, url, _ = served
    path, answer = repository / "notebooks" / "answers.ipynb", repository / "pipelines" / "prompts" / "answer"
    stored, versions = path.read_bytes(), (answer / "asset.yaml").read_text()
    assert not (answer / "3.prompty").exists()
    with opened(f"{url}/tree/notebooks/answers.ipynb?token={TOKEN}&reset") as page:
        command(page, "notebook:run-all-cells")
        card = page.locator(".jp-OutputArea-output", has_text="mvp gate · candidate").first
        card.wait_for(state="attached")  # cells out of sight are not drawn
        explored = card.text_content()
        assert "◐ undecided" in explored and "explored, so it cannot pass" in explored
        assert "✓ pass" in explored and "✗ fail" not in explored
        for said in ("came from", "draft against today"):
            page.locator(".jp-OutputArea-output", has_text=said).first.wait_for(state="attached")
        assert not page.locator(".jp-OutputArea-output[data-mime-type*=error]").count()
        page.wait_for_function(READY)
        save(page, path)
        assert path.read_bytes() == stored
        assert git(repository, "status", "--porcelain") == ""

        source = page.evaluate(SOURCE, "draft")
        assert source.count(NOW) == 1
        shown = run(page, "draft", f"{source.replace(NOW, EDITED)}\nprint(drafted)")
        assert "draft against today · accuracy" in shown and "3 cases" in shown
        page.evaluate(ADD, ["save", ""])
        assert "answer@3" in run(page, "save", 'print(draft.save(reason="One sentence.").reference)')
        assert page.locator(".jp-CodeCell .cm-lineWrapping").count(), "long lines of cells are wrapped"
        stop_while_the_cell_runs(page)
        save(page, path)

    assert EDITED in (answer / "3.prompty").read_text()
    grown = (answer / "asset.yaml").read_text()
    assert grown.startswith(versions) and 'reason: "One sentence."' in grown.removeprefix(versions)
    assert path.read_text().count(EDITED) == 1 and '"outputs": []' in path.read_text()
    changed = git(repository, "status", "--porcelain").splitlines()
    assert sorted(line[3:] for line in changed) == [
        "notebooks/answers.ipynb",
        "pipelines/prompts/answer/3.prompty",
        "pipelines/prompts/answer/asset.yaml",
    ]
