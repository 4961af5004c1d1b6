"""The log of calls in segments: one that all writers append to, and closed ones, compacted to Parquet by day.

`calls.jsonl` is the open segment, in the place and form of former versions, which still append to it when a
promoted job runs. The folder `calls` beside it holds the closed ones:

    STAMP-ID.jsonl                 closed and not compacted yet
    DAY.STAMP-ID.N.parquet         a day's records of a compacted segment, in its order
    DAY.STAMP-ID.N.traces          the index of its trace ids (traces.py)
    STAMP-ID.odd                   the lines of a segment that did not fit the columns

While STAMP-ID.jsonl exists, the Parquet files of the same name do not count: its removal commits them, so
that a kill at any moment neither loses nor doubles a record. Readers list the folder, and writers rename and
remove in it, under the lock `.listing`; one process at a time compacts, under `.compacting`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import io
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import files, locking, processes
from workbench.errors import UnavailableError
from workbench.records import traces
from workbench.records.columns import frame_of_lines
from workbench.records.in_flight import CallsInFlight
from workbench.records.log import Lines

if TYPE_CHECKING:
    import polars as pl

#: The size at which a segment ends: about 15,000 calls, which are read in less than half a second.
SEGMENT_BYTES: Final = 16 << 20
_ROW_GROUP = 8_192
#: Seconds between two looks whether the open segment is still there, before calls.
_LOOK_S: Final = 1.0
_DAY = re.compile(rb'"at":"(\d{4}-\d\d-\d\d)')


def folder_of(path: Path) -> Path:
    """Return the folder of the closed segments of a log."""
    return path.with_suffix("")


class CallLog:
    """Appends records to the open segment of a log and closes it at its size and at the end of its day.

    The days are those of the records. A closed segment is compacted in a thread. A failure to close or to
    compact fails no call: a later writer or reader does it. `in_flight` holds the calls whose records are not
    written yet.
    """

    def __init__(
        self, path: Path, *, segment_bytes: int = SEGMENT_BYTES, in_flight: CallsInFlight | None = None
    ) -> None:
        self.path, self.in_flight = path, in_flight
        self._most = segment_bytes
        self._lines = Lines(path)
        self._day = b""
        self._look_at = 0.0

    def open(self) -> None:
        """Open the open segment; raise UnavailableError when it cannot be opened."""
        now = time.monotonic()
        if now < self._look_at and self._lines.is_open:
            return  # a call looked a moment ago, and each record looks again
        self._lines.open()
        self._look_at = now + _LOOK_S

    def append(self, line: bytes) -> int:
        """Append a record, passed without its newline, and return its offset in its segment."""
        offset = self._lines.append(line)
        day = _day_of(line)
        if offset + len(line) >= self._most or day > self._day:
            self._end_segment(day)
        return offset

    def close(self, *, before: bytes = b"", now: bool = False) -> bool:
        """Close the open segment when it is full, of a day before `before`, or `now`; return whether it was.

        Unless `now`, the segment stays open while a reader lists the folder.
        """
        folder = folder_of(self.path)
        with files.writing(folder):
            files.make_folder(folder)
            descriptor = os.open(folder / ".listing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not locking.acquire(descriptor, wait=now):
                return False
            with self._lines.writing():
                size, self._day = self._lines.size(), _day_of(self._lines.read(0, 4096)) or before
                if not (now and size) and size < self._most and self._day >= before:
                    return False
                stamp = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H%M%S%f")
                with files.writing(self.path):
                    self.path.rename(folder / f"{stamp}-{secrets.token_hex(4)}.jsonl")
                return True
        finally:
            locking.release(descriptor)  # a process that another thread forked meanwhile has a copy of it
            os.close(descriptor)

    def _end_segment(self, day: bytes) -> None:
        # RuntimeError: no thread can begin while the interpreter ends.
        with contextlib.suppress(OSError, UnavailableError, RuntimeError):
            if self.close(before=day):
                self._day = b""  # that of the next segment is not known yet
                threading.Thread(target=_compact_quietly, args=(self.path,), name="compact-calls").start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What a log holds at one moment: Parquet files, oldest first, and the lines that follow them."""

    parquet: tuple[Path, ...]
    lines: tuple[bytes, ...]


def segments(path: Path) -> Segments:
    """Return the content of a log, read at one moment; nothing of a log that does not exist."""
    folder = folder_of(path)
    while True:
        listed = folder.is_dir()
        with _listing(folder):
            closed = sorted(folder.glob("*.jsonl"))
            stems = {segment.stem for segment in closed}
            parquet = sorted(name for name in folder.glob("*.parquet") if _stem(name) not in stems)
            lines = [data for name in (*closed, path) if (data := _content(name))]
        if listed or not folder.is_dir():
            return Segments(parquet=tuple(parquet), lines=tuple(lines))


def compact(path: Path) -> int:
    """Compact the closed segments of a log to Parquet, and return their number.

    Raise UnavailableError when the folder cannot be written; the segments stay as they are.
    """
    folder = folder_of(path)
    if not folder.is_dir() or not any(folder.glob("*.jsonl")):
        return 0
    with files.writing(folder), locking.locked(folder / ".compacting"):
        for leftover in folder.glob(".*.*.*"):  # of a killed compaction
            leftover.unlink(missing_ok=True)
        closed = sorted(folder.glob("*.jsonl"))
        for segment in closed:
            _compact_segment(segment)
    return len(closed)


def purge(path: Path, before: dt.date) -> int:
    """Remove the compacted calls of days before `before`, and return their number.

    The open segment is closed and compacted first, so that its old records go too.
    """
    if path.exists():
        CallLog(path).close(now=True)
    compact(path)
    folder, removed = folder_of(path), 0
    with files.writing(folder), _listing(folder, shared=False):
        for name in sorted(folder.glob("*.parquet")):
            if name.name.partition(".")[0] < before.isoformat():
                index = name.with_suffix(".traces")
                removed += traces.count(index) if index.exists() else 0
                name.unlink()
                index.unlink(missing_ok=True)
        for name in folder.glob("*.odd"):
            if name.name[:10] < before.isoformat():  # the day on which its segment was closed
                name.unlink()
    return removed


def _day_of(line: bytes) -> bytes:
    """Return the day of the first record in some bytes, as b"2026-11-24"; empty for one without a time."""
    found = _DAY.search(line.partition(b"\n")[0])
    return found[1] if found else b""


def _compact_quietly(path: Path) -> None:
    """Compact the closed segments; a process without polars, such as a gateway, starts another for it.

    Loading polars and reading a segment takes 90 MB, which a process does not give back, and its time.
    """
    with contextlib.suppress(OSError, UnavailableError):
        if "polars" in sys.modules:
            compact(path)
            return
        subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-m", "workbench.records.compacting", path],
            env=processes.inherited(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip


def _compact_segment(segment: Path) -> None:
    """Write the Parquet files of a closed segment, and remove the segment.

    Its lock excludes a former version that opened it before it was closed; that one then opens another.
    """
    folder, odd = segment.parent, []
    with segment.open("rb") as file, locking.held(file.fileno()):
        for n, piece in enumerate(_pieces(file.fileno())):
            frame, misfits = frame_of_lines(piece)
            odd += misfits
            days = frame["at"].dt.strftime("%Y-%m-%d").fill_null(segment.name[:10])
            for (day,), part in frame.with_columns(days.alias("_day")).group_by("_day", maintain_order=True):
                _write(part.drop("_day"), folder / f"{day}.{segment.stem}.{n:04}.parquet")
        if odd:
            files.write_atomic(segment.with_suffix(".odd"), b"\n".join(odd) + b"\n")
        files.sync_folder(folder)
        with _listing(folder, shared=False):
            segment.unlink()
    files.sync_folder(folder)


def _pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the lines of a segment in pieces of at most two segments' size: former versions had one file.

    A line longer than that is left out. Later lines change no piece but the last.
    """
    start, size = 0, os.fstat(descriptor).st_size
    while start < size:
        data = os.pread(descriptor, 2 * SEGMENT_BYTES, start)
        end = len(data) if start + len(data) >= size else data.rfind(b"\n") + 1 or len(data)
        yield data[:end]
        start += end


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file atomically, after its index."""
    import polars as pl

    files.write_atomic(path.with_suffix(".traces"), traces.index_of(frame["trace_id"]))
    buffer = io.BytesIO()
    try:
        frame.write_parquet(buffer, compression="zstd", row_group_size=_ROW_GROUP)
    except pl.exceptions.PolarsError as error:
        raise OSError(errno.EIO, f"polars: {error}") from error
    files.write_atomic(path, buffer.getvalue(), private=True)


@contextlib.contextmanager
def _listing(folder: Path, *, shared: bool = True) -> Iterator[None]:
    """Lock the list of files of a folder; a reader needs no lock where nobody can write."""
    with contextlib.ExitStack() as stack:
        if folder.is_dir():
            try:
                stack.enter_context(locking.locked(folder / ".listing", shared=shared))
            except OSError:
                if not shared:
                    raise
        yield


def _stem(parquet: Path) -> str:
    """Return the name of the segment that a Parquet file is of."""
    return parquet.name.split(".")[1]


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        return b""
