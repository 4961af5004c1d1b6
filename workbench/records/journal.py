"""The journal: answers in the order they came, in one append-only file; cache and safety net."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import UnavailableError
from workbench.records.keys import _KEY_AT, Entry
from workbench.records.log import Lines
from workbench.records.tape import Tape, write


class Journal:
    """Answers in the order they came, in one append-only file: cache and safety net.

    Opened when first needed. A line that is not whole (its writer was killed) is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Lines(path)
        self._index: dict[str, tuple[int, int]] = {}
        self._read_to = 0

    def open(self) -> None:
        """`UnavailableError` now if answers could not be kept later."""
        self._file.open()

    def append(self, key: str, line: bytes) -> None:
        """Keep an answer; it is what this key finds from now on."""
        self._index[key] = (self._file.append(line), len(line))

    def get(self, key: str) -> Entry | None:
        """The newest answer under a key, also when another process wrote it meanwhile."""
        line = self.line(key)
        if line is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Entry.parse(line)
        return None

    def line(self, key: str) -> bytes | None:
        """An answer as stored."""
        if key not in self._index and self._file.size() != self._read_to:
            self._extend_index()
        if key not in self._index:
            return None
        line = self._file.read(*self._index[key])
        return line if line[_KEY_AT] == key.encode() and line.endswith(b"}") else None

    def _extend_index(self) -> None:
        """Index what was appended since; the keys stand at a fixed place, nothing is parsed."""
        if self._file.size() < self._read_to:  # deleted and begun again
            self._index, self._read_to = {}, 0
        data = self._file.read(self._read_to)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line_key = data[start + _KEY_AT.start : start + _KEY_AT.stop]
            if data.startswith(b'{"key":"', start) and data.endswith(b"}", start, end):
                self._index[line_key.decode("ascii", "replace")] = (self._read_to + start, end - start)
            start = end + 1
        self._read_to += start


def extend(tape: Tape, used: Mapping[str, str], journal: Journal, *, path: Path | None = None) -> bool:
    """Write the tape anew with exactly the `used` keys, each from where it stands: "tape" or "cache"."""
    lines = []
    for key, source in used.items():
        line = tape.line(key) if source == "tape" else journal.line(key)
        if line is None:
            raise UnavailableError(
                f"{journal.path}: an answer of this run is gone from it",
                hint="do not delete .workbench/cache while a run goes on; run again",
            )
        lines.append(line)
    return write(path or tape.path, lines)
