"""Another source of an answer when the usual one is away. What may trigger it is a table.

Built for memories: the last snapshot of a use case that allows it, read-only, and every hit says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from workbench.controls.position import Position
from workbench.errors import UnavailableError, WorkbenchError
from workbench.ports import Call, Handler
from workbench.types import Event

#: Outside of what authorises: the snapshot is authorised, and judged by the clock, for itself. A search
#: alone may fall back: what has to be right now is never read from a snapshot. Models follow when they
#: have a second candidate.
POSITION: Final = Position(
    name="fallback", operations=frozenset({"memory.search"}), after=("observe",), before=("policy",)
)
#: What may trigger it: the store is away. What it refuses, or holds in another form, it says itself.
TRIGGERS: Final[tuple[type[WorkbenchError], ...]] = (UnavailableError,)


class Fallback:
    """Asks a memory's last snapshot when its store is away, before the first event of an answer."""

    def __init__(self, *, snapshot: bool) -> None:
        self._snapshot = snapshot

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """The answer, or the snapshot's; the store's own error when there is no snapshot."""
        answering = False
        try:
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    answering = True
                    yield event
        except TRIGGERS as error:
            if answering or not self._snapshot or not error.retryable:
                raise
            away = error
        else:
            return
        other = dataclasses.replace(call, identity={**call.identity, "degraded": True})
        try:
            async with aclosing(proceed(other)) as events:  # type: ignore[type-var]
                async for event in events:
                    call.span.note(degraded=True)
                    yield Event(data=[dataclasses.replace(hit, degraded=True) for hit in event.data])
        except WorkbenchError as error:
            raise UnavailableError(
                f"{away.message}; and its last snapshot does not help: {error.message}", hint=away.hint
            ) from error
