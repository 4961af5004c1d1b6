"""A small use case that tests judge with cells of their own."""

from __future__ import annotations

from small_use_case import CELLS, NOTEBOOK, PUBLISH, TASK, notebook

from workbench.layout import Results
from workbench.pipeline import judge as stage

RESULTS = Results(use_case="small")


def judged(root, *, before="", task=TASK, publish=PUBLISH, after=""):
    """Judge a notebook with further frozen cells before its task or after what it publishes."""
    cells = [CELLS[0], ([], before), ([], task), ([], publish), ([], after)]
    (root / NOTEBOOK).write_text(notebook(cells=tuple(cell for cell in cells if cell[1])))
    return stage.judge(root, "small", show=False)


def unconfined(root):
    """Let the kernels of a repository run as they do where the machine confines none."""
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("    seed: 7", "    seed: 7\n    execution: {confinement: off}"))
    return root


def told(root) -> dict[str, bytes]:
    """The files of the last judged run."""
    return {path.name: path.read_bytes() for path in sorted((root / RESULTS.judged).iterdir())}
