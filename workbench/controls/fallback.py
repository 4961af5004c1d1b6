"""Fallback for memory search: answers from the last snapshot while the store is unavailable.

A use case opts in with `memory_fallback: snapshot` in params.yaml. The snapshot is read-only, and its hits
are marked `degraded`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from typing import Final

from workbench.controls.position import Position
from workbench.errors import UnavailableError, WorkbenchError
from workbench.ports import Call, Handler
from workbench.types import Event

#: Outside of access control, so that access and validity are checked again for the snapshot. Only searches
#: fall back: other operations need the current state. Models have no second candidate yet.
POSITION: Final = Position(
    name="fallback", operations=frozenset({"memory.search"}), after=("observe",), before=("policy",)
)


class Fallback:
    """Searches a memory's last snapshot if its store fails before the first event of an answer."""

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Yield the store's answer or the snapshot's; raise the store's error if no snapshot may be used."""
        answering = False
        try:
            async for event in proceed(call):
                answering = True
                yield event
        except UnavailableError as error:  # refusals and corrupt data pass through
            if answering or not error.retryable:
                raise
            failure = error
        else:
            return
        fallback = dataclasses.replace(call, identity={**call.identity, "degraded": True})
        try:
            async for event in proceed(fallback):
                call.span.note(degraded=True)
                yield Event(data=[dataclasses.replace(hit, degraded=True) for hit in event.data])
        except WorkbenchError as error:
            raise UnavailableError(
                f"{failure.message}; the last snapshot cannot answer either: {error.message}",
                hint=failure.hint,
            ) from error
