"""Plots of runs: arms with intervals, slices, cost against quality, latency, and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.display import number, percent
from workbench.errors import ConfigError, nearest
from workbench.experiments import metrics
from workbench.plots import Mark, Plot, Role

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.intervals import Interval

#: The plots of a comparison and of one run.
KINDS = ("arms", "slices", "cost", "latency", "calibration")
#: The quantiles of a latency plot: the ends of the line, of the bar, and the value.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: A score with more values than this is binned into as many parts of equal width.
_BINS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedArm:
    """An arm to plot: its name, what it stands for, and the rows of its run."""

    name: str
    cases: pl.DataFrame = field(repr=False)
    role: Role = ""


def check_kind(kind: str, known: Sequence[str]) -> None:
    """Raise ConfigError, which lists the plots, for an unknown one."""
    if kind not in known:
        raise ConfigError(
            f"there is no plot {kind!r} ({nearest(kind, known)})", hint=f"name one of {', '.join(known)}"
        )


def plot_of(kind: str, arms: Sequence[PlottedArm], metric: str, level: float, by: str | None = None) -> Plot:
    """Return a plot of arms: any of `KINDS` but the slices. `by` is the forecast of a calibration."""
    if kind == "arms":
        return arms_plot(arms, metric, level)
    if kind == "cost":
        return cost_plot(arms, metric, level)
    return latency_plot(arms) if kind == "latency" else calibration_plot(arms, metric, level, by=by)


def arms_plot(arms: Sequence[PlottedArm], metric: str, level: float) -> Plot:
    """Return each arm's value of a metric with its interval."""
    marks = tuple(_measured(arm.name, arm, metric, level) for arm in arms)
    return Plot(
        title=f"{metrics.plain_name(metric)} of each arm",
        item="arm",
        axis=metrics.plain_name(metric),
        marks=marks,
        scale=_unit(marks),
        interval=f"interval at {percent(level)}",
    )


def scores_plot(arm: PlottedArm, level: float) -> Plot:
    """Return every score of one arm whose values are from 0 to 1, with its interval.

    Raises ConfigError when the arm has no such score.
    """
    found = [_measured(name, arm, name, level) for name in metrics.score_names(arm.cases)]
    marks = tuple(mark for mark in found if mark.value is not None and _unit([mark]) is not None)
    if not marks:
        raise ConfigError(
            f"run {arm.name} has no score whose values are from 0 to 1",
            hint='run.plot("arms", metric="NAME")',
        )
    return Plot(
        title=f"scores of {arm.name}", item="score", axis="score", marks=marks, scale=(0.0, 1.0),
        interval=f"interval at {percent(level)}",
    )  # fmt: skip


def tenants_plot(arms: Sequence[PlottedArm], metric: str, level: float) -> Plot:
    """Return each arm's value of a metric for each tenant, beside that of all tenants."""
    marks = []
    for arm in arms:
        parts = metrics.by_tenant(arm.cases, metric, level=level)
        marks += [_mark(name, found, role=arm.role, group=arm.name) for name, found in parts.items()]
        marks.append(_measured("all", arm, metric, level, group=arm.name))
    return Plot(
        title=f"{metrics.plain_name(metric)} by tenant", item="slice", axis=metrics.plain_name(metric),
        marks=tuple(marks), scale=_unit(marks), interval=f"interval at {percent(level)}",
    )  # fmt: skip


def slices_plot(title: str, metric: str, slices: Iterable[Any], level: float, bound: float | None) -> Plot:
    """Return the metric of each slice with its interval, and a dashed line at the bound of the gate.

    A slice has `key`, `value`, `interval` and `n`, as those of a gate have.
    """
    marks = tuple(Mark(name=item.key, n=item.n, value=item.value, **_ends(item.interval)) for item in slices)
    return Plot(
        title=title, item="slice", axis=metric, marks=marks, scale=_unit(marks, bound), reference=bound,
        interval=f"interval at {percent(level)}",
    )  # fmt: skip


def effects_plot(metric: str, effects: Iterable[tuple[str, Any]], level: float) -> Plot:
    """Return the effect in each slice with its interval, and a dashed line at no effect.

    `effects` are pairs of a heading and an effect with `key`, `effect`, `interval` and `n`.
    """
    marks = tuple(
        Mark(name=part.key, n=part.n, value=part.effect, group=group, **_ends(part.interval))
        for group, part in effects
    )
    return Plot(
        title=f"effect on {metric} by slice", item="slice", axis=f"effect on {metric}", marks=marks,
        reference=0.0, interval=f"interval at {percent(level)}",
        notes=("an interval beside the dashed line shows an effect; not adjusted for the number of slices",),
    )  # fmt: skip


def cost_plot(arms: Sequence[PlottedArm], metric: str, level: float) -> Plot:
    """Return a point for each arm: its metric with the interval, over the money of a case.

    Where nothing costs money, the mean seconds of a case take its place: a model on this machine has the
    price 0, and its time is not free. An arm that asks no model is at 0.
    """
    paid = any((arm.cases["cost_usd"].fill_null(0) > 0).any() for arm in arms)
    amount, across = ("cost_usd_per_case", "USD per case") if paid else ("latency_mean_s", "seconds per case")
    marks = []
    for arm in arms:
        spent = metrics.sample(arm.cases, amount).value if arm.cases["calls"].sum() else 0.0
        marks.append(_measured(arm.name, arm, metric, level, across=spent))
    return Plot(
        title=f"{across} against {metrics.plain_name(metric)}", form="points", item="arm",
        axis=metrics.plain_name(metric), across=across, marks=tuple(marks), scale=_unit(marks),
        interval=f"interval at {percent(level)}", notes=("an arm that asks no model is at 0",),
    )  # fmt: skip


def latency_plot(arms: Sequence[PlottedArm]) -> Plot:
    """Return each arm's median seconds of a case, with the ranges of the middle 50 % and 90 %.

    Raises ConfigError when no arm has a latency.
    """
    from workbench.experiments.intervals import quantile

    marks = []
    for arm in arms:
        seconds = arm.cases.filter(arm.cases["calls"] > 0)["latency_s"].drop_nulls().to_numpy()
        low, first, middle, third, high = (
            (quantile(seconds, share) for share in _QUANTILES) if len(seconds) else [None] * 5
        )
        inner = None if first is None or third is None else (first, third)
        marks.append(
            Mark(name=arm.name, role=arm.role, n=len(seconds), value=middle, low=low, high=high, inner=inner)
        )
    if not any(mark.n for mark in marks):
        raise ConfigError("no arm asked a model, so there is no latency to plot", hint='plot("arms")')
    return Plot(
        title="seconds per case", item="arm", axis="seconds per case, median", marks=tuple(marks),
        interval="middle 90 %", notes=("latencies are as recorded; an arm that asks no model has none",),
    )  # fmt: skip


def calibration_plot(arms: Sequence[PlottedArm], metric: str, level: float, *, by: str | None = None) -> Plot:
    """Return the metric over the cases of each part of a forecast, beside the mean of the forecast there.

    The forecast `by` is another score from 0 to 1, such as the share of words that stand in the passages, or
    whether the page was found. It is by default the first that differs between cases, and that is no yes or
    no where there is such a score. Raises ConfigError when no arm has one.
    """
    marks = []
    for arm in arms:
        chosen = by or _forecast(arm, metric)
        if chosen is not None:
            marks += _calibrated(arm, metric, chosen, level)
    if not marks:
        names = sorted({name for arm in arms for name in metrics.score_names(arm.cases)})
        raise ConfigError(
            f"no score forecasts {metric}: another score is needed, from 0 to 1, that differs between cases; "
            f"the scores are {', '.join(names)}",
            hint='add a scorer, such as wb.grounded(), then: result.plot("calibration", by="grounded")',
        )
    outcome = metrics.plain_name(metric)
    return Plot(
        title=f"calibration: {outcome} where a score forecasts it", item="forecast", axis=outcome,
        across="mean forecast", marks=tuple(marks), scale=_unit(marks),
        interval=f"interval at {percent(level)}",
        notes=("a forecast is calibrated where the bar, its mean, is within the interval",),
    )  # fmt: skip


def _forecast(arm: PlottedArm, metric: str) -> str | None:
    """Return the score that forecasts a metric; None without one."""
    found: list[tuple[bool, str]] = []
    for name in metrics.score_names(arm.cases):
        values = metrics.sample(arm.cases, name).by_case.drop_nulls()
        low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
        if name != metrics.plain_name(metric) and 0 <= low < high <= 1:  # type: ignore[operator]
            found.append((values.n_unique() <= 2, name))
    return min(found, key=lambda item: item[0])[1] if found else None


def _calibrated(arm: PlottedArm, metric: str, forecast: str, level: float) -> list[Mark]:
    """Return a mark for each value of a forecast, or for each of five parts of its scale."""
    import polars as pl

    from workbench.experiments.intervals import score_interval

    stated, outcome = (metrics.sample(arm.cases, name).by_case for name in (forecast, metric))
    pairs = pl.DataFrame({"stated": stated, "outcome": outcome}).drop_nulls()
    if pairs.is_empty() or pairs["stated"].min() < 0 or pairs["stated"].max() > 1:  # type: ignore[operator]
        raise ConfigError(
            f"score {forecast} of arm {arm.name} is no forecast: its values are not from 0 to 1",
            hint='by="NAME" of a score from 0 to 1',
        )
    exact = pairs["stated"].n_unique() <= _BINS
    part = pl.col("stated") if exact else (pl.col("stated") * _BINS).floor().clip(0, _BINS - 1) / _BINS
    name = metrics.plain_name(forecast)
    marks = []
    for (low,), rows in sorted(pairs.group_by(part.alias("part"), maintain_order=True)):
        values, start = rows["outcome"].to_numpy(), float(low)
        text = number(start) if exact else f"{number(start)} to {number(round(start + 1 / _BINS, 9))}"
        marks.append(
            Mark(
                name=f"{name} {text}", n=rows.height, group=arm.name, value=float(values.mean()),
                across=float(rows["stated"].mean()), **_ends(score_interval(values, level=level)),  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return marks


def _measured(name: str, arm: PlottedArm, metric: str, level: float, **fields: Any) -> Mark:
    found = metrics.measure(arm.cases, metric, level=level)
    return _mark(name, found, role=arm.role, **fields)


def _mark(name: str, found: metrics.Metric, **fields: Any) -> Mark:
    return Mark(name=name, n=found.n, value=found.value, **_ends(found.interval), **fields)


def _ends(interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {"low": None, "high": None}
    return {"low": interval.low, "high": interval.high}


def _unit(marks: Sequence[Mark], *more: float | None) -> tuple[float, float] | None:
    """Return the scale from 0 to 1 when every mark fits in it."""
    ends = [end for mark in marks for end in (mark.value, mark.low, mark.high)]
    fits = all(-1e-9 <= end <= 1 + 1e-9 for end in (*ends, *more) if end is not None)
    return (0.0, 1.0) if fits else None
