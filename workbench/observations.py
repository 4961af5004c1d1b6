"""The record of what happened: JSON lines that are only ever appended to, and the frame over them."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import threading
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from workbench.errors import NotFoundError
from workbench.files import unwritable
from workbench.types import JSON, Reply

if TYPE_CHECKING:
    import polars as pl


class Lines:
    """An append-only file of JSON lines: a record is there whole or not at all.

    Safe across threads and processes. One write per record, under a lock that only writers take,
    so that a line somebody was killed in is ended before the next one starts and a record that
    does not fit on the disk is taken back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def open(self) -> int:
        """The file's descriptor, opened or created when needed; `UnavailableError` if it cannot be."""
        if self._fd is not None and self._pid == os.getpid() and os.fstat(self._fd).st_nlink:
            return self._fd
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise unwritable(self.path, error) from error
        if self._fd is not None and self._pid == os.getpid():
            os.close(self._fd)
        self._fd, self._pid = fd, os.getpid()
        return fd

    def append(self, line: bytes) -> int:
        """Add one line, given without its end; returns the offset where it starts."""
        with self._lock:
            fd = self.open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                try:
                    return _append(fd, line)
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            except OSError as error:
                raise unwritable(self.path, error) from error

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start`, to the end of the file unless told how many."""
        fd = self.open()
        wanted = os.fstat(fd).st_size - start if length is None else length
        parts = []
        while wanted > 0 and (part := os.pread(fd, min(wanted, 1 << 26), start)):
            parts.append(part)
            start += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def size(self) -> int:
        """Bytes in the file now, by whichever process they were written."""
        return os.fstat(self.open()).st_size


def _append(fd: int, line: bytes) -> int:
    end = os.fstat(fd).st_size
    torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
    record = (b"\n" if torn else b"") + line + b"\n"
    written = 0
    try:
        while written < len(record):
            written += os.write(fd, record[written:])
    except OSError:
        os.ftruncate(fd, end)
        raise
    return end + torn


def read_records(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a log, oldest first, and how many lines were torn: their writer was killed."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    records, torn = [], 0
    for line in filter(None, lines):
        try:
            records.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            torn += 1
    return records, torn


def read_calls(path: Path) -> pl.DataFrame:
    """One row per call, oldest first; the columns are the same when there is none.

    `cost_usd` is what the answer costs when asked for; what was spent is where not `replayed`.
    """
    import polars as pl

    schema = _columns()
    rows = []
    for record in read_records(path)[0]:
        row = {name: record.get(name) for name in schema}
        row["at"] = dt.datetime.fromisoformat(record["at"])
        row["labels"] = orjson.dumps(record["labels"], option=orjson.OPT_SORT_KEYS).decode()
        rows.append(row)
    return pl.DataFrame(rows, schema=schema, orient="row")


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
        "repaired": pl.Boolean(), "degraded": pl.Boolean(), "labels": text, "hits": pl.List(hit),
        "attempts": pl.List(attempt),
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What stands behind one answer. `record` is the boundary's own record of the call."""

    reply: Reply = field(repr=False)
    record: JSON

    def rows(self) -> list[tuple[str, str]]:
        """What a reader asks first, as name and value."""
        record, reply = self.record, self.reply
        usage = f"{record['input_tokens']} in, {record['output_tokens']} out"
        source = {"tape": "replayed from the tape", "cache": "replayed from the cache"}
        cost = "unknown" if record["cost_usd"] is None else f"{record['cost_usd']:.6f} USD"
        passages = [
            f"{hit.source} v{hit.version} ({hit.score:.4f}, as of {hit.as_of})" for hit in reply.passages
        ]
        return [
            ("answer", reply.text.strip()),
            ("prompt", reply.prompt or "none"),
            ("passages", "; ".join(passages) or "none"),
            ("model", str(record["target"])),
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

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.rows()
        )
        return f"<table>{cells}</table>"


def explain(path: Path, reply: Reply) -> Explanation:
    """The explanation of a reply whose call is in the log; NotFoundError when it is not."""
    for record in reversed(read_records(path)[0]):
        if record.get("trace_id") == reply.trace_id:
            return Explanation(reply=reply, record=record)
    raise NotFoundError(
        f"no call with trace {reply.trace_id or '(none)'} is in {path}",
        hint="a reply is explained in the repository in which it was asked for",
    )
