"""The memory port: one tenant's verbs, the store of all tenants, and a base for wrappers of a memory."""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

from workbench.ports.memory_values import (
    Added,
    Budget,
    Forgotten,
    MemoryStats,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.types import Hit, Item

P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class Memory(Protocol):
    """One tenant's view of one memory. The tenant was bound when the view was made.

    *Knowledge* (items of kind `document`) comes from sources and has versions: what is staged is
    invisible until `publish` moves the tenant's version pointer, at once and as a whole. Everything
    else is *episodic*: written by use with `remember`, within a budget, in force at once.
    `now` is a UTC instant like 2026-11-25T06:00:00Z: a store has no clock.
    """

    @property
    def tenant(self) -> str:
        """Whose items these are; it never changes."""

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Put documents in force. All items of a source are given together: its older ones go.

        Idempotent: a new version only if anything changed.
        """

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged, in the order given."""

    async def stage(self, items: Iterable[Item]) -> int:
        """Make documents a part of the next version, invisibly and durably; how many were new."""

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents; each is in force or staged.

        What else was staged goes. The same ids again change nothing.
        """

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds (`rules.eviction_order`).

        NotFoundError, and nothing is written, unless each of `while_there` is in force at that moment:
        what is made of them is either refused or there to be forgotten with them.
        """

    async def search(self, query: Query) -> list[Hit]:
        """At most `k` hits that the requester may see and that are valid, best first."""

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force, or how many of `ids` are: what the requester sees; without one, expired or not."""

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force (or in an earlier version), in the order of their ids.

        Those the requester sees; without one, all of them, expired or not.
        """

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version at once."""

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold, later items too; how many there are now."""

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; how many items it held."""

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only older versions than the last `keep_versions` hold."""

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""


@runtime_checkable
class MemoryStore(Protocol):
    """One memory in one store, for all its tenants."""

    @property
    def name(self) -> str:
        """The memory's name."""

    def tenant(self, tenant: str) -> Memory:
        """One tenant's view; nothing is asked yet."""

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""

    async def aclose(self) -> None:
        """Give back files and connections; closing twice is fine."""


def _sent(
    verb: Callable[Concatenate[Memory, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[MemoryVerbs, P], Coroutine[Any, Any, T]]:
    """Make a verb of `MemoryVerbs` with the signature and docstring of the port's."""
    name, signature = verb.__name__, inspect.signature(verb)

    @functools.wraps(verb)
    async def sent(self: MemoryVerbs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        done: T = await self._invoke(name, dict(list(bound.arguments.items())[1:]))
        return done

    return sent


class MemoryVerbs(abc.ABC):
    """Every verb of `Memory`, sent to one method; a wrapper overrides the verbs that it changes."""

    __slots__ = ()

    @abc.abstractmethod
    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Answer a verb, given its name and all its arguments by name."""

    add = _sent(Memory.add)
    missing = _sent(Memory.missing)
    stage = _sent(Memory.stage)
    publish = _sent(Memory.publish)
    remember = _sent(Memory.remember)
    search = _sent(Memory.search)
    count = _sent(Memory.count)
    items = _sent(Memory.items)
    forget = _sent(Memory.forget)
    hold = _sent(Memory.hold)
    release = _sent(Memory.release)
    purge = _sent(Memory.purge)
    versions = _sent(Memory.versions)
    stats = _sent(Memory.stats)
