import functools

import pytest

from workbench.memory.sqlite import SQLiteStore
from workbench.testing.durable_contract import DurableContract
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_contract import MemoryContract

pytestmark = pytest.mark.contract


class TestSQLite(DurableContract):
    open_store = functools.partial(SQLiteStore, name="contract")


class TestFake(MemoryContract):
    def open_store(self, path):
        return FakeStore(name="contract")
