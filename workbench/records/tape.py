"""Recorded calls: what identifies one, how it is stored, and the tape that keeps a stage's.

A tape is canonical JSON lines: a header, then one entry per recorded call sorted by key, so that
the same calls are the same bytes on every machine. A journal is the same entries in the order they
were answered: the cache of exploring, and where an interrupted run's answers wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import files, wire
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.records.keys import _KEY_AT, Entry
from workbench.types import JSON, Event

FORMAT: Final = "workbench-tape/1"


_CONFLICT: Final = (b"<<<<<<<", b"=======", b">>>>>>>")


class Tape:
    """The recordings of one stage, by key. Parsed when asked for, not when opened."""

    def __init__(self, path: Path, lines: Mapping[str, bytes] | None = None) -> None:
        self.path = path
        self._lines = dict(lines or {})

    @classmethod
    def read(cls, path: Path) -> Tape:
        """The tape in a file, checked to the byte; `CorruptError` naming the line. Zero bytes: empty."""
        try:
            data = files.read_bytes(path)
        except FileNotFoundError:
            raise NotFoundError(f"{path}: there is no such tape", hint="`make repro` creates it") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot read this tape ({error.strerror})") from None
        if not data:
            return cls(path)
        first, _, body = data.partition(b"\n")
        header = _header(path, first)
        lines = body.split(b"\n")
        keys = [line[_KEY_AT].decode("ascii", "replace") for line in lines[:-1]]
        whole = header["digest"] == hashlib.sha256(body).hexdigest() and not lines[-1]
        if not whole or header["entries"] != len(keys) or any(map(str.__ge__, keys, keys[1:])):
            raise _corrupt(path, *_fault(lines, header))
        return cls(path, dict(zip(keys, lines, strict=False)))

    def get(self, key: str) -> Entry | None:
        """The recording under a key, if there is one."""
        line = self._lines.get(key)
        return None if line is None else Entry.parse(line)

    def line(self, key: str) -> bytes:
        """The recording under a key as stored."""
        return self._lines[key]

    def entries(self) -> Iterator[Entry]:
        """Every recording, in the order of their keys."""
        return map(Entry.parse, self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)


def write(path: Path, lines: Iterable[bytes]) -> bool:
    """Write a tape atomically; false, and the file untouched, when it holds these bytes already."""
    entries = sorted(lines, key=lambda line: line[_KEY_AT])
    body = b"".join(line + b"\n" for line in entries)
    head = {"format": FORMAT, "entries": len(entries), "digest": hashlib.sha256(body).hexdigest()}
    data = files.canonical(head) + b"\n" + body if entries else b""
    return files.write_atomic(path, data)


def _corrupt(path: Path, line: int, what: str) -> CorruptError:
    again = f"`git checkout -- {path}`, or delete it and rerun `dvc repro`, which asks again"
    if "merge" in what:
        again = f"`git checkout --ours -- {path}`, then `dvc repro` asks for what that side lacks"
    return CorruptError(f"{path}:{line}: {what}", hint=again)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    if line.startswith(_CONFLICT):
        raise _corrupt(path, 1, "markers of an unresolved merge")
    try:
        header = orjson.loads(line)
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        header = {}
    found = str(header.get("format"))
    if found.startswith("workbench-tape/") and found != FORMAT:
        raise CorruptError(
            f"{path}:1: a tape of format {found!r}; this workbench reads {FORMAT!r}",
            hint=f"install the workbench that wrote it, or delete {path} and rerun `dvc repro`",
        )
    if set(header) != {"format", "entries", "digest"} or found != FORMAT:
        raise _corrupt(path, 1, "no tape header: this is not a tape, or its first line is damaged")
    return header


def _fault(lines: Sequence[bytes], header: JSON) -> tuple[int, str]:
    """Line and reason why the lines below the header are not what was written."""
    before = ""
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=2):
        what = _line_fault(line, before)
        if what and number == len(lines) + 1 and lines[-1]:
            what = "the file is cut off in this line"
        if what:
            return number, what
        before = line[_KEY_AT].decode()
    count = len(lines) - 1
    if count != header["entries"]:
        return count + 1, f"the file ends here with {count} entries; {header['entries']} were written"
    return 1, "an entry was edited by hand: the digest of the entries is another one"


def _line_fault(line: bytes, before: str) -> str:
    if line.startswith(_CONFLICT):
        return "markers of an unresolved merge"
    try:
        line.decode()
        entry = Entry.parse(line)
        key = entry.question.key
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return "not an entry of a tape"
    if entry.key != key:
        return "edited by hand: the key is not the one of this request"
    if entry.key <= before:
        return "out of order: entries are sorted by key, each key once"
    return ""


def compare_answers(recorded: Entry, live: Sequence[Event]) -> list[str]:
    """What differs between a recorded answer and a live one: text, usage, finish reason, count. [] is equal.

    Ids, time stamps and the way a stream was cut into pieces are not compared.
    """
    refused = recorded.result.get("refused")
    if refused is not None:
        return [f"answered now, refused with {refused['status']} when recorded"]
    before, now = wire.fold(recorded.events()), wire.fold(live)
    reads = {
        "text": wire.text_of,
        "usage": wire.usage_of,
        "finish_reason": wire.finish_of,
        "tokens": wire.tokens_of,
    }
    return [name for name, read in reads.items() if read(before) != read(now)]
