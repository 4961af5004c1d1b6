"""The whole stack on one screen: which controls exist, in which order, around which operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

from workbench.ports import Call, Control, Handler
from workbench.types import Event

#: Outermost first. A name without a file in this folder is a control that is not built yet:
#: its place is fixed, so that building it later moves no other.
ORDER: Final = (
    "observe",
    "fallback",
    "policy",
    "access",
    "output",
    "privacy",
    "moderation",
    "replay",
    "retry",
    "rate_limit",
    "circuit_breaker",
    "budget",
)

#: A model has no second candidate yet, and no access lists; a memory has its last snapshot, and lists.
_MODEL: Final = frozenset(ORDER) - {"fallback", "access"}
_NOT_REPLAYED: Final = frozenset(ORDER) - {"replay", "output", "fallback", "budget"}

_WRITE: Final = _NOT_REPLAYED - {"retry"}
_NO_CONTENT: Final = _NOT_REPLAYED - {"privacy", "moderation"}

#: Which controls apply to which operation. Memory is never replayed: its snapshot is its
#: determinism. A write is never retried: nothing says that a lost answer was a lost write.
#: A search alone may fall back: what has to be right now is never read from a snapshot.
APPLIES: Final[Mapping[str, frozenset[str]]] = {
    "model.chat": _MODEL,
    "model.embed": _MODEL - {"output", "moderation"},
    "model.count": _MODEL - {"output", "moderation"},
    "memory.search": _NOT_REPLAYED | {"fallback"},
    "memory.count": _NO_CONTENT,
    "memory.missing": _NO_CONTENT,
    "memory.items": _NOT_REPLAYED,
    "memory.versions": _NO_CONTENT,
    "memory.stats": _NO_CONTENT,
    "memory.add": _WRITE,
    "memory.stage": _WRITE,
    "memory.remember": _WRITE,
    "memory.publish": _NO_CONTENT - {"retry"},
    "memory.forget": _NO_CONTENT - {"retry"},
    "memory.hold": _NO_CONTENT - {"retry"},
    "memory.release": _NO_CONTENT - {"retry"},
    "memory.purge": _NO_CONTENT - {"retry"},
}

#: These run around every operation and cannot be switched off.
ALWAYS: Final = frozenset({"observe", "policy"})


def around(control: Control, proceed: Handler) -> Handler:
    """`control` around `proceed`, closing what it opened below however it ends."""

    async def handle(call: Call) -> AsyncIterator[Event]:
        opened: list[AsyncIterator[Event]] = []

        def below(inner: Call) -> AsyncIterator[Event]:
            stream = proceed(inner)
            opened.append(stream)
            return stream

        try:
            async with aclosing(control(call, below)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        finally:
            await _close(opened)

    return handle


async def _close(streams: list[AsyncIterator[Event]]) -> None:
    """Close every stream, the last opened first, also when closing one of them fails."""
    if streams:
        try:
            await streams.pop().aclose()  # type: ignore[attr-defined]
        finally:
            await _close(streams)


def fold(controls: Mapping[str, Control], leaf: Handler) -> Handler:
    """One handler: for each operation, the controls that apply to it in ORDER, then `leaf`."""
    unknown = set(controls) - set(ORDER)
    if unknown:
        raise ValueError(f"controls without a place in ORDER: {sorted(unknown)}")
    stacks: dict[str, Handler] = {}
    for operation, applies in APPLIES.items():
        handler = leaf
        for name in reversed(ORDER):
            if name in controls and name in applies:
                handler = around(controls[name], handler)
        stacks[operation] = handler

    def handle(call: Call) -> AsyncIterator[Event]:
        return stacks[call.name](call)

    return handle
