"""The context of a call: principal, tenant, purpose and clock; and its occurrence."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.identity import Principal
from workbench.types import Hit

INSTANT = "%Y-%m-%dT%H:%M:%SZ"


class Clock(Protocol):
    """Time, given from outside so that tests and replays can choose it."""

    def now(self) -> dt.datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> dt.datetime:
        """The wall clock, in UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""
        import asyncio

        await asyncio.sleep(seconds)


def instant(when: dt.datetime) -> str:
    """A moment as stores and snapshots hold it: UTC to the second, as 2026-11-25T06:00:00Z."""
    return when.astimezone(dt.UTC).strftime(INSTANT)


def moment(text: str) -> dt.datetime:
    """The moment of an instant; ValueError for any other text."""
    return dt.datetime.strptime(text, INSTANT).replace(tzinfo=dt.UTC)


def is_instant(text: str) -> bool:
    """Whether `text` is an instant in its one form, so that instants compare as texts."""
    try:
        return instant(moment(text)) == text
    except ValueError:
        return False


def new_id() -> str:
    """128 random bits as hex: the form of an OpenTelemetry trace id."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The principal, tenant, use case, purpose, phase and clock of a call."""

    use_case: str
    tenant: str
    principal: Principal
    purpose: str
    phase: str = "mvp"
    clock: Clock = field(default_factory=SystemClock)


@dataclass(slots=True, kw_only=True)
class InvocationScope:
    """One run of a task over one case: distinguishes recordings of identical requests.

    Identical requests inside one occurrence are numbered in the order they are made; the number
    is part of a recording's key. `records` are the observations made meanwhile, without content;
    `passages` are the prompts' passages for scorers, kept in memory only.
    """

    case: str = ""
    repeat: int = 0
    parent: str | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    passages: list[Hit] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)

    def number(self, request_digest: str) -> int:
        """Return the number of earlier identical requests in this occurrence."""
        n = self._seen[request_digest]
        self._seen[request_digest] += 1
        return n


_invocation: contextvars.ContextVar[InvocationScope | None] = contextvars.ContextVar(
    "workbench_occurrence", default=None
)


def current_invocation() -> InvocationScope | None:
    """The occurrence this code runs in, if an experiment or a job started one."""
    return _invocation.get()


@contextlib.contextmanager
def invocation_scope(value: InvocationScope) -> Iterator[InvocationScope]:
    """Run a block as one occurrence."""
    token = _invocation.set(value)
    try:
        yield value
    finally:
        _invocation.reset(token)
