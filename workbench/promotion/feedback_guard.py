"""The guard `feedback`: what people said of a canary's answers, against what they said of production's.

People record it with `ws.feedback`, whenever they like, in the log of one clone. The n-th answer of the
canary that somebody spoke of is compared with the n-th of production. A pair is made once, so that the
comparison stays valid however often it is looked at.
"""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Collection, Mapping
from pathlib import Path

import orjson

from workbench.experiments.sequential import CountedDifferences
from workbench.layout import CALLS, OUTCOMES
from workbench.records.calls import Chosen, intact, scan_calls
from workbench.records.outcomes import feedback_of

#: A row of a run: the id of the run and of the row.
_Row = tuple[str, str]


def feedback_differences(
    root: Path, new: Collection[str], old: Collection[str], *, since: dt.datetime
) -> CountedDifferences:
    """Return the differences in feedback between the rows of the runs `new` and `old`, each from 0 to 1.

    Of a row that several calls or people are about, the mean counts. Only calls since a time are read.
    """
    said = feedback_of(root / OUTCOMES)
    if not said or not new or not old:
        return CountedDifferences()
    rows: dict[_Row, list[float]] = {}
    found = _rows_of(root, said.keys(), {*new, *old}, since)
    for trace, values in said.items():
        if trace in found:
            rows.setdefault(found[trace], []).extend(values)
    means = [(run, statistics.fmean(values)) for (run, _), values in rows.items()]
    ours = [mean for run, mean in means if run in new]
    theirs = [mean for run, mean in means if run in old]
    return CountedDifferences.of(mine - other for mine, other in zip(ours, theirs, strict=False))


def _rows_of(
    root: Path, traces: Collection[str], runs: Collection[str], since: dt.datetime
) -> Mapping[str, _Row]:
    """Return the row of each of these calls that a run of these made."""
    import polars as pl

    wanted = pl.col("trace_id").is_in(sorted(traces)) & pl.col("run").is_in(sorted(runs))
    with intact(root / CALLS):
        calls = scan_calls(root / CALLS, Chosen(since=since)).filter(wanted)
        frame = calls.select("trace_id", "run", "labels").collect()
    return {trace: (run, _row(labels, trace)) for trace, run, labels in frame.iter_rows()}


def _row(labels: str | None, trace: str) -> str:
    """Return the row that the labels of a call name; a call without one is a row of its own."""
    named = orjson.loads(labels or "{}")
    return str(named.get("row") or trace) if isinstance(named, dict) else trace
