"""The context of a call (principal, tenant, purpose, clock) and the invocation that it is part of."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from workbench import rehearsal
from workbench.identity import GrantScope, Principal
from workbench.types import Hit

_INSTANT = "%Y-%m-%dT%H:%M:%SZ"
#: The grant of a process that asks for itself.
_OWN_PROCESS = GrantScope()


class Clock(Protocol):
    """A source of time, which tests and replays can replace."""

    def now(self) -> dt.datetime:
        """Return the time of the wall clock in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never decrease, for durations and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""


class SystemClock:
    """The clocks of the machine; in a rehearsal of schedules, the wall clock is that of the rehearsal."""

    def now(self) -> dt.datetime:
        """Return the time of the wall clock in UTC."""
        return rehearsal.time_now() or dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Return seconds that never decrease."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        import asyncio

        await asyncio.sleep(seconds)


def instant(when: dt.datetime) -> str:
    """Return a time as stores and snapshots hold it: UTC in whole seconds, as 2026-11-25T06:00:00Z."""
    return when.astimezone(dt.UTC).strftime(_INSTANT)


def moment(text: str) -> dt.datetime:
    """Return the time of an instant such as 2026-11-25T06:00:00Z; ValueError for another text."""
    return dt.datetime.strptime(text, _INSTANT).replace(tzinfo=dt.UTC)


def is_instant(text: str) -> bool:
    """Whether `text` is an instant in canonical form, so that instants can be compared as texts."""
    try:
        return instant(moment(text)) == text
    except (TypeError, ValueError):
        return False


def new_id() -> str:
    """Return 128 random bits in hexadecimal digits, as an OpenTelemetry trace id."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The principal, tenant, use case, purpose, phase and clock of a call.

    `job` and `run` name the job and the run that the call is part of, and `session` the journey of a user;
    they are empty for a call outside of one. `subject` is the person whom the call is about, "" for nobody.
    `grant` says how the caller was let in, and what its calls are limited to.
    """

    use_case: str
    tenant: str
    principal: Principal
    purpose: str
    phase: str = "mvp"
    job: str = ""
    run: str = ""
    session: str = ""
    subject: str = ""
    grant: GrantScope = _OWN_PROCESS
    clock: Clock = field(default_factory=SystemClock)

    @property
    def api_key(self) -> str:
        """The id of the API key that the caller has; "" without one."""
        return self.grant.api_key

    def of_control(self) -> Context:
        """Return the context of a call that a control makes for this one, which may ask other models."""
        if self.grant.models is None:
            return self
        return replace(self, grant=replace(self.grant, models=None))


@dataclass(slots=True, kw_only=True)
class InvocationScope:
    """One invocation of a task on one case, which distinguishes recordings of identical requests.

    Identical requests inside an invocation are numbered in their order; the number is part of a recording's
    key. `parent` is the trace id of the invocation, and `error` the type of the error that ended its task.
    `records` are the call records of the invocation, without content. `passages` are those of its prompts,
    for scorers, and stay in this process's memory. `columns` are the inputs of the case by their names.
    `ending` are called when the invocation ends.
    """

    case: str = ""
    repeat: int = 0
    task: str = ""
    parent: str | None = field(default_factory=new_id)
    error: str | None = None
    began_ns: int = field(default_factory=time.time_ns)
    records: list[dict[str, Any]] = field(default_factory=list)
    passages: list[Hit] = field(default_factory=list)
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ending: list[Callable[[InvocationScope], None]] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def number(self, request_digest: str) -> int:
        """Return the number of earlier identical requests in this invocation."""
        n = self._seen.get(request_digest, 0)
        self._seen[request_digest] = n + 1
        return n


_invocation: contextvars.ContextVar[InvocationScope | None] = contextvars.ContextVar(
    "workbench_occurrence", default=None
)


def current_invocation() -> InvocationScope | None:
    """Return the active invocation, or None outside an experiment and a job."""
    return _invocation.get()


def invocation_scope(value: InvocationScope) -> AbstractContextManager[InvocationScope]:
    """Run a block as one invocation."""
    return _Invocation(value)


class _Invocation:
    """The block of an invocation. Not a generator, which takes twice as long."""

    __slots__ = ("_scope", "_token")

    def __init__(self, value: InvocationScope) -> None:
        self._scope = value

    def __enter__(self) -> InvocationScope:
        self._token = _invocation.set(self._scope)
        return self._scope

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._scope.error = kind.__name__
        _invocation.reset(self._token)
        for end in self._scope.ending:
            end(self._scope)


class RunScope:
    """One run of a task over many items, whose calls share the run's limits."""

    __slots__ = ("__weakref__",)

    @staticmethod
    def current() -> RunScope | None:
        """Return the active run, or None outside of one."""
        return _run.get()

    @staticmethod
    @contextlib.contextmanager
    def entered() -> Iterator[RunScope]:
        """Run a block as one run."""
        scope = RunScope()
        token = _run.set(scope)
        try:
            yield scope
        finally:
            _run.reset(token)


def resumed(invocation: InvocationScope | None, run: RunScope | None) -> AbstractContextManager[None]:
    """Run a block as part of an invocation and of a run, which go on after it."""
    return _Resumed(invocation, run)


class _Resumed:
    """The block of `resumed`, which surrounds each step of a call: not a generator, which takes longer.

    It resets no token, because the steps of a stream may run in several contexts.
    """

    __slots__ = ("_before", "_values")

    def __init__(self, invocation: InvocationScope | None, run: RunScope | None) -> None:
        self._values = invocation, run

    def __enter__(self) -> None:
        self._before = _invocation.get(), _run.get()
        _invocation.set(self._values[0])
        _run.set(self._values[1])

    def __exit__(self, *_: object) -> None:
        _invocation.set(self._before[0])
        _run.set(self._before[1])


_run: contextvars.ContextVar[RunScope | None] = contextvars.ContextVar("workbench_run", default=None)
