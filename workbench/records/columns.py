"""The columns of the record of calls, and the frame of a segment's lines."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    import polars as pl

    #: A frame, and the lines that do not fit it: values of another type, and what is no JSON object.
    Parsed = tuple[pl.DataFrame, list[bytes]]

#: Columns of objects whose fields differ from call to call: a frame holds their JSON as text.
OBJECTS: Final = ("labels", "policy_request")
#: The one text of a line that always has escapes, and that no other reader needs.
_REQUEST: Final = re.compile(rb'"policy_request":"(?:[^"\\]|\\.)*+"')


def columns() -> dict[str, Any]:
    """Return the columns of a call's record and their polars types."""
    import polars as pl

    text, number, count, flag = pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()
    hit = pl.Struct({"id": text, "source": text, "tenant": text, "score": number})
    attempt = pl.Struct(
        {
            "n": count, "started_s": number, "duration_s": number, "waited_s": number, "outcome": text,
            "error": text, "candidate": text, "queued_s": number, "input_tokens": count,
            "output_tokens": count, "cost_usd": number, "reserved_usd": number,
        }
    )  # fmt: skip
    decision = pl.Struct(
        {
            "id": text, "allowed": flag, "action": text, "policies": pl.List(text), "policy_set": text,
            "observed": flag,
        }
    )  # fmt: skip
    privacy = pl.Struct({"destination": text, "restored": count, "invented": count, "altered": count})
    finding = pl.Struct({"kind": text, "count": count})
    check = pl.Struct({"check": text, "direction": text, "action": text, "score": number})
    return {
        "trace_id": text, "parent": text, "session": text, "at": pl.Datetime("us", "UTC"), "use_case": text,
        "tenant": text, "principal": text, "assurance": text, "api_key": text, "purpose": text, "job": text,
        "run": text,
        "port": text, "operation": text, "target": text, "model": text, "prompt": text, "outcome": text,
        "error": text, "status": count, "duration_s": number, "first_event_s": number, "streamed": flag,
        "events": count, "input_tokens": count, "output_tokens": count, "cached_tokens": count,
        "reasoning_tokens": count, "cost_usd": number, "saved_usd": number, "price_source": text,
        "replayed": flag, "source": text, "recorded_latency_s": number, "key": text, "repaired": flag,
        "degraded": flag, "fallback": text, "fallback_reason": text, "would_refuse": pl.List(text),
        "labels": text, "hits": pl.List(hit), "attempts": pl.List(attempt), "decision": decision,
        "policy_request": text, "data_class": text, "findings": pl.List(finding), "privacy": privacy,
        "checks": pl.List(check), "content": text,
    }  # fmt: skip


def frame_of_lines(data: bytes) -> Parsed:
    """Return the frame of a segment's bytes, one row for each record, in the order of the lines.

    A value that does not fit its column, such as a count of tokens that is a text, is null in the frame.
    """
    import polars as pl

    kinds = columns()
    if not data.strip():
        return pl.DataFrame(schema=kinds), []
    with contextlib.suppress(pl.exceptions.PolarsError):
        return (_read_apart(data, kinds) if _is_escaped(data) else _read(data, kinds)), []
    return _frame_of_odd(data, kinds)


def _is_escaped(data: bytes) -> bool:
    """Return whether polars' JSON of a list or an object loses characters, or a text looks like one.

    It writes a text with backslashes or control characters without their escapes.
    """
    rest = _REQUEST.sub(b"", data) if b"\\" in data else data
    return b"\\" in rest or b'"[' in rest or b'"{' in rest


def _read_apart(data: bytes, kinds: dict[str, Any]) -> pl.DataFrame:
    """Return the frame of lines of which some have escapes, which are read by another reader."""
    import polars as pl

    lines = [line for line in data.split(b"\n") if line.strip()]
    apart = [n for n, line in enumerate(lines) if _is_escaped(line)]
    marked = set(apart)
    plain = [n for n in range(len(lines)) if n not in marked]
    frame, odd = _frame_of_odd(b"\n".join(lines[n] for n in apart), kinds)
    if odd or frame.height != len(apart):
        raise pl.exceptions.ComputeError("some lines do not fit")
    if plain:
        frame = pl.concat([frame, _read(b"\n".join(lines[n] for n in plain), kinds)])
    order = pl.Series(apart + plain, dtype=pl.Int64()).arg_sort()
    return frame[order]


def _read(data: bytes, kinds: dict[str, Any]) -> pl.DataFrame:
    """Return the frame of lines that all fit, or raise polars' error.

    Lists and objects are read as their JSON and decoded as columns, which is five times as fast.
    """
    import polars as pl

    nests = [name for name, kind in kinds.items() if isinstance(kind, pl.List | pl.Struct)]
    texts = [name for name, kind in kinds.items() if kind == pl.String() and name not in OBJECTS]
    read = pl.read_ndjson(io.BytesIO(data), schema={**kinds, **dict.fromkeys([*nests, "at"], pl.String())})
    objects = [
        pl.Series(name, [text and _compact(text) for text in read[name]], dtype=pl.String())
        for name in OBJECTS
    ]
    # polars reads a list or an object into a column of texts as its JSON.
    nested = {name: pl.col(name).str.starts_with("[") | pl.col(name).str.starts_with("{") for name in texts}
    return read.with_columns(
        *(pl.when(~wrong).then(pl.col(name)).alias(name) for name, wrong in nested.items()),
        *(pl.col(name).str.json_decode(kinds[name]) for name in nests),
        pl.col("at").str.to_datetime(time_zone="UTC", time_unit="us"),
        *objects,
    ).with_columns(pl.col("labels").fill_null("null"))


def _compact(text: str) -> str:
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return "null"


def _frame_of_odd(data: bytes, kinds: dict[str, Any]) -> Parsed:
    """Return the frame of lines of which some do not fit, value by value, and these lines."""
    import polars as pl

    lines = [line for line in data.split(b"\n") if line.strip()]
    read = [_row(line, kinds) for line in lines]
    rows = [row for row in read if row is not None]
    if len(rows) == len(lines) and all(row["at"] is not None for row in rows):
        with contextlib.suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            made = [pl.Series(name, [row[name] for row in rows], dtype=kind) for name, kind in kinds.items()]
            return pl.DataFrame(made), []
    odd = [line for line, row in zip(lines, read, strict=True) if row is None or not _fits(row, kinds)]
    series = [_column(name, [row[name] for row in rows], kind) for name, kind in kinds.items()]
    return pl.DataFrame(series), odd


def _row(line: bytes, kinds: dict[str, Any]) -> dict[str, Any] | None:
    """Return the values of a line by column; None for a line that is no JSON object."""
    with contextlib.suppress(orjson.JSONDecodeError):
        record = orjson.loads(line)
        if isinstance(record, dict):
            row = {name: record.get(name) for name in kinds}
            row["at"] = _time(row["at"])
            for name in OBJECTS:
                if name != "labels" and isinstance(text := row[name], str):
                    row[name] = _compact(text)
                elif name == "labels" or row[name] is not None:
                    row[name] = orjson.dumps(row[name], option=orjson.OPT_SORT_KEYS).decode()
            return row
    return None


def _fits(row: dict[str, Any], kinds: dict[str, Any]) -> bool:
    return row["at"] is not None and all(
        _fitted(row[name], kind) is row[name] for name, kind in kinds.items()
    )


def _column(name: str, values: list[Any], kind: Any) -> pl.Series:
    """Return a column of `values`; one that does not fit is null."""
    import polars as pl

    with contextlib.suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return pl.Series(name, values, dtype=kind)
    return pl.Series(name, [_fitted(value, kind) for value in values], dtype=kind)


def _fitted(value: Any, kind: Any) -> Any:
    """Return `value`, or None when a column of this type cannot hold it."""
    import polars as pl

    with contextlib.suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        pl.Series([value], dtype=kind)
        return value
    return None


def _time(value: Any) -> dt.datetime | None:
    """Return an ISO time in UTC; None for another value."""
    try:
        return dt.datetime.fromisoformat(value).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        return None
