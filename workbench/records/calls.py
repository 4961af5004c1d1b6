"""Read the record of calls as polars frames: the newest calls, one trace, or lazily all of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import orjson

from workbench import files
from workbench.errors import CorruptError, UnavailableError
from workbench.records import traces
from workbench.records.columns import OBJECTS, columns, frame_of_lines
from workbench.records.segments import Segments, compact, segments
from workbench.types import JSON

if TYPE_CHECKING:
    import polars as pl

#: Parquet files that are read at once, from the newest to the oldest, until there are enough calls.
_AT_ONCE = 8
#: What can be a trace id: a line of the log is searched for it.
_TRACE = re.compile(r"[!-~]{1,128}")

_TRACE_IN_LINE = re.compile(rb'"trace_id":"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which calls are read.

    `tenants` are pairs of use case and tenant; None stands for all. Calls of the use cases `hidden` are left
    out. `since` is the earliest time of a call's beginning, and `run` the only run whose calls are read.
    """

    ALL: ClassVar[Chosen]
    tenants: frozenset[tuple[str, str]] | None = None
    hidden: frozenset[str] = frozenset()
    tenant: str | None = None
    session: str | None = None
    since: dt.datetime | None = None
    run: str | None = None

    def of(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the chosen rows of a frame of calls."""
        import polars as pl

        rules = []
        if self.tenants is not None:
            pairs = [
                (pl.col("use_case") == case) & (pl.col("tenant") == tenant)
                for case, tenant in sorted(self.tenants)
            ]
            rules.append(pl.any_horizontal(pl.lit(value=False), *pairs))
        if self.hidden:
            rules.append(~pl.col("use_case").is_in(sorted(self.hidden)))
        if self.tenant is not None:
            rules.append(pl.col("tenant") == self.tenant)
        if self.run is not None:
            rules.append(pl.col("run") == self.run)
        if self.session is not None:
            rules.append(pl.col("session") == self.session)
        if self.since is not None:
            rules.append(pl.col("at") >= self.since)
        return frame.filter(*rules) if rules else frame

    def files(self, found: Segments) -> tuple[Path, ...]:
        """Return the Parquet files that may hold chosen calls: a file's name begins with its day."""
        first = "" if self.since is None else self.since.astimezone(dt.UTC).date().isoformat()
        return tuple(path for path in found.parquet if path.name[:10] >= first)


Chosen.ALL = Chosen()


def scan_calls(path: Path, chosen: Chosen = Chosen.ALL) -> pl.LazyFrame:
    """Return a lazy frame of the chosen calls, oldest first; of an empty log with the same columns.

    Collect it before `workbench calls purge` removes files that it reads.
    """
    import polars as pl

    found = _segments(path)
    parts = [_scan(chosen.files(found))] if chosen.files(found) else []
    return chosen.of(pl.concat([*parts, _newest(found).lazy()]))


def read_calls(path: Path, chosen: Chosen = Chosen.ALL, *, limit: int | None = None) -> pl.DataFrame:
    """Return the newest `limit` of the chosen calls, or all, oldest first, one row each.

    A value that does not fit its column, such as a count of tokens that is a text, is null. When older calls
    are left out, a warning says so.
    """
    if limit is None:
        with intact(path):
            return scan_calls(path, chosen).collect()
    frame, more = newest_calls(path, chosen, limit=limit)
    if more:
        warnings.warn(
            f"these are the newest {limit:,} calls, and there are older ones; ws.calls(since=…), "
            "ws.calls(limit=…) and ws.calls(lazy=True) reach them",
            stacklevel=3,
        )
    return frame


def newest_calls(path: Path, chosen: Chosen = Chosen.ALL, *, limit: int) -> tuple[pl.DataFrame, bool]:
    """Return the newest `limit` of the chosen calls, oldest first, and whether there are more."""
    import polars as pl

    parts: list[pl.DataFrame] = []
    with intact(path):
        for part in _from_the_newest(_segments(path), chosen):
            parts.insert(0, part)
            if sum(map(len, parts)) > limit:
                break
    frame = pl.concat(parts)
    return frame.tail(limit), frame.height > limit


def find_calls(path: Path, trace: str, chosen: Chosen = Chosen.ALL) -> pl.DataFrame:
    """Return the chosen calls with a trace id; the index of each segment is asked, and no other is read.

    A text that cannot be a trace id has no calls.
    """
    import polars as pl

    if not _TRACE.fullmatch(trace):
        return frame_of_lines(b"")[0]
    found = _segments(path)
    parts = [rows for parquet in found.parquet for rows in _rows(parquet, trace)]
    lines = [line for data in found.lines for line in _lines_with(data, trace)]
    frame = pl.concat([*parts, frame_of_lines(b"\n".join(lines))[0].lazy()])
    with intact(path):
        return chosen.of(frame.filter(pl.col("trace_id") == trace)).collect()


def find_call(path: Path, trace: str, chosen: Chosen = Chosen.ALL) -> JSON | None:
    """Return the record of the chosen call with a trace id, as it was written, or None."""
    found = find_calls(path, trace, chosen)
    if found.is_empty():
        return None
    row = found.row(-1, named=True)
    at = row["at"] and row["at"].isoformat(timespec="microseconds")
    return {**row, "at": at, **{name: orjson.loads(row[name] or "null") for name in OBJECTS}}


def stored_records(path: Path, traces: Mapping[str, str]) -> dict[str, JSON]:
    """Return the records with these trace ids, each given with the day of its call, by their trace ids.

    Unlike `find_call` it asks for many ids at once, and loads polars only for what is compacted.
    """
    found, records = segments(path), dict[str, JSON]()
    for data in found.lines:
        for match in _TRACE_IN_LINE.finditer(data) if traces else ():
            if (trace := match[1].decode()) in traces:
                begin, end = data.rfind(b"\n", 0, match.start()) + 1, data.find(b"\n", match.end())
                with contextlib.suppress(orjson.JSONDecodeError):
                    record = orjson.loads(data[begin : end if end >= 0 else len(data)])
                    if record.get("trace_id") == trace:
                        records[trace] = record
    for trace, day in traces.items():
        of_day = [parquet for parquet in found.parquet if parquet.name[:10] == day]
        may_be = trace not in records and any(_rows(parquet, trace) for parquet in of_day)
        if may_be and (record := find_call(path, trace)) is not None:
            records[trace] = record
    return records


@contextlib.contextmanager
def intact(path: Path) -> Iterator[None]:
    """Name the damaged Parquet file of a log when polars cannot read one inside the block.

    Raise CorruptError, or UnavailableError when calls were purged while they were read.
    """
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for parquet in segments(path).parquet:
            _check(parquet)
        if not isinstance(error, FileNotFoundError):
            raise
        hint = "read them again; `workbench calls purge` removes files"
        raise UnavailableError("calls were removed while they were read", hint=hint) from None


def _check(parquet: Path) -> None:
    """Raise CorruptError unless a Parquet file can be read."""
    import polars as pl

    try:
        _scan((parquet,)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorruptError(
            f"{parquet} is damaged: {files.shortened(str(error))}",
            hint=f"restore it, or go on without its calls: mv {shlex.quote(str(parquet))} /tmp/",
        ) from None


def _segments(path: Path) -> Segments:
    """Compact what is closed, as far as the folder can be written, and return what the log holds."""
    with contextlib.suppress(UnavailableError):
        compact(path)
    return segments(path)


def _newest(found: Segments) -> pl.DataFrame:
    """Return the calls that are not compacted yet."""
    import polars as pl

    return pl.concat([frame_of_lines(b"")[0], *(frame_of_lines(data)[0] for data in found.lines)])


def _from_the_newest(found: Segments, chosen: Chosen) -> Iterator[pl.DataFrame]:
    """Yield the chosen calls in parts, the newest part first."""
    yield chosen.of(_newest(found).lazy()).collect()
    paths = chosen.files(found)
    for end in range(len(paths), 0, -_AT_ONCE):
        yield chosen.of(_scan(paths[max(0, end - _AT_ONCE) : end])).collect()


def _scan(paths: tuple[Path, ...]) -> pl.LazyFrame:
    """Return a lazy frame of Parquet files, also of former and later versions with other columns."""
    import polars as pl

    kinds = columns()
    options = pl.ScanCastOptions(missing_struct_fields="insert", extra_struct_fields="ignore")
    return pl.scan_parquet(
        list(paths), schema=kinds, missing_columns="insert", extra_columns="ignore", cast_options=options,
        glob=False,
    )  # fmt: skip


def _rows(parquet: Path, trace: str) -> list[pl.LazyFrame]:
    """Return the few rows of a Parquet file that may have a trace id; all of them without an index."""
    try:
        rows = traces.rows_of(parquet.with_suffix(".traces"), trace)
    except OSError:
        return [_scan((parquet,))]
    return [_scan((parquet,)).slice(row, 1) for row in rows]


def _lines_with(data: bytes, trace: str) -> Iterator[bytes]:
    """Yield the lines that contain a trace id, which is content of no other column but `parent`."""
    wanted, start = trace.encode(), 0  # not empty and without a newline
    while (at := data.find(wanted, start)) >= 0:
        begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[begin:end]
        start = end
