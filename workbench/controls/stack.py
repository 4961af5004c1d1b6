"""The stack of controls: orders them by their stated neighbours and prints the order."""

from __future__ import annotations

import graphlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from workbench.controls import (
    access,
    budget,
    cache,
    circuit_breaker,
    fallback,
    idempotence,
    limits,
    moderation,
    observe,
    output,
    policy,
    privacy,
    rate_limit,
    replay,
    retry,
)  # fmt: skip
from workbench.controls.position import OPERATIONS, Position
from workbench.errors import ConfigError, RefusedError, nearest
from workbench.ports import Call, Control, Handler
from workbench.types import Event


def ordered(positions: Iterable[Position]) -> tuple[Position, ...]:
    """Return the positions, outermost first; raise ConfigError unless they state exactly one order."""
    known = {position.name: position for position in positions}
    names, graph = set(known), graphlib.TopologicalSorter[str]()
    for position in known.values():
        for neighbour in (*position.after, *position.before):
            _check_known(position, neighbour, names)
        graph.add(position.name, *position.after)
        for inner in position.before:
            graph.add(inner, position.name)
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pairs = ", ".join(f"{outer!r} before {inner!r}" for outer, inner in pairwise(error.args[1]))
        raise ConfigError(
            f"the controls contradict each other: {pairs}", hint="change `after` or `before` in one of them"
        ) from None
    found: list[Position] = []
    while graph.is_active():
        found += _next(graph, known)
    return tuple(found)


def _check_known(position: Position, neighbour: str, names: set[str]) -> None:
    if neighbour not in names:
        raise ConfigError(
            f"the control {position.name!r} names the neighbour {neighbour!r}, and there is no such control "
            f"({nearest(neighbour, names)})",
            hint=f"correct POSITION in workbench/controls/{position.name}.py",
        )


def _next(graph: graphlib.TopologicalSorter[str], known: Mapping[str, Position]) -> list[Position]:
    """Return the next control inwards."""
    ready = list(graph.get_ready())
    if len(ready) > 1:
        first, second = sorted(ready)[:2]
        raise ConfigError(
            f"the controls {first!r} and {second!r} do not state which is the outer one",
            hint=f"add {second!r} to `after` or `before` in workbench/controls/{first}.py",
        )
    graph.done(*ready)
    return [known[name] for name in ready]


#: All implemented controls, outermost first.
POSITIONS: Final = ordered(
    (
        observe.POSITION, limits.POSITION, fallback.POSITION, policy.POSITION, access.POSITION,
        idempotence.POSITION,
        output.POSITION, privacy.POSITION, moderation.POSITION, cache.POSITION, replay.POSITION,
        retry.POSITION, rate_limit.POSITION,
        circuit_breaker.POSITION, budget.POSITION,
    )
)  # fmt: skip


def around(control: Control, proceed: Handler) -> Handler:
    """Wrap `proceed` in `control`; closing a stream also closes the streams that the control opened.

    A control may have a method `applies(call)`: other calls pass it by. One with a method `check(call)` only
    passes calls on or refuses them, so no stream of its own stands around theirs.
    """
    check: Callable[[Call], None] | None = getattr(control, "check", None)
    if check is not None:
        return _CheckedHandler(check, proceed)

    def handle(call: Call) -> AsyncIterator[Event]:
        return _Controlled(control, call, proceed)

    applies: Callable[[Call], bool] | None = getattr(control, "applies", None)
    if applies is None:
        return handle
    return lambda call: handle(call) if applies(call) else proceed(call)


class _CheckedHandler:
    """The handler of a control that checks a call and leaves its stream as it is."""

    __slots__ = ("_check", "_proceed")

    def __init__(self, check: Callable[[Call], None], proceed: Handler) -> None:
        self._check, self._proceed = check, proceed

    def __call__(self, call: Call) -> AsyncIterator[Event]:
        self._check(call)
        return self._proceed(call)


class _Controlled(AsyncIterator[Event]):
    """The stream of a control, and the streams that the control opened.

    Not a generator: each event would pass one more frame for each control.
    """

    __slots__ = ("__weakref__", "_closed", "_events", "_opened", "_proceed")

    def __init__(self, control: Control, call: Call, proceed: Handler) -> None:
        self._opened: list[AsyncIterator[Event]] = []
        self._proceed = proceed
        self._closed = False
        self._events = control(call, self._below)

    def _below(self, call: Call) -> AsyncIterator[Event]:
        stream = self._proceed(call)
        self._opened.append(stream)
        return stream

    def __anext__(self) -> Awaitable[Event]:
        return self._events.__anext__()

    async def aclose(self) -> None:
        """Close the control's stream, then the streams that it opened."""
        if self._closed:  # by the control outside, and the fold closes it again
            return
        try:
            await self._events.aclose()  # type: ignore[attr-defined]
        finally:
            if self._opened:
                await _close(self._opened)
        self._closed = True


async def _close(streams: list[AsyncIterator[Event]]) -> None:
    """Close every stream in reverse order, even if closing one of them fails; raise the last failure.

    A loop, because a call that is retried for hours has opened thousands.
    """
    failure: BaseException | None = None
    while streams:
        try:
            await streams.pop().aclose()  # type: ignore[attr-defined]
        except BaseException as error:  # noqa: BLE001 - it is raised when all are closed
            failure = error
    if failure is not None:
        raise failure


def fold(
    controls: Mapping[str, Control], leaf: Handler, *, positions: Sequence[Position] = POSITIONS
) -> Handler:
    """Combine the controls that apply to each operation, outermost first, and `leaf` into one handler.

    A call with an unknown operation is refused inside the controls that apply to every operation, so
    that the refusal is recorded. Raises ValueError if a control has no position.
    """
    if unknown := set(controls) - {position.name for position in positions}:
        raise ValueError(f"controls without a position: {sorted(unknown)}")

    def stack(operations: frozenset[str], handler: Handler) -> Handler:
        for position in reversed(positions):
            if position.name in controls and operations <= position.operations:
                handler = around(controls[position.name], handler)
        return handler

    stacks = {operation: stack(frozenset({operation}), leaf) for operation in OPERATIONS}
    refused = stack(OPERATIONS, _refuse)

    def handle(call: Call) -> AsyncIterator[Event]:
        return stacks.get(call.name, refused)(call)

    return handle


def _refuse(call: Call) -> AsyncIterator[Event]:
    known = sorted(name for name in OPERATIONS if name.startswith(f"{call.port}.")) or sorted(OPERATIONS)
    raise RefusedError(
        f"unknown operation {call.name!r}; the call was not made",
        hint=f"use one of these operations: {', '.join(known)}",
    )


def table(positions: Sequence[Position] = POSITIONS) -> str:
    """Return a text table of operations by controls, outermost first."""
    names = [position.name for position in positions]
    width = max(map(len, OPERATIONS))
    lines = [f"{'operation':<{width}}  {'  '.join(names)}"]
    for operation in sorted(OPERATIONS):
        cells = ["x" if operation in position.operations else "" for position in positions]
        row = "  ".join(f"{cell:<{len(name)}}" for cell, name in zip(cells, names, strict=True))
        lines.append(f"{operation:<{width}}  {row}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
