"""Compare what a version on trial answered with what production answered: differences of guard metrics.

The guards need no expected answers. `success` is whether a row was answered, `agreement` whether a shadow
answered as production did, `latency` and `cost` are relative savings of a row's calls. `grounded` and
`schema` are the scores of a row's answer.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError
from workbench.experiments.batch import ATTEMPTS, QUARANTINE
from workbench.experiments.sequential import CountedDifferences, group_differences, relative_saving
from workbench.jobs.row_scores import scores_of

#: Most bytes of the attempts of a run that are read for a comparison.
_MOST_BYTES = 256 << 20
_Found = dict[str, CountedDifferences]
#: The guards that are relative savings, with the field of `RowResults` that each compares.
_SAVINGS: Mapping[str, str] = {"latency": "seconds", "cost": "usd"}
#: The guards that are scores of a row, from 0 to 1.
_SCORES = ("grounded", "schema")
#: The guards that a shadow compares by the means of both runs, each with what the ledger calls its mean.
_MEANS: Mapping[str, str] = {**_SAVINGS, **dict(zip(_SCORES, _SCORES, strict=True))}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResults:
    """What one version did with the rows of a slot.

    `answers` has the digest of each answer and `broken` the rows without one, by id; `seconds` and `usd` are
    those of the calls of each row, and `grounded` and `schema` the scores, where they are known.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    seconds: Mapping[str, float] = field(default_factory=dict)
    usd: Mapping[str, float] = field(default_factory=dict)
    grounded: Mapping[str, float] = field(default_factory=dict)
    schema: Mapping[str, float] = field(default_factory=dict)

    def success(self) -> dict[str, float]:
        """Return 1.0 for each answered row and 0.0 for each broken one, by id."""
        return {**dict.fromkeys(self.answers, 1.0), **dict.fromkeys(self.broken, 0.0)}

    def usage(self) -> dict[str, float]:
        """Return the means of what is known of the rows: what the ledger keeps of a run."""
        known = {name: getattr(self, name) for name in _MEANS.values()}
        return {name: statistics.fmean(found.values()) for name, found in known.items() if found}


def measure(out: Path) -> RowResults:
    """Return what the published files in `out`, and the attempts beside the folder, say of each row."""
    import polars as pl

    answers: dict[str, str] = {}
    broken: set[str] = set()
    for path in sorted(out.glob("*.parquet")):
        frame = pl.read_parquet(path)
        if path.name == QUARANTINE:
            broken |= {name for name in frame["id"].to_list() if name}
            continue
        for row in frame.iter_rows(named=True):
            answers[row["id"]] = files.digest(repr(sorted(row.items())).encode())
    return RowResults(
        answers=answers, broken=frozenset(broken - answers.keys()), **_attempted(out.with_name(ATTEMPTS))
    )


def _attempted(path: Path) -> dict[str, dict[str, float]]:
    """Return what the attempts say of each row; a row that one of them does not say it of is left out."""
    found: dict[str, dict[str, float]] = {name: {} for name in _MEANS.values()}
    if not path.is_file():
        return found
    for line in files.read_text(path, limit=_MOST_BYTES).split("\n"):
        try:
            told = files.parse_json(line, where=path.name) if line else None
        except ConfigError:
            continue  # a line of the kernel, which the worker has checked where it counts
        if isinstance(told, dict) and isinstance(told.get("case"), str):
            calls = [record for record in told.get("records") or () if record.get("port") == "model"]
            _add(found["seconds"], told["case"], calls, "recorded_latency_s")
            _add(found["usd"], told["case"], calls, "cost_usd")
            for name, score in _scored(told).items():
                found[name][told["case"]] = score
    return found


def _scored(told: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the scores of an attempt, none of one in another form."""
    try:
        return scores_of(told)
    except (KeyError, TypeError, ValueError):  # of an older or a newer version's worker
        return {}


def _add(found: dict[str, float], case: str, calls: list[dict[str, Any]], name: str) -> None:
    values = [call.get(name) for call in calls]
    numbers = [value for value in values if isinstance(value, int | float)]
    if numbers and len(numbers) == len(values):
        found[case] = sum(numbers)


def shadow_differences(
    shadow: RowResults,
    live: RowResults,
    usage: Mapping[str, float] | None = None,
    own: Mapping[str, float] | None = None,
) -> dict[str, CountedDifferences]:
    """Return the differences of a shadow's run from production's output for the same rows.

    `usage` is the mean of production's run, as the ledger keeps it: latency, cost and the scores give one
    difference each. `own` is that of the shadow, when it ended before; without it, the shadow's rows say it.
    """
    new, old = shadow.success(), live.success()
    both = sorted(new.keys() & old.keys())
    answered = sorted(shadow.answers.keys() & live.answers.keys())
    found: _Found = {
        "success": CountedDifferences.of(new[name] - old[name] for name in both),
        "agreement": CountedDifferences.of(
            -float(shadow.answers[name] != live.answers[name]) for name in answered
        ),
    }
    return found | _mean_differences(own or shadow.usage(), usage or live.usage())


def _mean_differences(new: Mapping[str, float], old: Mapping[str, float]) -> _Found:
    """Return one difference for each guard whose means both runs know."""
    found: _Found = {}
    for metric, name in _MEANS.items():
        if name in new and name in old:
            saved = relative_saving(new[name], old[name]) if metric in _SAVINGS else new[name] - old[name]
            found[metric] = CountedDifferences.of([saved])
    return found


def canary_differences(canary: RowResults, live: RowResults) -> dict[str, CountedDifferences]:
    """Return the differences of a canary's rows from the rows that production answered in the same run.

    The rows are not paired: each of the smaller part has rows of its own in the other.
    """
    new, old = (list(dict(sorted(item.success().items())).values()) for item in (canary, live))
    found: _Found = {"success": CountedDifferences.of(group_differences(new, old))}
    for name in _SCORES:
        new, old = (list(dict(sorted(getattr(item, name).items())).values()) for item in (canary, live))
        found[name] = CountedDifferences.of(group_differences(new, old))
    for metric, name in _SAVINGS.items():
        ours, theirs = (list(getattr(item, name).values()) for item in (canary, live))
        # One row each: the saving of two rows is as often above 0 as below when the versions are alike.
        pairs = zip(ours, theirs, strict=False)
        found[metric] = CountedDifferences.of(relative_saving(mine, other) for mine, other in pairs)
    return found


def failed_differences(rows: int, live: RowResults) -> dict[str, CountedDifferences]:
    """Return the differences of a version that answered none of its rows."""
    old = list(live.success().values())
    return {"success": CountedDifferences.of(group_differences([0.0] * rows, old))}
