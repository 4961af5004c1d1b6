"""A notebook of another tool in a real kernel: typed parameters, null tags and more output than is kept."""

from __future__ import annotations

import json

from workbench.config import Execution
from workbench.notebooks import execution


def cell(source, tags=None):
    return {
        "cell_type": "code",
        "metadata": {"tags": tags},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def test_a_notebook_of_another_tool_runs_and_its_copy_is_bounded(tmp_path):
    root = tmp_path / "jür gen's {notebooks}"
    root.mkdir()
    cells = [
        cell("pair = (1, 2)\nn: int | None = None", ["parameters"]),
        cell(">>> print(pair, n)"),
        cell("for part in range(60): print('x' * 99_999)"),
        cell("from IPython.display import HTML, display\nfor part in range(50): display(HTML('x' * 99_999))"),
        cell("    print('last')"),
    ]
    path = root / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    done = execution.execute(
        path,
        root=root,
        parameters={"pair": "[3, 4]", "n": "5"},
        execution=Execution(notebook=str(path)),
        show=False,
    )
    outputs = [cell["outputs"] for cell in json.loads(done.notebook.read_text())["cells"][2:]]
    assert "".join(outputs[0][0]["text"]) == "(3, 4) 5\n" and "".join(outputs[-1][0]["text"]) == "last\n"
    assert all("the rest is not kept" in "".join(output[-1]["text"]) for output in outputs[1:3])
    assert done.notebook.stat().st_size < 5_000_000
