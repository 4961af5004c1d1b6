"""What all parts of the contract of memories need: new stores, and sentences on generated data."""

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
    """Mark a test that holds for whatever the strategies give; each suite asks its own number of examples."""

    def mark(test: _Test) -> _Test:
        test.strategies = strategies  # type: ignore[attr-defined]
        return test

    return mark


class StoreContract:
    """Gives the parts of the contract their stores; `examples` are generated for each property.

    A suite on a server sets fewer `examples`, `histories`, `steps` and `attempted`, to end in time.
    """

    open_store: ClassVar[Any]  # a static method: Callable[[Path], ports.MemoryStore]
    examples: ClassVar[int] = 20
    histories: ClassVar[int] = 15
    steps: ClassVar[int] = 25
    attempted: ClassVar[int] = 1000
    #: Whether a word's weight counts only what is in force. Where it counts all rows of a tenant, what is
    #: staged or of another version may move the hits of a hybrid search, but not change which they are.
    steady_words: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a property test of every sentence, with this suite's number of examples."""
        super().__init_subclass__(**options)
        for name in dir(cls):
            test = getattr(cls, name)
            plain = getattr(test, "plain", test)
            if hasattr(plain, "strategies"):
                setattr(cls, name, _generated(plain, cls.examples))

    @contextmanager
    def opened(self) -> Iterator[SyncStore]:
        """A new, empty store."""
        with tempfile.TemporaryDirectory() as folder:
            store = SyncStore(inner=self.open_store(Path(folder) / "memory"))
            try:
                yield store
            finally:
                store.close()

    @pytest.fixture
    def store(self) -> Iterator[SyncStore]:
        """A new, empty store."""
        with self.opened() as store:
            yield store

    @pytest.fixture
    def acme(self, store: SyncStore) -> SyncMemory:
        """One tenant of it."""
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
    asked = settings(max_examples=examples, deadline=None, suppress_health_check=checks)
    own: Any = asked(given(**plain.strategies)(test))
    own.plain = plain
    return own
