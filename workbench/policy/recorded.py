"""Read the decisions in the record of calls, and those on verbs that are no calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from workbench.layout import CALLS
from workbench.policy.authorise import DECISIONS
from workbench.records.calls import Chosen, find_calls, intact, scan_calls
from workbench.records.log import read_records

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDecision:
    """A decision as it was recorded: the request as JSON, what was decided, and how many calls had it.

    `at` and `trace_id` are those of the last call. `observed` is a denial that was not enforced.
    """

    id: str
    action: str
    allowed: bool
    policies: tuple[str, ...]
    policy_set: str
    request: Any
    calls: int = 1
    at: str = ""
    trace_id: str = ""
    observed: bool = False


def recorded_decisions(home: Path, chosen: Chosen = Chosen.ALL) -> Iterator[RecordedDecision]:
    """Yield the different decisions on the chosen calls and verbs, sorted by id.

    One request under one set has one decision, however many calls it had: the record is read lazily, and
    only the different ones are held.
    """
    import polars as pl

    with intact(home / CALLS):
        found = _grouped(scan_calls(home / CALLS, chosen)).collect(engine="streaming")
    parts = [found, _grouped(_acts(home, chosen)).collect()]
    for row in pl.concat(parts).sort("id", "allowed").iter_rows(named=True):
        yield _decision(row)


def find_decisions(home: Path, name: str, chosen: Chosen = Chosen.ALL) -> list[RecordedDecision]:
    """Return the chosen decisions with an id, or that of the call with a trace id."""
    import polars as pl

    is_id = len(name) == 16
    with intact(home / CALLS):
        calls = scan_calls(home / CALLS, chosen) if is_id else find_calls(home / CALLS, name, chosen).lazy()
        frames = [calls, _acts(home, chosen)] if is_id else [calls]
        wanted = pl.col("decision").struct.field("id") == name if is_id else pl.lit(value=True)
        found = pl.concat([_grouped(frame.filter(wanted)).collect() for frame in frames])
    return [_decision(row) for row in found.iter_rows(named=True)]


def _grouped(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row for each decision of a frame of calls."""
    import polars as pl

    decision = pl.col("decision").struct
    return (
        frame.filter(pl.col("policy_request").is_not_null() & decision.field("id").is_not_null())
        .select(
            decision.field("id").alias("id"),
            decision.field("allowed").alias("allowed"),
            decision.field("action").alias("action"),
            decision.field("policies").alias("policies"),
            decision.field("policy_set").alias("policy_set"),
            decision.field("observed").fill_null(value=False).alias("observed"),
            "policy_request",
            "trace_id",
            "at",
        )
        .group_by("id", "allowed", "observed")
        .agg(
            pl.col("action", "policies", "policy_set", "policy_request").first(),
            pl.col("trace_id", "at").last(),
            pl.len().alias("calls"),
        )
    )


def _acts(home: Path, chosen: Chosen) -> pl.LazyFrame:
    """Return the decisions on verbs that are no calls, in the columns of calls."""
    from workbench.records.columns import frame_of_lines

    lines = b"\n".join(orjson.dumps(line) for line in read_records(home / DECISIONS))
    return chosen.of(frame_of_lines(lines)[0].lazy())


def _decision(row: dict[str, Any]) -> RecordedDecision:
    return RecordedDecision(
        id=row["id"],
        action=row["action"] or "",
        allowed=bool(row["allowed"]),
        policies=tuple(row["policies"] or ()),
        policy_set=row["policy_set"] or "",
        request=_parsed(row["policy_request"]),
        calls=row["calls"],
        at=row["at"].isoformat(timespec="seconds") if row["at"] else "",
        trace_id=row["trace_id"] or "",
        observed=bool(row["observed"]),
    )


def _parsed(text: str) -> Any:
    """Return a recorded request as JSON; an empty mapping, which is no request, for a text that is none."""
    try:
        found = orjson.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
