"""Read and write a tape: the recorded calls of one stage in one file.

A tape consists of canonical JSON lines: a header, then one entry for each recorded call, sorted by key. Equal
calls give equal bytes on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import files, wire
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.records.keys import _KEY_AT, Entry, KeyedRequest, RecordedAnswer
from workbench.types import JSON, Event

FORMAT: Final = "workbench-tape/1"
#: The first bytes of the lines that git writes into a file with a merge conflict.
_CONFLICT: Final = (b"<<<<<<<", b"=======", b">>>>>>>")


class Tape:
    """The recordings of one stage, by key. Entries are parsed on access.

    `judged` is the tape of the stage `judge`, which answers first and whose recordings are not this tape's.
    """

    def __init__(
        self, path: Path, lines: Mapping[str, bytes] | None = None, *, judged: Tape | None = None
    ) -> None:
        self.path = path
        self.judged = judged
        self._lines = dict(lines or {})

    @classmethod
    def read(cls, path: Path) -> Tape:
        """Read a tape and verify its digest; an empty file is an empty tape. CorruptError names the line."""
        try:
            data = files.read_bytes(path)
        except FileNotFoundError:
            raise NotFoundError(f"there is no tape {path}", hint="`make repro` creates it") from None
        except OSError as error:
            raise ConfigError(f"cannot read tape {path}: {error.strerror}") from None
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

    def over(self, judged: Tape) -> Tape:
        """Return this tape with the judge's tape before it."""
        return Tape(self.path, self._lines, judged=judged)

    def answer(self, asked: KeyedRequest) -> RecordedAnswer | None:
        """Return the recorded answer to a request, or None."""
        found = None if self.judged is None else self.judged.answer(asked)
        if found is not None:
            return found
        line = self._lines.get(asked.key)
        return None if line is None else asked.answer_in(line)

    def line(self, key: str) -> bytes:
        """Return the stored line of a key; raise KeyError if there is none."""
        if self.judged is not None and key in self.judged:
            return self.judged.line(key)
        return self._lines[key]

    def __contains__(self, key: str) -> bool:
        """Return whether this tape itself holds a recording of the key."""
        return key in self._lines

    def entries(self) -> Iterator[Entry]:
        """Return all recordings of this tape, sorted by key."""
        return map(Entry.parse, self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)


def write(path: Path, lines: Iterable[bytes]) -> bool:
    """Write a tape atomically; return False if the file is unchanged."""
    entries = sorted(lines, key=lambda line: line[_KEY_AT])
    body = b"".join(line + b"\n" for line in entries)
    head = {"format": FORMAT, "entries": len(entries), "digest": hashlib.sha256(body).hexdigest()}
    data = files.canonical(head) + b"\n" + body if entries else b""
    return files.write_atomic(path, data)


def _corrupt(path: Path, line: int, what: str) -> CorruptError:
    again = f"`git checkout -- {path}`, or delete it and run `dvc repro`, which asks the model again"
    if "merge" in what:
        again = f"`git checkout --ours -- {path}`, then `dvc repro`, which asks for the missing entries"
    return CorruptError(f"{path}:{line}: {what}", hint=again)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    if line.startswith(_CONFLICT):
        raise _corrupt(path, 1, "a conflict marker of an unresolved merge")
    try:
        header = orjson.loads(line)
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        header = {}
    found = str(header.get("format"))
    if found.startswith("workbench-tape/") and found != FORMAT:
        raise CorruptError(
            f"{path}:1: the tape has format {found!r}, this workbench reads {FORMAT!r}",
            hint=f"install the workbench that wrote it, or delete {path} and run `dvc repro`",
        )
    if set(header) != {"format", "entries", "digest"} or found != FORMAT:
        raise _corrupt(path, 1, "not the header of a tape")
    return header


def _fault(lines: Sequence[bytes], header: JSON) -> tuple[int, str]:
    """Return the number of the first damaged line and the reason."""
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
        return count + 1, f"the file ends here with {count} entries, the header names {header['entries']}"
    return 1, "the digest of the entries differs from the header's: an entry was edited"


def _line_fault(line: bytes, before: str) -> str:
    if line.startswith(_CONFLICT):
        return "a conflict marker of an unresolved merge"
    try:
        line.decode()
        entry = Entry.parse(line)
        key = entry.key if entry.pseudonymised else entry.question.key
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return "not an entry of a tape"
    if entry.key != key:
        return "edited: the key is not that of the request"
    if entry.key <= before:
        return "not in the order of the keys, or a key twice"
    return ""


def compare_answers(recorded: Entry, live: Sequence[Event]) -> list[str]:
    """Return the parts in which a recorded and a live answer differ: text, usage, finish reason, tokens.

    Ids, time stamps and chunks are not compared.
    """
    refused = recorded.result.get("refused")
    if refused is not None:
        return [f"answered now, but refused with {refused['status']} when recorded"]
    speaks = wire.dialect(recorded.question.operation)
    before, now = speaks.fold(recorded.events()), speaks.fold(live)
    reads = {
        "text": speaks.text_of,
        "usage": speaks.usage_of,
        "finish_reason": speaks.finish_of,
        "tokens": wire.tokens_of,
    }
    return [name for name, read in reads.items() if read(before) != read(now)]
