"""Profiles of datasets, and drift of a dataset against a stored profile."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from workbench import files
from workbench.data.rules import QualityRules
from workbench.data.validation import typed
from workbench.errors import ConfigError
from workbench.experiments.intervals import SEED
from workbench.experiments.significance import holm

#: Fewer rows than this, in the profile or in the dataset, decide nothing about drift.
LEAST_ROWS = 50
#: Bins of numbers and lengths, and named categories of a column; rarer ones count together.
BINS, MOST_CATEGORIES = 10, 50
MISSING, OTHER = "(missing)", "(other)"
#: Most random tables for one p-value, the observed one included: p is at least their reciprocal. A draw ends
#: earlier when enough of them are as extreme.
TABLES, ENOUGH = 20_000, 100
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """The distribution of one column as counts.

    `edges` separate the bins of numbers, or of the lengths of texts in characters; a value on an edge
    belongs to the bin above it. `names` are the categories. `missing` counts rows without a value.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    kind: Literal["number", "length", "category"]
    counts: tuple[int, ...]
    missing: int
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The distribution of each column of a dataset. It holds names of categories, and no free text."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: Literal[1] = 1
    rows: int
    columns: dict[str, ColumnProfile]

    def to_bytes(self) -> bytes:
        """Return the profile as sorted JSON."""
        return files.pretty(asdict(self))


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


def read_profile(path: Path) -> Profile:
    """Return a stored profile; raise ConfigError for another format and for counts that contradict."""
    raw = files.parse_json(files.read_text(path, hint=_HINT, limit=1 << 22), where=str(path))
    profile = files.parse(Profile, raw, where=str(path), hint=_HINT)
    for name, column in profile.columns.items():
        n_bins = len(column.names) + 1 if column.kind == "category" else len(column.edges) + 1
        counted = (*column.counts, column.missing)
        if len(column.counts) != n_bins or min(counted) < 0 or sum(counted) != profile.rows:
            raise ConfigError(f"{path}: columns.{name}: the counts do not add up", hint=_HINT)
        if list(column.edges) != sorted(set(column.edges)):
            raise ConfigError(f"{path}: columns.{name}.edges do not ascend", hint=_HINT)
    return profile


_HINT = "workbench data profile NAME   # writes the profile again"


def profile_of(rows: Sequence[Mapping[str, Any]], rules: QualityRules) -> Profile:
    """Return the profile of rows: categories by name, numbers by deciles, texts by deciles of length.

    Columns without a distribution (`any`, `day`) and the column `id` are left out.
    """
    columns = {}
    for name in rules.columns:
        kind = _kind(name, rules)
        if kind is None:
            continue
        values = _values(rows, name, rules, kind)
        known = [value for value in values if value is not None]
        if kind == "category":
            counted = Counter(map(str, known))
            names = tuple(sorted(sorted(counted, key=lambda item: (-counted[item], item))[:MOST_CATEGORIES]))
            edges: tuple[float, ...] = ()
        else:
            names, edges = (), _edges(np.asarray(known, dtype=np.float64))
        blank = ColumnProfile(kind=kind, counts=(), missing=0, edges=edges, names=names)
        *counts, missing = _counts(values, blank)
        columns[name] = ColumnProfile(
            kind=kind, counts=tuple(counts), missing=missing, edges=edges, names=names
        )
    return Profile(rows=len(rows), columns=columns)


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
    names = [name for name in sorted(profile.columns) if name in rules.columns]
    tables = []
    for name in names:
        column = profile.columns[name]
        found = _counts(_values(rows, name, rules, column.kind), column)
        tables.append(np.asarray([(*column.counts, column.missing), found], dtype=np.int64))
    raw = [independence_p(table, seed=seed) for table in tables]
    result = []
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
    return result


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


def _kind(name: str, rules: QualityRules) -> Literal["number", "length", "category"] | None:
    rule = rules.columns[name]
    if name == "id" or rule.type in {"any", "day"}:
        return None
    if rule.is_category:
        return "category"
    return "number" if rule.type in {"integer", "number"} else "length"


def _values(rows: Sequence[Mapping[str, Any]], name: str, rules: QualityRules, kind: str) -> list[Any]:
    """Return each row's category, number or length; None for a missing value and for a wrong type."""
    values = [typed(row.get(name), rules.columns[name])[0] for row in rows]
    if kind != "length":
        return values
    return [
        None if value is None else len(value) if isinstance(value, str) else sum(map(len, value))
        for value in values
    ]


def _edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the inner deciles without repetition; up to ten distinct values have a bin each."""
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        return tuple(map(float, distinct[1:]))
    inner = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(inner) if edge > distinct[0])


def _counts(values: Sequence[Any], column: ColumnProfile) -> list[int]:
    """Return the counts of a column's bins; other categories and missing values are the last ones."""
    known = [value for value in values if value is not None]
    if column.kind == "category":
        places = {name: place for place, name in enumerate(column.names)}
        n_bins, found = len(column.names) + 1, (places.get(str(v), len(places)) for v in known)
    else:
        n_bins, found = len(column.edges) + 1, (bisect.bisect_right(column.edges, value) for value in known)
    counted = Counter(found)
    return [*(counted[place] for place in range(n_bins)), len(values) - len(known)]


def _moved(table: NDArray[np.int64], column: ColumnProfile) -> str:
    """Return the bin whose share changed most, with both shares."""
    sums = table.sum(axis=1, keepdims=True)
    if not sums.all():
        return ""
    first, second = table / sums
    place = int(np.abs(first - second).argmax())
    return f"{_labels(column)[place]}: {first[place]:.0%} -> {second[place]:.0%}"


def _labels(column: ColumnProfile) -> list[str]:
    if column.kind == "category":
        return [*column.names, OTHER, MISSING]
    unit = " characters" if column.kind == "length" else ""
    if not column.edges:
        return ["all values", MISSING]
    inner = [f"{low:g} to below {high:g}{unit}" for low, high in itertools.pairwise(column.edges)]
    return [f"below {column.edges[0]:g}{unit}", *inner, f"from {column.edges[-1]:g}{unit}", MISSING]
