"""Profiles of datasets: the distribution of each column, stored as JSON."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from workbench import files
from workbench.data.rules import QualityRules
from workbench.data.validation import typed
from workbench.errors import ConfigError

#: Bins of numbers and lengths, and named categories of a column; rarer ones count together.
BINS, MOST_CATEGORIES = 10, 50
MISSING, OTHER = "(missing)", "(other)"


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

    def counted(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Return the counts of this column's bins among other values; missing values are the last count."""
        known = [value for value in values if value is not None]
        if self.kind == "category":
            places = {name: place for place, name in enumerate(self.names)}
            found = Counter(places.get(str(value), len(places)) for value in known)
        else:
            found = Counter(bisect.bisect_right(self.edges, value) for value in known)
        n_bins = len(self.names if self.kind == "category" else self.edges) + 1
        return (*(found[place] for place in range(n_bins)), len(values) - len(known))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the bins; other categories follow the named ones, missing values are the last."""
        if self.kind == "category":
            return (*self.names, OTHER, MISSING)
        unit = " characters" if self.kind == "length" else ""
        if not self.edges:
            return ("all values", MISSING)
        inner = [f"{low:g} to below {high:g}{unit}" for low, high in itertools.pairwise(self.edges)]
        return (f"below {self.edges[0]:g}{unit}", *inner, f"from {self.edges[-1]:g}{unit}", MISSING)


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
        kind = kind_of(name, rules)
        if kind is None:
            continue
        values = values_of(rows, name, rules, kind)
        known = [value for value in values if value is not None]
        if kind == "category":
            counted = Counter(map(str, known))
            names = tuple(sorted(sorted(counted, key=lambda item: (-counted[item], item))[:MOST_CATEGORIES]))
            edges: tuple[float, ...] = ()
        else:
            names, edges = (), _edges(np.asarray(known, dtype=np.float64))
        blank = ColumnProfile(kind=kind, counts=(), missing=0, edges=edges, names=names)
        *counts, missing = blank.counted(values)
        columns[name] = replace(blank, counts=tuple(counts), missing=missing)
    return Profile(rows=len(rows), columns=columns)


def kind_of(name: str, rules: QualityRules) -> Literal["number", "length", "category"] | None:
    """Return how a profile counts a column; None for a column that it leaves out."""
    rule = rules.columns[name]
    if name == "id" or rule.type in {"any", "day"}:
        return None
    if rule.is_category:
        return "category"
    return "number" if rule.type in {"integer", "number"} else "length"


def values_of(rows: Sequence[Mapping[str, Any]], name: str, rules: QualityRules, kind: str) -> list[Any]:
    """Return the value of each row that a profile counts: category, number or length.

    A missing value and one of a wrong type are None.
    """
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
