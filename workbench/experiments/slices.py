"""Slices: the cases with one value of a column, the metric of each slice, and the verdict on the worst one.

A line with `worst_slice` states that the metric keeps a bound in every slice. A pass needs every slice, which
is an intersection-union test (Berger 1982, Technometrics 24): each slice is judged at the full level, and the
line passes wrongly in at most (1 - confidence) / 2 of all runs, however many slices there are. A fail needs
one slice, so the error is divided among the slices: Holm's step-down (1979, Scand J Stat 6), whose first step
is Bonferroni's. It holds for dependent slices, which slices of several columns are, because they share cases.
Simultaneous intervals at the Bonferroni level are as safe and name fewer slices. The line counts once in the
family of the gate, whose other lines therefore do not depend on the number of slices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.display import number, span
from workbench.errors import ConfigError, nearest
from workbench.experiments.dataset import PROVENANCE, Dataset
from workbench.experiments.gate_spec import SMALL, GateSpec
from workbench.experiments.metrics import Sample, sample
from workbench.types import Verdict

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.intervals import Interval

#: The most values of one column; a column with more, such as a text, makes no slices.
MOST = 50
#: The slice of the cases without a value, or whose value is a list or an object.
NONE = "(none)"
#: The slices that one line of a card names, and the characters of each name.
_NAMED, _NAME = 5, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A metric over the `n` scored cases whose column `by` has the value `key`.

    `verdict` is None when no line demands anything of the slice. `needed` is the number of further cases of
    this slice that decide at the observed value.
    """

    by: str
    key: str
    value: float | None
    interval: Interval | None
    n: int
    verdict: Verdict | None = None
    needed: int | None = None

    @property
    def name(self) -> str:
        """The column and the value, shortened, such as `tenant=acme`."""
        return f"{self.by}={short(self.key)}"

    @property
    def text(self) -> str:
        """The slice in one line: name, value, interval and number of cases."""
        return " ".join(f"{self.name} {number(self.value)} {span(self.interval)}".split()) + f" n {self.n}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        interval = self.interval.to_json() if self.interval else None
        return plain | {"value": rounded(self.value), "interval": interval}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicing:
    """The value of each declared column for each case: `keys` has the column `case` and one for each name."""

    names: tuple[str, ...]
    keys: pl.DataFrame = field(repr=False)

    @classmethod
    def of(cls, cases: Dataset, names: Sequence[str], *, where: str = "slices") -> Slicing:
        """Return the slices of a dataset.

        Raises ConfigError, prefixed with `where`, for a name that is no column of a case, a column
        in which no case has a single value, and a column with more than 50 values.
        """
        import polars as pl

        known = ["tenant", *{key: None for case in cases for key in _columns(case)}, *PROVENANCE]
        check_names(names, known, where=where)
        rows = {name: [_text(_value(case, name)) for case in cases] for name in names}
        for name, values in rows.items():
            _check_values(name, values, where)
        keys = {"case": [case.id for case in cases], **{f"by.{name}": rows[name] for name in names}}
        return cls(names=tuple(names), keys=pl.DataFrame(keys, schema=dict.fromkeys(keys, pl.String)))

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """The number of cases of each slice, by column and value."""
        found = {name: self.keys[f"by.{name}"].value_counts().sort(f"by.{name}") for name in self.names}
        return {name: dict(counts.iter_rows()) for name, counts in found.items()}

    def missing(self, case_ids: pl.Series) -> int:
        """Return the number of cases whose slices are unknown, because the dataset does not hold them."""
        return int((~case_ids.is_in(self.keys["case"].implode())).sum())

    def digest_beyond(self, spec: GateSpec) -> str | None:
        """Return the SHA-256 of the judged slices by provenance, which the dataset's digest leaves out.

        None when no line of `spec` judges such.
        """
        judged = {name for rule in spec.rules for name in rule.by}
        names = sorted(judged.intersection(PROVENANCE, self.names))
        keys = self.keys.sort("case").select("case", *(f"by.{name}" for name in names))
        return files.digest(keys.to_dict(as_series=False)) if names else None

    def members(self, by: str) -> dict[str, frozenset[str]]:
        """Return the ids of the cases of each value of a column, sorted by value."""
        found: dict[str, set[str]] = {}
        for case, key in self.keys.select("case", f"by.{by}").iter_rows():
            found.setdefault(key, set()).add(case)
        return {key: frozenset(found[key]) for key in sorted(found)}

    def parts(self, cases: pl.DataFrame, by: str) -> dict[str, pl.DataFrame]:
        """Return the rows of a run's known cases for each value of a column, sorted by value."""
        keys = self.keys.select("case", slice=f"by.{by}")
        joined = cases.join(keys, on="case", how="inner", maintain_order="left")
        parts = joined.partition_by("slice", as_dict=True, include_key=False)
        return {str(key): part for (key,), part in sorted(parts.items())}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OpenSlice:
    """One slice before its verdict: its values and its interval at any level."""

    by: str
    key: str
    sample: Sample
    at: Callable[[float], Interval | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceBound:
    """The slices of one line, and the bound that each of them keeps."""

    parts: tuple[_OpenSlice, ...]
    threshold: float
    upward: bool

    @classmethod
    def of(
        cls, slicing: Slicing, cases: pl.DataFrame, metric: str, by: Sequence[str], **bound: Any
    ) -> SliceBound:
        """Return the slices of a run's cases by the columns `by`; `bound` is `threshold` and `upward`."""
        parts, scale = [], _scale(sample(cases, metric), bound["threshold"])
        for name in by:
            for key, part in slicing.parts(cases, name).items():
                values = sample(part, metric)
                at = functools.cache(functools.partial(values.interval, bound=scale))
                parts.append(_OpenSlice(by=name, key=key, sample=values, at=at))
        return cls(parts=tuple(parts), **bound)

    def says(self, level: float) -> Verdict:
        """Return fail when a slice is surely beyond the bound, pass when every slice surely keeps it."""
        if self.failing(level):
            return "fail"
        return "pass" if self.parts and all(self._passes(part, level) for part in self.parts) else "undecided"

    def failing(self, level: float) -> frozenset[int]:
        """Return the places of the slices that are beyond the bound at `level` for all of them (Holm)."""
        beyond = {place for place, part in enumerate(self.parts) if self._is_beyond(part)}
        failed = set[int]()
        while left := len(self.parts) - len(failed):
            strict = 1 - (1 - level) / left
            found = {p for p in beyond - failed if self._compared(self.parts[p], strict) == "fail"}
            if not found:
                break
            failed |= found
        return frozenset(failed)

    def slices(self, level: float, strict: float, *, failed: bool) -> tuple[Slice, ...]:
        """Return every slice with its verdict, the worst first: fails, then what is undecided, then by value.

        `level` is the gate's confidence, and `strict` the level that the family leaves the line for a fail.
        No slice fails when the line did not.
        """
        failing = self.failing(strict) if failed else frozenset[int]()
        found = []
        for place, part in enumerate(self.parts):
            plain = _measured(part.by, part.key, part.sample, part.at(level))
            if place in failing:
                found.append(replace(plain, verdict="fail"))
            elif self._passes(part, level):
                found.append(replace(plain, verdict="pass"))
            else:
                found.append(replace(plain, verdict="undecided", needed=self._needed(part, level, strict)))
        return worst_first(found, upward=self.upward)

    def _needed(self, part: _OpenSlice, level: float, strict: float) -> int | None:
        """Return the further cases of an undecided slice at the observed value."""
        beyond = self._is_beyond(part)
        needed = part.sample.needed(self.threshold, 1 - (1 - strict) / len(self.parts) if beyond else level)
        return None if needed is None else max(needed, 0 if beyond else SMALL - part.sample.n)

    def _is_beyond(self, part: _OpenSlice) -> bool:
        """Return whether the observed value is beyond the bound; only then can the slice fail."""
        value = part.sample.value
        return value is not None and (value < self.threshold if self.upward else value > self.threshold)

    def _passes(self, part: _OpenSlice, level: float) -> bool:
        return part.sample.n >= SMALL and self._compared(part, level) == "pass"

    def _compared(self, part: _OpenSlice, level: float) -> Verdict:
        found = part.at(level)
        return found.against(self.threshold, upward=self.upward) if found else "undecided"


def measured(
    slicing: Slicing, cases: pl.DataFrame, metric: str, *, level: float, upward: bool = True
) -> tuple[Slice, ...]:
    """Return the metric of each slice without a verdict, the worst first in each column."""
    found: list[Slice] = []
    scale = _scale(sample(cases, metric), 0.0)
    for by in slicing.names:
        parts = ((key, sample(part, metric)) for key, part in slicing.parts(cases, by).items())
        found += worst_first(
            [_measured(by, key, values, values.interval(level, bound=scale)) for key, values in parts],
            upward=upward,
        )
    return tuple(found)


def worst_first(slices: Sequence[Slice], *, upward: bool) -> tuple[Slice, ...]:
    """Return the slices in the order of their verdicts, then of their values; equal ones by name."""
    ranks: dict[Verdict | None, int] = {"fail": 0, "undecided": 1, "pass": 2, None: 1}

    def rank(item: Slice) -> tuple[int, float, str, str]:
        value = 0.0 if item.value is None else item.value if upward else -item.value
        return (ranks[item.verdict], value, item.by, item.key)

    return tuple(sorted(slices, key=rank))


def slices_text(slices: Sequence[Slice]) -> str:
    """Return the worst slices of one column as one line of a card; empty without slices."""
    shown = [item.text.removeprefix(f"{item.by}=") + f" {item.verdict or ''}".rstrip() for item in slices]
    more = [f"{len(shown) - _NAMED} more"] if len(shown) > _NAMED else []
    return "; ".join(shown[:_NAMED] + more)


def short(key: str) -> str:
    """Return the name of a slice, cut after 40 characters."""
    return key if len(key) <= _NAME else f"{key[: _NAME - 1]}…"


def check_names(names: Sequence[str], known: Sequence[str], *, where: str) -> None:
    """Raise ConfigError, prefixed with `where`, for a name that is no column or stands twice."""
    for place, name in enumerate(names):
        if name not in known:
            raise ConfigError(
                f"{where}: {files.shortened(name)!r} is no column of a case ({nearest(name, known)})",
                hint="name tenant, a column of inputs or expected of the dataset, or one of provenance",
            )
        if name in names[:place]:
            raise ConfigError(f"{where}: {name!r} is named twice", hint="name each column once")


def _check_values(name: str, values: Sequence[str], where: str) -> None:
    distinct = set(values)
    if len(distinct) > MOST:
        raise ConfigError(
            f"{where}: {name} has {len(distinct)} values, and at most {MOST} make slices",
            hint="name a column with few values, such as tenant",
        )
    if distinct == {NONE}:
        raise ConfigError(
            f"{where}: no case has a single value in {name}",
            hint="name a column of texts, numbers or truth values",
        )


def _columns(case: Any) -> Mapping[str, Any]:
    return {**case.inputs, **case.expected}


def _value(case: Any, name: str) -> Any:
    return case.tenant if name == "tenant" else {**case.provenance, **_columns(case)}.get(name)


def _text(value: Any) -> str:
    """Return a value as the name of its slice; one that cannot be hashed, or is a tuple, has no name."""
    if value is None or isinstance(value, tuple) or type(value).__hash__ is None:
        return NONE
    plain = str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(plain.split()) or NONE


def _scale(pooled: Sample, bound: float) -> float:
    """Return the bound, or a score outside 0 to 1, which shows that no slice has the scale 0 to 1."""
    values = pooled.values
    outside = values[(values < 0) | (values > 1)]
    return float(outside[0]) if len(outside) else bound


def _measured(by: str, key: str, values: Sample, interval: Interval | None) -> Slice:
    return Slice(by=by, key=key, value=values.value, interval=interval, n=values.n)
