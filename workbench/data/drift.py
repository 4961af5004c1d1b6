"""Drift of a dataset against a stored profile: distances of distributions, tested as one family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.data.profile import ColumnProfile, Profile, kind_of, values_of
from workbench.data.rules import QualityRules
from workbench.experiments.intervals import SEED
from workbench.experiments.significance import holm

#: Fewer rows than this, in the profile or in the dataset, decide nothing about drift.
LEAST_ROWS = 50
#: Most random tables for one p-value, the observed one included: p is at least their reciprocal. A draw ends
#: earlier when enough of them are as extreme.
TABLES, ENOUGH = 20_000, 100
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """The drift of one column: total variation distance, p adjusted for all columns, and what moved most.

    `state` is `undecided` with fewer than 50 rows on one side.
    """

    column: str
    kind: str
    distance: float
    p: float
    state: Literal["drift", "none", "undecided"]
    moved: str


def drift(
    rows: Sequence[Mapping[str, Any]], rules: QualityRules, profile: Profile, *, seed: int = SEED
) -> list[ColumnDrift]:
    """Return the drift of each profiled column of the rules, in order of names.

    A column drifts when its distance reaches `anomalies.drift.distance` and its p, adjusted by Holm's
    method for all columns, is at most `false_alarms`: then a set without drift is reported with at most
    that chance, whatever the number of columns.
    """
    stated = rules.anomalies.drift
    limit, least = (stated.false_alarms, stated.distance) if stated else (0.01, 0.1)
    stored = [name for name in sorted(profile.columns) if name in rules.columns]
    names = [name for name in stored if kind_of(name, rules) == profile.columns[name].kind]
    result = [_other_kind(name, profile.columns[name]) for name in stored if name not in names]
    tables = []
    for name in names:
        column = profile.columns[name]
        found = column.counted(values_of(rows, name, rules, column.kind))
        tables.append(np.asarray([(*column.counts, column.missing), found], dtype=np.int64))
    raw = [independence_p(table, seed=seed) for table in tables]
    absent = [1.0] * (len(profile.columns) - len(names))  # one family, whichever columns a dataset has
    for name, table, p in zip(names, tables, holm([*raw, *absent]), strict=False):
        column = profile.columns[name]
        small = int(table.sum(axis=1).min()) < LEAST_ROWS
        distance = total_variation(table)
        state: Literal["drift", "none", "undecided"] = "drift" if p <= limit and distance >= least else "none"
        result.append(
            ColumnDrift(
                column=name,
                kind=column.kind,
                distance=distance,
                p=p,
                state="undecided" if small else state,
                moved=_moved(table, column),
            )
        )
    return sorted(result, key=lambda item: item.column)


def _other_kind(name: str, column: ColumnProfile) -> ColumnDrift:
    """Return the undecided drift of a column that the rules declare otherwise than the profile counts it."""
    moved = f"the profile counts it as {column.kind}: workbench data profile NAME"
    return ColumnDrift(column=name, kind=column.kind, distance=0.0, p=1.0, state="undecided", moved=moved)


def total_variation(table: NDArray[np.int64]) -> float:
    """Return half the sum of absolute differences between the shares of two rows of counts: 0 to 1."""
    sums = table.sum(axis=1, keepdims=True)
    if not sums.all():
        return 0.0
    first, second = table / sums
    return float(np.abs(first - second).sum() / 2)


def independence_p(table: NDArray[np.int64], *, seed: int = SEED) -> float:
    """Return the p of a chi-square test of two rows of counts, by random tables with the same sums.

    It keeps its level for small counts, where the chi-square distribution does not hold. The draw ends at the
    100th table as extreme as the observed one, and p is the share of them (Besag & Clifford 1991, Sequential
    Monte Carlo p-values); after 19,999 tables p counts the observed one too, so it is never 0.
    """
    table = table[:, table.sum(axis=0) > 0]
    sums, columns = table.sum(axis=1), table.sum(axis=0)
    if table.shape[1] < 2 or not sums.all():
        return 1.0
    random = np.random.Generator(np.random.PCG64(seed))
    expected = columns * (sums[1] / sums.sum())
    # With fixed sums the statistic of both rows is proportional to that of one row.
    observed = float((np.square(table[1] - expected) / expected).sum()) * (1 - 1e-12)
    hits = drawn = 0
    while drawn < TABLES - 1:
        size = min(_BATCH, TABLES - 1 - drawn)
        tables = random.multivariate_hypergeometric(columns, int(sums[1]), size=size, method="marginals")
        extreme = np.flatnonzero((np.square(tables - expected) / expected).sum(axis=1) >= observed)
        if hits + len(extreme) >= ENOUGH:
            return ENOUGH / (drawn + int(extreme[ENOUGH - hits - 1]) + 1)
        hits, drawn = hits + len(extreme), drawn + size
    return (1 + hits) / TABLES


def _moved(table: NDArray[np.int64], column: ColumnProfile) -> str:
    """Return the bin whose share changed most, with both shares."""
    sums = table.sum(axis=1, keepdims=True)
    if not sums.all():
        return ""
    first, second = table / sums
    place = int(np.abs(first - second).argmax())
    return f"{column.labels[place]}: {first[place]:.0%} -> {second[place]:.0%}"
