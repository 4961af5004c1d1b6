"""Panels where nobody looks: papermill gets their text, and under papermill alone the widget too."""

from __future__ import annotations

import json
import os

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.config import Execution
from workbench.notebooks.execution import execute

VIEW = "application/vnd.jupyter.widget-view+json"
PANEL = """
from workbench.widgets.nodes import Button, Group, Words
from workbench.widgets.panel import Panel

class Counter(Panel):
    n = 0

    def view(self):
        more = Button(label="more", action="more", python="counter.more()")
        return Group(nodes=(Words(text=f"n is {self.n}"), more))

    def on_more(self, _):
        self.n += 1

counter = Counter()
counter.act("more")
counter
"""


@pytest.fixture
def notebook(tmp_path):
    (tmp_path / "params.yaml").touch()
    path = tmp_path / "task.ipynb"
    parameters = new_code_cell("n = 1", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(PANEL)]), path)
    return path


def output_of(path):
    copy = json.loads(path.read_text())
    (output,) = copy["cells"][-1]["outputs"]
    return copy["metadata"], output["data"]


def test_a_notebook_that_the_workbench_runs_has_the_text_and_no_widget(notebook):
    root = notebook.parent
    ran = execute(
        notebook, root=root, parameters={}, execution=Execution(notebook="task.ipynb"), show=False, cwd=root
    )
    metadata, data = output_of(ran.notebook)
    assert "".join(data["text/plain"]) == "n is 1\n  more: counter.more()"
    assert VIEW not in data and "widgets" not in metadata
    assert "WORKBENCH_WIDGETS" not in os.environ


def test_under_papermill_alone_the_text_stands_beside_the_widget(notebook):
    papermill.execute_notebook(
        str(notebook), str(notebook.with_name("copy.ipynb")), progress_bar=False, kernel_name="python3"
    )
    _, data = output_of(notebook.with_name("copy.ipynb"))
    assert "".join(data["text/plain"]).startswith("n is 1") and VIEW in data
