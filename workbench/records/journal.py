"""Write and read the journal: an append-only file that caches answers and survives interrupted runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from workbench import files, layout, locking, wire
from workbench.errors import UnavailableError, WorkbenchError
from workbench.records.keys import _KEY_AT, Entry, KeyedRequest, RecordedAnswer
from workbench.records.log import Lines
from workbench.records.tape import Tape, write

#: The first bytes of an entry; the key follows.
_START = b'{"key":"'
#: A run of words in small letters, and what stands in a recording for an identifier or a secret.
_SMALL = re.compile(r"[^\W\d_A-Z][^\W\d_A-Z ,;]*(?:[ ,;]+[^\W\d_A-Z]+){2,}")
_PSEUDONYM = re.compile(rb"<[A-Z][A-Z_]*_[0-9]+>|\[[A-Z][A-Z_]+\]")
#: Bytes of lines, and forms of texts, that one search of `purge` takes.
_BATCH_BYTES, _BATCH_FORMS = 1 << 24, 5_000


class Journal:
    """An append-only file of answers in order of arrival.

    The file is opened on first use. Incomplete lines of killed writers are skipped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Lines(path)
        self._index: dict[str, tuple[int, int]] = {}
        self._read_to = 0

    def open(self) -> None:
        """Open the file; raise UnavailableError if it is not writable."""
        self._file.open()

    def append(self, key: str, line: bytes) -> None:
        """Append an answer, which replaces earlier answers of its key."""
        self._index[key] = (self._file.append(line), len(line))

    def get(self, key: str) -> Entry | None:
        """Return the newest entry of a key, including entries of other processes, or None."""
        line = self.line(key)
        if line is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Entry.parse(line)
        return None

    def answer(self, asked: KeyedRequest) -> RecordedAnswer | None:
        """Return the newest answer to a request, including answers of other processes, or None."""
        line = self.line(asked.key)
        if line is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return asked.answer_in(line)
        return None

    def line(self, key: str) -> bytes | None:
        """Return the stored line of a key, or None."""
        if key not in self._index and self._file.size() != self._read_to:
            self._extend_index()
        if key not in self._index:
            return None
        line = self._file.read(*self._index[key])
        is_whole = line.startswith(_START + key.encode()) and line.endswith(b"}")
        return line if is_whole else None

    def keys(self) -> frozenset[str]:
        """Return the keys with an answer; none without the file."""
        if self._file.size():
            self._extend_index()
        return frozenset(self._index)

    def _extend_index(self) -> None:
        """Index the lines appended since the last call; keys are at a fixed offset, so no line is parsed."""
        if self._file.size() < self._read_to:  # the file was deleted and created again
            self._index, self._read_to = {}, 0
        data = self._file.read(self._read_to)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line_key = data[start + _KEY_AT.start : start + _KEY_AT.stop]
            if data.startswith(_START, start) and data.endswith(b"}", start, end):
                self._index[line_key.decode("ascii", "replace")] = (self._read_to + start, end - start)
            start = end + 1
        self._read_to += start


def extend(
    tape: Tape, used: Mapping[str, str], journal: Journal, *, path: Path | None = None, apart: bool = False
) -> bool:
    """Rewrite the tape with exactly the `used` keys, as `recorded` finds them."""
    return write(path or tape.path, recorded(tape, used, journal, apart=apart))


def recorded(tape: Tape, used: Mapping[str, str], journal: Journal, *, apart: bool = False) -> list[bytes]:
    """Return the lines of the `used` keys, each from its source, "tape" or "cache".

    With `apart`, keys of the judge's tape stay there alone. UnavailableError when the journal lost an answer.
    """
    lines = []
    for key, source in used.items():
        if apart and tape.judged is not None and key in tape.judged:
            continue
        line = tape.line(key) if source == "tape" else journal.line(key)
        if line is None:
            raise UnavailableError(
                f"{journal.path} lacks an answer of this run",
                hint="run the same command again, and do not delete .workbench/cache during a run",
            )
        lines.append(line)
    return lines


def journals_of(home: Path) -> list[Path]:
    """Return the journals below a repository's `.workbench`: of notebooks, judge stages and job slots."""
    found = [home / layout.JOURNAL]
    for folder in (layout.JUDGE_JOURNALS, layout.JOB_STATE):
        for parent, _, names in os.walk(home / folder):
            found += [Path(parent, name) for name in names if name.endswith(".jsonl")]
    return sorted(filter(Path.is_file, found))


def purge(path: Path, texts: Iterable[str]) -> int:
    """Remove the entries of a journal whose request or answer contains one of `texts`; return their number.

    An entry is overwritten with spaces in its place, under the lock of the writers. So no other line moves:
    the offsets in the index of an open Journal stay valid, in this process or another and in any version of
    the workbench, and no appended line is lost. Lines appended during the search are not searched. A killed
    purge leaves lines that readers skip. A missing file has no entries; UnavailableError when the file
    cannot be written.
    """
    forms, parts = forms_of(texts)
    removed = 0
    if not forms:
        return removed
    with files.writing(path), contextlib.suppress(FileNotFoundError):
        descriptor = files.open_regular(path, os.O_RDWR)  # O_APPEND would ignore the position of a write
        with open(descriptor, "r+b") as file:  # noqa: PTH123  of a descriptor
            with locking.held(descriptor):
                size = os.fstat(descriptor).st_size  # no writer is in the middle of a line
            for batch in _batches(file, size):
                marks = contained_in([line for _, line in batch], forms, parts)
                found = list(itertools.compress(batch, marks))
                with locking.held(descriptor):
                    for start, line in found:
                        _overwrite(descriptor, start, b" " * len(line))
                removed += len(found)
            if removed:
                os.fsync(descriptor)
    return removed


def written_forms(text: str) -> set[str]:
    """Return the forms of a text in a line: as JSON, and as JSON within a text, as in a tool's arguments."""
    text = text.strip()
    within = (text, _escaped(text), json.dumps(text)[1:-1])
    return {_escaped(form) for form in within} if text else set()


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _batches(file: BinaryIO, size: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the lines in the first `size` bytes with their offsets, about 16 MB at a time."""
    batch: list[tuple[int, bytes]] = []
    start = first = 0
    while start < size and (line := file.readline(size - start)):
        batch.append((start, line.rstrip(b"\n")))
        start += len(line)
        if start - first >= _BATCH_BYTES:
            yield batch
            batch, first = [], start
    yield batch


def forms_of(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the written forms of texts, and of a part of each that holds no identifier.

    The part is the longest run of small letters: it finds the text where pseudonyms stand for the rest.
    """
    texts = list(texts)
    parts = [max(runs, key=len).strip() for text in texts if (runs := _SMALL.findall(text))]
    return (
        sorted({form for text in texts for form in written_forms(text)}),
        sorted({form for part in parts for form in written_forms(part)}),
    )


def contained_in(lines: Sequence[bytes], forms: Sequence[str], parts: Sequence[str] = ()) -> list[bool]:
    """Return for each line whether it contains one of `forms`, or one of `parts` beside pseudonyms.

    A streamed answer counts as one text.
    """
    found = _containing(lines, forms)
    if parts:
        named = [n for n, line in enumerate(lines) if not found[n] and _PSEUDONYM.search(line)]
        more = _containing([lines[n] for n in named], parts)
        for n, mark in zip(named, more, strict=True):
            found[n] = mark
    return found


def _containing(lines: Sequence[bytes], forms: Sequence[str]) -> list[bool]:
    import polars as pl

    column = pl.Series([_searched(line) for line in lines], dtype=pl.String)
    found = pl.repeat(False, len(column), eager=True)  # noqa: FBT003  a value
    for start in range(0, len(forms), _BATCH_FORMS):
        found |= column.str.contains_any(list(forms[start : start + _BATCH_FORMS]))
    return found.to_list()


def _searched(line: bytes) -> str:
    text = line.decode(errors="replace")
    if b'"stream":true' in line:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, WorkbenchError):
            entry = Entry.parse(line)
            whole = wire.dialect(entry.question.operation).fold(entry.events())
            text += files.canonical(whole).decode()
    return text


def _overwrite(descriptor: int, start: int, data: bytes) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        start, data = start + written, data[written:]
