"""Read the call log as a polars frame, and explain an answer by its call."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from workbench.display import Card, Shown
from workbench.errors import NotFoundError
from workbench.records.log import read_records
from workbench.types import JSON, Reply

if TYPE_CHECKING:
    import polars as pl


def read_calls(path: Path) -> pl.DataFrame:
    """Return one row per call, oldest first; an empty log has the same columns.

    `cost_usd` is the price of the answer in US dollars; only rows that are not `replayed` were paid. A value
    that does not fit its column, such as a count of tokens that is a text, is null.
    """
    import polars as pl

    schema = _columns()
    rows = []
    for record in read_records(path):
        row = {name: record.get(name) for name in schema}
        row["at"] = _time(row["at"])
        row["labels"] = orjson.dumps(row["labels"], option=orjson.OPT_SORT_KEYS).decode()
        rows.append(row)
    try:
        return pl.DataFrame(rows, schema=schema, orient="row")
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return pl.DataFrame(
            [_column(name, [row[name] for row in rows], kind) for name, kind in schema.items()]
        )


def _column(name: str, values: list[Any], kind: Any) -> pl.Series:
    """Return a column of `values`; one that does not fit is null."""
    import polars as pl

    def fitted(value: Any) -> Any:
        with contextlib.suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            pl.Series([value], dtype=kind)
            return value
        return None

    return pl.Series(name, map(fitted, values), dtype=kind)


def _time(value: Any) -> dt.datetime | None:
    """Return an ISO time in UTC; None for another value."""
    try:
        return dt.datetime.fromisoformat(value).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _columns() -> dict[str, Any]:
    import polars as pl

    text, number, count = pl.String(), pl.Float64(), pl.Int64()
    hit = pl.Struct({"id": text, "source": text, "tenant": text, "score": number})
    attempt = pl.Struct(
        {
            "n": count, "started_s": number, "duration_s": number, "waited_s": number,
            "outcome": text, "error": text,
        }
    )  # fmt: skip
    return {
        "trace_id": text, "parent": text, "at": pl.Datetime("us", "UTC"), "use_case": text,
        "tenant": text, "principal": text, "assurance": text, "purpose": text, "port": text,
        "operation": text, "target": text, "outcome": text, "error": text, "status": count,
        "duration_s": number, "first_event_s": number, "streamed": pl.Boolean(), "events": count,
        "input_tokens": count, "output_tokens": count, "cached_tokens": count, "cost_usd": number,
        "replayed": pl.Boolean(), "source": text, "recorded_latency_s": number, "key": text,
        "repaired": pl.Boolean(), "degraded": pl.Boolean(), "fallback": text,
        "fallback_reason": text, "labels": text, "hits": pl.List(hit),
        "attempts": pl.List(attempt),
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Shown):
    """The origin of an answer. `record` is the call's record in the log."""

    reply: Reply = field(repr=False)
    record: JSON

    def rows(self) -> list[tuple[str, str]]:
        """Return the facts of the call as pairs of name and value."""
        record, reply = self.record, self.reply
        usage = f"{record.get('input_tokens')} in, {record.get('output_tokens')} out"
        source = {"tape": "replayed from the tape", "cache": "replayed from the cache"}
        cost = "unknown" if record["cost_usd"] is None else f"{record['cost_usd']:.6f} USD"
        passages = [
            f"{hit.source} v{hit.version} ({hit.score:.4f}, as of {hit.as_of})" for hit in reply.passages
        ]
        return [
            ("answer", reply.text.strip()),
            ("prompt", reply.prompt or "none"),
            ("passages", "; ".join(passages) or "none"),
            ("model", _model(record)),
            ("asked for", f"{record['use_case']}, tenant {record['tenant']}, {record['purpose']}"),
            ("asked by", f"{record['principal']} ({record['assurance']})"),
            ("came from", source.get(str(record["source"]), "asked now")),
            ("tokens", usage),
            ("cost", cost),
            ("attempts", str(len(record["attempts"]) or "none: replayed")),
            ("trace", str(record["trace_id"])),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:>10}  {value}" for name, value in self.rows())

    def card(self) -> Card:
        """Return the rows as a card."""
        return Card(title=f"call {self.reply.trace_id}", head=("", ""), rows=self.rows())


def _model(record: JSON) -> str:
    """Return the model that was asked, and the one that answered in its place."""
    if not record.get("fallback"):
        return str(record["target"])
    return f"{record['fallback']}, in place of {record['target']}: {record['fallback_reason']}"


def explain(path: Path, reply: Reply) -> Explanation:
    """Return the explanation of a reply; raise NotFoundError if its call is not in the log."""
    for record in reversed(read_records(path)):
        if record.get("trace_id") == reply.trace_id:
            return Explanation(reply=reply, record=record)
    raise NotFoundError(
        f"no call with trace {reply.trace_id or '(none)'} is in {path}",
        hint="call why() in the repository that made the call",
    )
