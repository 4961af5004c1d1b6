"""The log of the memory writes of one slot of a job: a repeat of the slot finds here what was written."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workbench import files
from workbench.errors import NotFoundError
from workbench.records.log import Lines, read_records

#: The file in the folder of a slot, and the mark that remains of it when it is purged.
NAME, PURGED = "writes.jsonl", "purged.txt"
_MOST_MARK = 1_024


def purge_writes(log: Path, now: dt.datetime) -> None:
    """Remove the log of a slot, and leave a mark: without one, a repeat of the slot would write again."""
    at = now.astimezone(dt.UTC).isoformat(timespec="seconds")
    files.write_atomic(log.with_name(PURGED), f"{at}\n".encode())
    log.unlink()


def purged_at(folder: Path) -> str | None:
    """Return when the log of a slot was purged, None for a slot that has its log or never wrote."""
    try:
        return files.read_text(folder / PURGED, limit=_MOST_MARK).strip()
    except NotFoundError:
        return None


def begin_anew(folder: Path) -> None:
    """Remove the mark of a purged log: the next run of the slot writes again, and begins a new log."""
    (folder / PURGED).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotWrite:
    """One write: the digest of what it was given, the ids that it chose, and its result as JSON.

    The result is None from the moment before the write to its end: a kill in between leaves it unknown.
    """

    given: str
    ids: tuple[str, ...] = ()
    result: Any = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> SlotWrite | None:
        """Return the write of a line, None for a line of another form."""
        given, ids = record.get("given"), record.get("ids", [])
        if not isinstance(given, str) or not isinstance(ids, list):
            return None
        return cls(given=given, ids=tuple(map(str, ids)), result=record.get("result"))


class SlotWrites:
    """The writes of one slot by their places, in an append-only file: the last line of a place counts.

    One run of a slot writes at a time, as the ledger of jobs sees to. The file holds no text and no name:
    places and what was given are keyed digests.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = Lines(folder / NAME)
        self._known: dict[str, SlotWrite] | None = None
        self._lock = threading.Lock()

    def found(self, place: str) -> SlotWrite | None:
        """Return the write at a place, made by this run or by one before it; None if there is none."""
        with self._lock:
            return self._read().get(place)

    def put(self, place: str, write: SlotWrite) -> None:
        """Append the write of a place; UnavailableError when the file cannot be written."""
        line = {"place": place, "given": write.given, "ids": write.ids, "result": write.result}
        self._lines.append(orjson.dumps({name: value for name, value in line.items() if value is not None}))
        with self._lock:
            self._read()[place] = write

    def _read(self) -> dict[str, SlotWrite]:
        if self._known is None:
            self._known = {}
            for record in read_records(self._lines.path):
                write = SlotWrite.of(record)
                if write is not None:
                    self._known[str(record.get("place"))] = write
        return self._known
