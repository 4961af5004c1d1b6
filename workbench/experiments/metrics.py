"""Metrics of a run: one value per case, their mean or quantile with an interval, and the cases needed.

Repeats of a case are averaged before cases are, so each case counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workbench.display import number, span
from workbench.errors import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from workbench.experiments.intervals import Interval

SCORE = "score."
#: Metrics of every run, independent of its scorers, with the source column of each.
ALWAYS: Mapping[str, str] = {
    "latency_p95_s": "latency_s",
    "latency_mean_s": "latency_s",
    "cost_usd_per_case": "cost_usd",
    "unscored_rate": "status",
    "cases": "status",
}
#: Means in physical units; comparisons list them after the scores, without a verdict.
AMOUNTS = ("cost_usd_per_case", "latency_mean_s")
_Kind = Literal["score", "amount", "p95", "number"]
_KINDS: Mapping[str, _Kind] = {
    "latency_p95_s": "p95",
    "latency_mean_s": "amount",
    "cost_usd_per_case": "amount",
    "cases": "number",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric over `n` cases; `value` is None when no case has a value.

    `repeat_sd` is the standard deviation between repeats of the same case; None without repeats.
    `tenants` holds the metric of each tenant by name.
    """

    name: str
    value: float | None
    interval: Interval | None
    n: int
    repeat_sd: float | None = None
    tenants: Mapping[str, Metric] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        plain: dict[str, Any] = {"value": rounded(self.value), "n": self.n}
        if self.interval is not None:
            plain["interval"] = self.interval.to_json()
        if self.repeat_sd is not None:
            plain["repeat_sd"] = rounded(self.repeat_sd)
        if self.tenants:
            plain["tenants"] = {name: metric.to_json() for name, metric in self.tenants.items()}
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The data of one metric, in the order of cases.

    `by_case` has one value per case, or null; `rows` has the values of all repeats, without nulls.
    """

    name: str
    kind: _Kind
    by_case: pl.Series = field(repr=False)
    rows: NDArray[np.float64] = field(repr=False)
    repeat_sd: float | None = None

    @property
    def n(self) -> int:
        """The number of cases with a value."""
        return len(self.by_case) - self.by_case.null_count()

    @property
    def values(self) -> NDArray[np.float64]:
        """The values of the cases that have one."""
        return self.by_case.drop_nulls().to_numpy()

    @property
    def value(self) -> float | None:
        """The value of the metric; None when no case has a value."""
        from workbench.experiments.intervals import quantile

        if self.kind == "number":
            return float(self.values.sum())
        if not self.n:
            return None
        return quantile(self.rows, 0.95) if self.kind == "p95" else float(self.values.mean())

    def interval(self, level: float, *, bound: float = 0.0) -> Interval | None:
        """Return the two-sided interval at `level`; None for a plain number, or when nothing bounds it.

        A `bound` of a gate outside 0 to 1 shows that the scale of a score is not 0 to 1.
        """
        from workbench.experiments import intervals

        if self.kind == "number" or not self.n:
            return None
        if self.kind == "p95":
            found = intervals.quantile_interval(self.rows, 0.95, level=level, clusters=self.n)
            return intervals.Interval(
                low=max(0.0, found.low), high=found.high, level=level, method=found.method
            )
        if self.kind == "score":
            if 0 <= bound <= 1:
                interval = intervals.score_interval(self.values, level=level)
            else:
                interval = intervals.mean_interval(self.values, level=level, least=intervals.FEW)
            return None if interval.is_open else interval
        return intervals.mean_interval(self.values, level=level)

    def needed(self, threshold: float, level: float) -> int | None:
        """Return the further cases needed for the interval to clear `threshold` at the observed values."""
        import numpy as np

        from workbench.experiments import sample_size
        from workbench.experiments.distributions import is_binary

        value = self.value
        if value is None or self.interval(level, bound=threshold) is None:
            return None
        if self.kind == "p95":  # p95 <= x means that at least 95 % of the rows are <= x
            total = sample_size.for_proportion(float(np.mean(self.rows <= threshold)), 0.95, level=level)
        elif self.kind == "score" and is_binary(self.values):
            total = sample_size.for_proportion(value, threshold, level=level)
        else:
            total = sample_size.for_mean(float(np.std(self.values)), value - threshold, level=level)
        return None if total is None else max(1, total - self.n)


def score_names(frame: pl.DataFrame) -> list[str]:
    """Return the names of the scorers, in column order."""
    return [column.removeprefix(SCORE) for column in frame.columns if column.startswith(SCORE)]


def known(frame: pl.DataFrame) -> list[str]:
    """Return the names of all metrics of these cases: scores first, then `ALWAYS`."""
    return score_names(frame) + list(ALWAYS)


def plain_name(name: str) -> str:
    """Return the metric's name without the prefix `score.`."""
    return name.removeprefix(SCORE)


def sample(frame: pl.DataFrame, name: str) -> Sample:
    """Return the data of metric `name`; raise ConfigError with the nearest name when it is unknown."""
    import polars as pl

    name = plain_name(name)
    if name not in known(frame):
        raise ConfigError(
            f"no metric {name!r} in this run ({nearest(name, known(frame))})",
            hint=f"name one of {', '.join(known(frame))}",
        )
    column = ALWAYS.get(name, SCORE + name)
    value = pl.col(column)
    if column == "status":
        value = (value == ("scored" if name == "cases" else "unscored")).cast(pl.Float64)
    rows = frame.select("case", value=value)
    by_case, spread = rows["value"], None
    if frame["repeat"].max():
        cases = rows.drop_nulls().group_by("case").agg(
            value=pl.col("value").max() if name == "cases" else pl.col("value").mean(),
            spare=pl.len() - 1,
            spread=(pl.col("value") - pl.col("value").mean()).pow(2).sum(),
        )  # fmt: skip
        cases = rows.select("case").unique().join(cases, on="case", how="left").sort("case")
        by_case, spare = cases["value"], int(cases["spare"].sum())
        spread = float(cases["spread"].sum() / spare) ** 0.5 if spare else None
    return Sample(
        name=name,
        kind=_KINDS.get(name, "score"),
        by_case=by_case,
        rows=rows["value"].drop_nulls().to_numpy(),
        repeat_sd=None if column == "status" else spread,
    )


def measure(frame: pl.DataFrame, name: str, *, level: float) -> Metric:
    """Return metric `name` over all cases, with its interval and the metric of each tenant."""
    return _metric(sample(frame, name), level, by_tenant(frame, name, level=level))


def by_tenant(frame: pl.DataFrame, name: str, *, level: float) -> dict[str, Metric]:
    """Return metric `name` of each tenant, sorted by tenant."""
    column = ALWAYS.get(plain_name(name), SCORE + plain_name(name))
    parts = frame.select("case", "repeat", "tenant", column).partition_by("tenant", as_dict=True)
    return {tenant: _metric(sample(part, name), level, {}) for (tenant,), part in sorted(parts.items())}


def _metric(found: Sample, level: float, tenants: Mapping[str, Metric]) -> Metric:
    return Metric(
        name=found.name,
        value=found.value,
        interval=found.interval(level),
        n=found.n,
        repeat_sd=found.repeat_sd,
        tenants=tenants,
    )


def tenants_text(tenants: Mapping[str, Metric]) -> str:
    """Return the metric of each tenant as one line; empty for fewer than two tenants."""
    if len(tenants) < 2:
        return ""
    return "; ".join(f"{name} {number(m.value)} {span(m.interval)}".strip() for name, m in tenants.items())
