"""Split the body of a streamed answer into events: server-sent events, JSON lines or one JSON value."""

from __future__ import annotations

from typing import Final, NamedTuple

from workbench.models import lenient_json

_BOM: Final = b"\xef\xbb\xbf"
_HEAD_BYTES: Final = 200


class Frame(NamedTuple):
    """The data of one event. `is_error` is true if the event's name says that it is an error."""

    data: bytes
    is_error: bool = False


class EventReader:
    """Read the events of a body that arrives in pieces, cut anywhere, whatever its content type.

    Lines end with LF, CRLF or CR; a byte order mark and comments are skipped. A body that begins with `{` or
    `[` is JSON: one event a line, or one event in all if its first line is not a JSON value by itself.
    `head` is the beginning of the body, for messages.
    """

    def __init__(self) -> None:
        self.head = b""
        self._form = ""  # "events", "lines" or "value", known from the first line that is not blank
        self._partial: list[bytes] = []
        self._after_cr = False
        self._data: list[bytes] = []
        self._name = b""

    def feed(self, piece: bytes) -> list[Frame]:
        """Return the events that this piece of the body completes."""
        if len(self.head) < _HEAD_BYTES:
            self.head += piece[:_HEAD_BYTES]
        if not piece:  # a CR at the end of the last piece keeps waiting for its LF
            return []
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = piece.split(b"\n")
        self._partial.append(lines[0])
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._partial)
        self._partial = [lines.pop()]
        frames: list[Frame] = []
        for line in lines:
            self._read(line, frames)
        return frames

    def close(self) -> list[Frame]:
        """Return the events at the end of the body that no blank line completes."""
        frames: list[Frame] = []
        self._read(b"".join(self._partial), frames)
        self._partial = []
        self._complete(frames)
        return frames

    def _read(self, line: bytes, frames: list[Frame]) -> None:
        if not self._form:
            line = line.removeprefix(_BOM)
            self._form = _form(line)
        if self._form == "value":
            self._data.append(line)
        elif self._form == "lines":
            if line.strip():
                frames.append(Frame(line))
        elif not line:
            self._complete(frames)
        else:
            self._read_field(line, frames)

    def _read_field(self, line: bytes, frames: list[Frame]) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.strip()
        elif name == b"error":  # llama.cpp's own field
            frames.append(Frame(value.strip(), is_error=True))

    def _complete(self, frames: list[Frame]) -> None:
        data = b"\n".join(self._data)
        if data.strip():
            frames.append(Frame(data, is_error=self._name == b"error"))
        self._data, self._name = [], b""


def _form(line: bytes) -> str:
    """Return the form of a body by its first line; empty for a blank line."""
    text = line.strip()
    if not text.startswith((b"{", b"[")):
        return "events" if text else ""
    try:
        lenient_json.loads(text)
    except ValueError:
        return "value"
    return "lines"
