"""Write and read the journal: an append-only file that caches answers and survives interrupted runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import UnavailableError
from workbench.records.keys import _KEY_AT, Entry
from workbench.records.log import Lines
from workbench.records.tape import Tape, write


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
        """Return the newest answer of a key, including answers of other processes, or None."""
        line = self.line(key)
        if line is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Entry.parse(line)
        return None

    def line(self, key: str) -> bytes | None:
        """Return the stored line of a key, or None."""
        if key not in self._index and self._file.size() != self._read_to:
            self._extend_index()
        if key not in self._index:
            return None
        line = self._file.read(*self._index[key])
        return line if line[_KEY_AT] == key.encode() and line.endswith(b"}") else None

    def _extend_index(self) -> None:
        """Index the lines appended since the last call; keys are at a fixed offset, so no line is parsed."""
        if self._file.size() < self._read_to:  # the file was deleted and created again
            self._index, self._read_to = {}, 0
        data = self._file.read(self._read_to)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line_key = data[start + _KEY_AT.start : start + _KEY_AT.stop]
            if data.startswith(b'{"key":"', start) and data.endswith(b"}", start, end):
                self._index[line_key.decode("ascii", "replace")] = (self._read_to + start, end - start)
            start = end + 1
        self._read_to += start


def extend(
    tape: Tape, used: Mapping[str, str], journal: Journal, *, path: Path | None = None, apart: bool = False
) -> bool:
    """Rewrite the tape with exactly the `used` keys, each from its source, "tape" or "cache".

    With `apart`, keys of the judge's tape stay there alone.
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
    return write(path or tape.path, lines)
