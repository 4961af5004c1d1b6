import functools

from workbench.memory.names import Names
from workbench.memory.sqlite import SQLiteStore
from workbench.testing.contracts import DurableContract, MemoryContract
from workbench.testing.fake_memory import FakeStore


class TestFake(MemoryContract):
    open_store = staticmethod(lambda path: FakeStore(name="contract"))


class TestSQLite(DurableContract):
    open_store = staticmethod(functools.partial(SQLiteStore, name="contract", names=Names(key=bytes(64))))
    examples = 8
