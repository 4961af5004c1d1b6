"""Base of the memory contract: new stores, and property tests with a number of examples for each suite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.testing.sync_memory import SyncMemory, SyncStore

_Test = Callable[..., None]


def sentence(**strategies: st.SearchStrategy[Any]) -> Callable[[_Test], _Test]:
    """Mark a test as a property of generated data; each suite sets its number of examples."""

    def mark(test: _Test) -> _Test:
        test.strategies = strategies  # type: ignore[attr-defined]
        return test

    return mark


class StoreContract:
    """Opens a new store for each test; `examples` are generated for each property.

    A suite on a server sets fewer `examples`, `histories`, `steps` and `attempted`, to end in time.
    """

    open_store: ClassVar[Any]  # a static method: Callable[[Path], ports.MemoryStore]
    examples: ClassVar[int] = 20
    histories: ClassVar[int] = 15
    steps: ClassVar[int] = 25
    attempted: ClassVar[int] = 1000
    #: Whether the weight of a word depends on active items only. Where it depends on all rows of a tenant,
    #: staged items and other versions may reorder the hits of a hybrid search, but not replace them.
    steady_words: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a property test of each marked test, with this suite's number of examples."""
        super().__init_subclass__(**options)
        for name in dir(cls):
            test = getattr(cls, name)
            plain = getattr(test, "plain", test)
            if hasattr(plain, "strategies"):
                setattr(cls, name, _generated(plain, cls.examples))

    @contextmanager
    def opened(self) -> Iterator[SyncStore]:
        """Open a new, empty store."""
        with (
            tempfile.TemporaryDirectory() as folder,
            SyncStore(inner=self.open_store(Path(folder) / "memory")) as store,
        ):
            yield store

    @pytest.fixture
    def store(self) -> Iterator[SyncStore]:
        """Open a new, empty store."""
        with self.opened() as store:
            yield store

    @pytest.fixture
    def acme(self, store: SyncStore) -> SyncMemory:
        """Return one tenant of a new store."""
        return store.tenant("acme")


def _generated(plain: Any, examples: int) -> Any:
    """Return a property test that gives `plain` its first argument, a new `store` or `acme`, each time."""
    first = plain.__code__.co_varnames[1]

    def test(self: StoreContract, **drawn: Any) -> None:
        with self.opened() as store:
            given = {"store": store, "acme": store.tenant("acme")}
            plain(self, **{first: given[first]} if first in given else {}, **drawn)

    test.__name__, test.__qualname__, test.__module__ = plain.__name__, plain.__qualname__, plain.__module__
    checks = [HealthCheck.differing_executors]
    profile = settings(max_examples=examples, deadline=None, suppress_health_check=checks)
    own: Any = profile(given(**plain.strategies)(test))
    own.plain = plain
    return own
