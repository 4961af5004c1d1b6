import functools

from sizes import SOAK, histories

from workbench.memory.sqlite.store import SQLiteStore
from workbench.testing.contracts import DurableContract, MemoryContract
from workbench.testing.fake_memory import FakeStore


class TestFake(MemoryContract):
    open_store = staticmethod(lambda path: FakeStore(name="contract"))
    examples, histories, attempted = 20 if SOAK else 6, histories(10), 1000 if SOAK else 200


class TestSQLite(DurableContract):
    open_store = staticmethod(functools.partial(SQLiteStore, name="contract"))
    examples, histories = 8 if SOAK else 5, histories(10)
    attempted, kills = (1000, 4) if SOAK else (200, 2)


def test_at_least_half_of_at_least_40_sentences_hold_for_generated_data():
    sentences = [getattr(DurableContract, name) for name in dir(DurableContract) if name.startswith("test_")]
    generated = [one for one in sentences if hasattr(one, "plain")]
    assert len(sentences) >= 40
    assert len(generated) >= len(sentences) / 2
    assert hasattr(DurableContract, "test_any_history_agrees_with_the_fake")
