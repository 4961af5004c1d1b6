"""Join outcomes and business events with the calls that led to them: success, latency, cost and outcome."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.display import Card, Shown, number, percent, span
from workbench.errors import ConfigError, nearest
from workbench.experiments.intervals import (
    Interval,
    mean_interval,
    proportion_interval,
    quantile,
    quantile_interval,
    rounded,
    score_interval,
)
from workbench.records.outcomes import MOST_VALUE

if TYPE_CHECKING:
    import polars as pl

On = Literal["trace_id", "session"]
#: What impact may be grouped by.
GROUPS = ("use_case", "tenant", "prompt", "model", "job", "run", "fallback")
_KEYS = ("use_case", "tenant")
#: Prefix of the columns of outcomes, whose names may be those of a call's columns.
_OUTCOME = "outcome "


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number over the units of a group, of how many it is known, and its interval."""

    value: float | None
    n: int
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return the number and its interval, rounded."""
        interval = self.interval and self.interval.to_json()
        return {"value": rounded(self.value), "n": self.n, "interval": interval}

    def __str__(self) -> str:
        return f"{number(self.value)} {span(self.interval)}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactRow:
    """One outcome of one group. `units` are its calls or sessions, of which `missing` have no such outcome.

    `success` is the share of units all of whose calls were answered, `latency_s` their median, `cost_usd`
    their mean.
    """

    group: tuple[str, ...]
    name: str
    units: int
    outcome: Measured
    success: Measured
    latency_s: Measured
    cost_usd: Measured

    @property
    def missing(self) -> int:
        """The units whose outcome is unknown."""
        return self.units - self.outcome.n

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {
            "group": list(self.group),
            "name": self.name,
            "units": self.units,
            "missing": self.missing,
            "outcome": self.outcome.to_json(),
            "success": self.success.to_json(),
            "latency_s": self.latency_s.to_json(),
            "cost_usd": self.cost_usd.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact(Shown):
    """What answers did for their users, by group. `unmatched` events are of no call that was looked at."""

    on: On
    by: tuple[str, ...]
    level: float
    rows: tuple[ImpactRow, ...]
    unmatched: int = 0

    def to_frame(self) -> pl.DataFrame:
        """Return one row for each group and outcome, with the ends of each interval."""
        import polars as pl

        rows = []
        for row in self.rows:
            flat = {**dict(zip(self.by, row.group, strict=True)), "outcome": row.name, "units": row.units}
            flat["missing"] = row.missing
            for name in ("outcome", "success", "latency_s", "cost_usd"):
                measured: Measured = getattr(row, name)
                label, ends = ("value" if name == "outcome" else name), measured.interval
                flat |= {
                    label: measured.value,
                    f"{label}_low": ends and ends.low,
                    f"{label}_high": ends and ends.high,
                }
            rows.append(flat)
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_json(self) -> dict[str, Any]:
        """Return the impact as JSON."""
        rows = [row.to_json() for row in self.rows]
        facts = {"on": self.on, "by": list(self.by), "level": self.level}
        return {**facts, "unmatched": self.unmatched, "rows": rows}

    def card(self) -> Card:
        """Return the rows as a card, with how many outcomes are missing."""
        unit = "calls" if self.on == "trace_id" else "sessions"
        head = (*self.by, "outcome", "mean", unit, "missing", "success", "median s", "mean USD")
        rows = [
            (
                *row.group, row.name, str(row.outcome), str(row.units), str(row.missing), str(row.success),
                str(row.latency_s), str(row.cost_usd),
            )
            for row in self.rows
        ]  # fmt: skip
        notes = [f"intervals at {percent(self.level)}; a missing outcome counts neither way"]
        if self.unmatched:
            events = "1 event names" if self.unmatched == 1 else f"{self.unmatched} events name"
            notes.append(f"{events} none of these {unit}")
        return Card(title="what it did for its users", head=head, rows=rows, notes=notes)


def impact_of(
    calls: pl.LazyFrame,
    events: pl.DataFrame,
    *,
    on: On,
    by: Sequence[str] = ("use_case", "tenant", "prompt", "model"),
    outcomes: Sequence[str] | None = None,
    level: float = 0.95,
) -> Impact:
    """Return the impact of calls, joined with events by trace id or session.

    Raise ConfigError for events whose join is not unique or not meant: duplicate, missing or odd keys, a
    value that is not a number, a session of two tenants, a tenant that is not the call's.
    """
    names = _checked_arguments(on, by, level)
    chosen = _checked_events(events, on, outcomes)
    units = _units(calls, on).collect()
    keys = [on, *(name for name in _KEYS if name in events.columns)]
    _check_tenants(units, events, on, keys)
    events = events.select(*keys, *(_number(name).alias(_OUTCOME + name) for name in chosen))
    joined = units.join(events, on=keys, how="left", validate="m:1")
    unmatched = events.join(units, on=keys, how="anti").height
    rows = tuple(_rows(joined, names, chosen, level))
    return Impact(on=on, by=tuple(names), level=level, rows=rows, unmatched=unmatched)


def events_of(outcomes: pl.DataFrame, on: On) -> pl.DataFrame:
    """Return recorded outcomes as events: one row for each call or session, one column for each name.

    The feedback of several people on one call is their mean.
    """
    subject = outcomes.filter((outcomes["trace_id"] != "") == (on == "trace_id"))
    if subject.is_empty():
        raise ConfigError(
            f"no outcome of a {'call' if on == 'trace_id' else 'session'} is recorded",
            hint='ws.outcome(reply, "resolved", value=1.0), or ws.impact(frame, on="session")',
        )
    return subject.pivot("name", index=[on, *_KEYS], values="value", aggregate_function="mean")


def _checked_arguments(on: str, by: Sequence[str], level: float) -> list[str]:
    names = [by] if isinstance(by, str) else list(by)
    if on not in {"trace_id", "session"}:
        raise ConfigError(
            f"on={on!r} does not identify a call or a session", hint='on="trace_id" or on="session"'
        )
    for name in names:
        if name not in GROUPS or names.count(name) > 1:
            raise ConfigError(
                f"by={name!r} is unknown or named twice ({nearest(str(name), GROUPS)})",
                hint=f"one or more of {', '.join(GROUPS)}, each once",
            )
    if not names:
        raise ConfigError("by is empty", hint='by=["prompt"]')
    if not 0 < level < 1:
        raise ConfigError(f"level={level} is not between 0 and 1", hint="level=0.95")
    return names


def _checked_events(events: Any, on: str, outcomes: Sequence[str] | None) -> list[str]:
    """Return the names of the columns of outcomes; raise ConfigError for events that cannot be joined."""
    import polars as pl

    if not isinstance(events, pl.DataFrame):
        kind = f"{type(events).__module__}.{type(events).__name__}"
        rows = isinstance(events, list | dict)
        raise ConfigError(
            f"events are a polars DataFrame, not {kind}",
            hint="ws.impact(pl.DataFrame(events), …)" if rows else "ws.impact(pl.from_pandas(frame), …)",
        )
    keys = [name for name in (on, *_KEYS) if name in events.columns]
    if on not in keys:
        raise ConfigError(
            f"the events have no column {on!r} ({nearest(on, events.columns)})",
            hint=f'frame.rename({{"NAME": "{on}"}})',
        )
    for name in keys:
        if events.schema[name] != pl.String() or events[name].is_null().any() or (events[name] == "").any():
            raise ConfigError(
                f"the column {name!r} of the events is {events.schema[name]} or has empty values",
                hint=f'frame.drop_nulls("{name}").with_columns(pl.col("{name}").cast(pl.String))',
            )
    if repeated := int(events.select(keys).is_duplicated().sum()):
        raise ConfigError(
            f"{repeated} events share their {' and '.join(keys)} with another, which would count calls twice",
            hint=f'frame.group_by("{on}").agg(pl.col("VALUE").max())',
        )
    return _outcome_columns(events, keys, outcomes)


def _outcome_columns(events: pl.DataFrame, keys: list[str], outcomes: Sequence[str] | None) -> list[str]:
    kinds = {name: kind for name, kind in events.schema.items() if name not in keys}
    numeric = [name for name, kind in kinds.items() if kind.is_numeric() or str(kind) == "Boolean"]
    chosen = numeric if outcomes is None else [outcomes] if isinstance(outcomes, str) else list(outcomes)
    for name in chosen:
        if name not in numeric:
            raise ConfigError(
                f"the outcome {name!r} is not a column of numbers or of booleans ({nearest(name, numeric)})",
                hint=f'frame.with_columns(pl.col("{name}").cast(pl.Float64))',
            )
        if not events[name].cast(float).drop_nulls().is_between(-MOST_VALUE, MOST_VALUE).all():
            raise ConfigError(
                f"the outcome {name!r} has values that are not finite, or beyond {MOST_VALUE:g}",
                hint=f'frame.with_columns(pl.col("{name}").fill_nan(None)): null says that it is missing',
            )
    if not chosen:
        raise ConfigError(
            "the events have no column of numbers or of booleans",
            hint=f"add one beside {', '.join(keys)}, for example resolved",
        )
    return chosen


def _check_tenants(units: pl.DataFrame, events: pl.DataFrame, on: str, keys: list[str]) -> None:
    """Raise ConfigError when a key is of two tenants, or when events name another tenant than its call."""
    import polars as pl

    if "tenant" not in keys or "use_case" not in keys:
        named = units.join(events.select(keys), on=keys, how="semi")
        several = named.group_by(on).agg(pl.struct(_KEYS).n_unique().alias("n")).filter(pl.col("n") > 1)
        if on == "session" and several.height:
            raise ConfigError(
                f"{several.height} sessions of the events are of several tenants or use cases",
                hint="add columns tenant and use_case to the events",
            )
    if len(keys) > 1 and on == "trace_id":
        known = events.select(keys).join(units.select(on), on=on, how="semi")
        if other := known.join(units.select(keys), on=keys, how="anti").height:
            raise ConfigError(
                f"{other} events name another {' or '.join(keys[1:])} than their call has",
                hint="correct these columns, or leave them out",
            )


def _number(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name).cast(pl.Float64)


def _units(calls: pl.LazyFrame, on: On) -> pl.LazyFrame:
    """Return one row for each answer, or for each session with all its answers."""
    import polars as pl

    replayed = pl.col("replayed").fill_null(value=False)
    latency = pl.when(replayed).then(pl.col("recorded_latency_s")).otherwise(pl.col("duration_s"))
    groups = [name for name in GROUPS if name not in _KEYS]
    answers = calls.filter(
        pl.col("operation").is_in(["chat", "respond"]), pl.col(on).is_not_null(), pl.col(on) != ""
    ).select(
        on,
        *(pl.col(name).fill_null("") for name in GROUPS),
        (pl.col("outcome") == "ok").alias("ok"),
        latency.alias("latency_s"),
        pl.when(replayed).then(0.0).otherwise(pl.col("cost_usd")).alias("cost_usd"),
    )
    if on == "trace_id":
        return answers
    known = pl.col("cost_usd").is_not_null().all()
    return answers.group_by(on, *_KEYS).agg(
        *(pl.col(name).unique().sort().str.join(" + ") for name in groups),
        pl.col("ok").all(),
        pl.col("latency_s").sum(),
        pl.when(known).then(pl.col("cost_usd").sum()).alias("cost_usd"),
    )


def _rows(joined: pl.DataFrame, names: list[str], chosen: list[str], level: float) -> Iterator[ImpactRow]:
    for group, part in sorted(joined.partition_by(names, as_dict=True).items()):
        measured = {
            "success": _success(part, level),
            "latency_s": _latency(part, level),
            "cost_usd": _mean(part, "cost_usd", level),
        }
        for name in chosen:
            yield ImpactRow(
                group=tuple(map(str, group)),
                name=name,
                units=part.height,
                outcome=_outcome(part, _OUTCOME + name, level),
                **measured,
            )


def _success(part: pl.DataFrame, level: float) -> Measured:
    count = int(part["ok"].sum())
    interval = proportion_interval(count, part.height, level=level)
    return Measured(value=count / part.height, n=part.height, interval=interval)


def _latency(part: pl.DataFrame, level: float) -> Measured:
    values = part["latency_s"].drop_nulls().sort().to_numpy()
    if not len(values):
        return Measured(value=None, n=0, interval=None)
    interval = quantile_interval(values, 0.5, level=level)
    return Measured(value=quantile(values, 0.5), n=len(values), interval=interval)


def _mean(part: pl.DataFrame, name: str, level: float) -> Measured:
    values = part[name].drop_nulls().sort().to_numpy()
    if not len(values):
        return Measured(value=None, n=0, interval=None)
    return Measured(
        value=math.fsum(values) / len(values), n=len(values), interval=mean_interval(values, level=level)
    )


def _outcome(part: pl.DataFrame, name: str, level: float) -> Measured:
    values = part[name].drop_nulls().sort().to_numpy()
    if not len(values):
        return Measured(value=None, n=0, interval=None)
    return Measured(
        value=math.fsum(values) / len(values), n=len(values), interval=score_interval(values, level=level)
    )
