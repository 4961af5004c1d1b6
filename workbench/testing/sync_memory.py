"""Call a memory from tests that are not async: every verb waits for its result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from workbench import _sync
from workbench.ports import Memory, MemoryStore

P = ParamSpec("P")
T = TypeVar("T")


def _waited(
    verb: Callable[Concatenate[Memory, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncMemory, P], T]:
    """Make a verb of `SyncMemory` with the signature and docstring of the port's."""
    name = verb.__name__

    @functools.wraps(verb)
    def waited(self: SyncMemory, /, *args: P.args, **kwargs: P.kwargs) -> T:
        done: T = _sync.run(getattr(self.inner, name)(*args, **kwargs))
        return done

    return waited


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMemory:
    """The verbs of `ports.Memory`, as blocking calls."""

    inner: Memory

    @property
    def tenant(self) -> str:
        """The tenant that the items belong to."""
        return self.inner.tenant

    add = _waited(Memory.add)
    missing = _waited(Memory.missing)
    stage = _waited(Memory.stage)
    publish = _waited(Memory.publish)
    remember = _waited(Memory.remember)
    search = _waited(Memory.search)
    count = _waited(Memory.count)
    items = _waited(Memory.items)
    forget = _waited(Memory.forget)
    hold = _waited(Memory.hold)
    release = _waited(Memory.release)
    purge = _waited(Memory.purge)
    versions = _waited(Memory.versions)
    stats = _waited(Memory.stats)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStore:
    """The verbs of `ports.MemoryStore`, as blocking calls."""

    inner: MemoryStore

    def tenant(self, tenant: str) -> SyncMemory:
        """Return one tenant's view."""
        return SyncMemory(inner=self.inner.tenant(tenant))

    def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted."""
        return _sync.run(self.inner.tenants())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; closing twice is fine."""
        _sync.run(self.inner.aclose())
