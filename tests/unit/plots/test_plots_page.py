"""The code and the table of docs/plots.md."""

from __future__ import annotations

import re
from pathlib import Path

from made_runs import a_run, of

import workbench as wb
from workbench.experiments.compare import compare_all
from workbench.experiments.experiment import ComparedRuns
from workbench.experiments.run_plots import KINDS
from workbench.plots import Plot

PAGE = (Path(__file__).parents[3] / "docs/plots.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
N = 20


def test_every_line_of_the_page_draws_a_plot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [
        a_run(arm, accuracy=of(9, N), grounded=[n / N for n in range(N)]) for arm in ("few_shot", "candidate")
    ]
    result = ComparedRuns(
        runs={run.arm: run for run in runs}, comparison=compare_all(runs[1:], baseline=runs[0])
    )
    for line in CODE.splitlines():
        made = eval(line, {"result": result, "wb": wb})
        assert isinstance(made, Plot) or made.read_bytes().startswith(b"<svg"), line
    assert [path.name for path in tmp_path.iterdir()] == ["candidate.svg"]


def test_the_table_lists_every_plot():
    assert set(re.findall(r"^\| `(\w+)`", PAGE, flags=re.MULTILINE)) == {*KINDS, "scores"}
