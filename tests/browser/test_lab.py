"""`make lab` in a real browser: a notebook's stored bytes stay, and its outputs are shown again."""

from __future__ import annotations

import json
import os

import pytest
from lab_server import TOKEN, command, git, lab, opened, reopen, save, shown
from panel_page import pictured
from shown_pages import SHOWN, browser

from workbench.notebooks import canonical as notebooks

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

pytestmark = SHOWN


def foreign() -> str:
    """Somebody else's notebook, with an output."""
    notebook = json.loads(notebooks.as_text(PROBE))
    notebook["cells"][2]["source"] = "k"
    notebook["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "from last year"}]
    notebook["metadata"]["kernelspec"]["display_name"] = "theirs"
    return notebooks.text_of(notebook)


def with_notebooks(repository):
    """Commit two more notebooks, one of them of somebody else."""
    (repository / "notebooks" / "probe.ipynb").write_text(notebooks.as_text(PROBE), encoding="utf-8")
    theirs = repository / "thirdparty" / "results.ipynb"
    theirs.parent.mkdir()
    theirs.write_text(foreign(), encoding="utf-8")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "two notebooks")


@pytest.fixture(scope="module")
def served(head, tmp_path_factory):
    """One Lab for all tests: its repository, its address and its log."""
    clone = head.copied(tmp_path_factory.mktemp("lab"))
    with_notebooks(clone.folder)
    with lab(clone.folder, clone.home) as url:
        yield clone.folder, url, clone.home / "lab.log"


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
