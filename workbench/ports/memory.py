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
    """One tenant's view of one memory. A view never changes its tenant.

    *Knowledge* (items of kind `document`) comes from sources and has versions: staged items are invisible
    until `publish` makes them the active version, at once and as a whole. All other items are *episodic*:
    `remember` writes them, within a budget, and they are active at once.
    `now` is a UTC instant like 2026-11-25T06:00:00Z: a store has no clock.
    """

    @property
    def tenant(self) -> str:
        """The tenant that the items belong to; it never changes."""

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Make documents active, in place of the earlier documents of the same sources.

        One call takes all items of a source. The same items again make no new version.
        """

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that are neither active nor staged, in the order given."""

    async def stage(self, items: Iterable[Item]) -> int:
        """Stage documents durably for the next version; return the number of new ones."""

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Make exactly these documents the active version; ConfigError unless each is active or staged.

        Other staged items are removed. The same ids again change nothing.
        """

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds (`rules.eviction_order`).

        NotFoundError, and nothing is written, unless each of `while_there` is active in the same transaction:
        a derived item is refused, or stored and forgotten together with its parents.
        """

    async def search(self, query: Query) -> list[Hit]:
        """Return at most `k` valid hits that the requester may see, best first."""

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Count the active items, or those of `ids`, that the requester may see.

        Without a requester every item counts, expired or not.
        """

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Return the items of a version (None: the active one) that the requester may see, in id order.

        Without a requester it returns every item, expired or not. NotFoundError when the version is not kept.
        """

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and the items derived from them, from every version at once."""

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold, later items too; return the number covered now."""

    async def release(self, what: Selector) -> int:
        """End the hold made with the same selector; return the number of items it covered."""

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove expired items, and items that are in none of the last `keep_versions` versions."""

    async def versions(self) -> list[MemoryVersion]:
        """Return the kept versions, oldest first; the last is active."""

    async def stats(self, *, now: str) -> MemoryStats:
        """Count the tenant's items by kind and state."""


@runtime_checkable
class MemoryStore(Protocol):
    """One memory in one store, for all its tenants."""

    @property
    def name(self) -> str:
        """The memory's name."""

    def tenant(self, tenant: str) -> Memory:
        """Return one tenant's view, without a request to the store."""

    async def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted."""

    async def aclose(self) -> None:
        """Close files and connections; closing twice is fine."""


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
