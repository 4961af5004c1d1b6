"""The lines of an answer: how the gateway writes them, and how its client reads them from pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from workbench.errors import RefusedError, UnavailableError
from workbench.remote.protocol import MOST_BYTES
from workbench.remote.values import written
from workbench.types import JSON

#: Values of a list in one line: more of them come in several lines.
_IN_ONE_LINE: Final = 500
#: The facts of a call that its caller may read.
FACTS: Final = (
    "trace_id", "replayed", "source", "key", "recorded_latency_s", "cost_usd", "price_source", "saved_usd",
    "repaired", "degraded", "fallback", "fallback_reason", "would_refuse", "data_class", "content",
)  # fmt: skip


def event_lines(data: Any, *, verb: str = "") -> Iterator[bytes]:
    """Yield the lines of one event; a long list of a memory's `verb` comes in parts.

    Raise RefusedError for a line above the bound.
    """
    if not verb:
        yield _line(b'{"event":%b}\n' % orjson.dumps(data))
        return
    what = f"the result of memory.{verb}"
    if isinstance(data, list):
        while len(data) > _IN_ONE_LINE:
            yield _line(b'{"part":%b}\n' % written(data[:_IN_ONE_LINE], what=what))
            data = data[_IN_ONE_LINE:]
    yield _line(b'{"event":%b}\n' % written(data, what=what))


def end_line(facts: Mapping[str, Any], record: JSON | None) -> bytes:
    """Return the last line of an answer that is complete."""
    return orjson.dumps({"end": _ending(facts, record)}) + b"\n"


def error_line(failure: JSON, facts: Mapping[str, Any], record: JSON | None) -> bytes:
    """Return the last line of an answer that failed."""
    return orjson.dumps({"error": failure, **_ending(facts, record)}) + b"\n"


def _ending(facts: Mapping[str, Any], record: JSON | None) -> dict[str, Any]:
    found: dict[str, Any] = {"facts": {name: facts[name] for name in FACTS if name in facts}}
    if record is not None:
        found["record"] = record
    return found


def _line(line: bytes) -> bytes:
    if len(line) > MOST_BYTES:
        raise RefusedError(
            f"the answer has {len(line):,} bytes, and a line of a gateway's answer at most {MOST_BYTES:,}",
            hint="ask for less at once",
        )
    return line


class LineReader:
    """Cuts pieces of an answer into lines; `feed` raises UnavailableError for a line above the bound."""

    __slots__ = ("_partial", "_size")

    def __init__(self) -> None:
        self._partial: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Sequence[bytes]:
        """Return the lines that a piece completes."""
        first, *rest = piece.split(b"\n")
        self._partial.append(first)
        self._size += len(first)
        if self._size > MOST_BYTES:
            raise UnavailableError(
                f"the gateway sent a line of more than {MOST_BYTES:,} bytes", hint="workbench doctor"
            )
        if not rest:
            return ()
        found = [b"".join(self._partial), *rest[:-1]]
        self._partial, self._size = [rest[-1]], len(rest[-1])
        return found

    @property
    def is_inside(self) -> bool:
        """Whether the pieces so far end inside a line."""
        return self._size > 0


def parsed(line: bytes) -> dict[str, Any]:
    """Return the object in a line; raise UnavailableError for anything else."""
    try:
        value = orjson.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or len(value) > 3 or value.keys().isdisjoint(_KINDS):
        raise UnavailableError(
            "the gateway sent a line that is no line of an answer",
            hint="workbench doctor   # names the gateway",
        )
    return value


_KINDS: Final = frozenset({"event", "part", "end", "error"})
