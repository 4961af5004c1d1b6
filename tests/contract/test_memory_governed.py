"""The same sentences with every verb sent through the stack, and what the stack remembers of them."""

import functools

import orjson
import pytest
from sizes import SOAK

from workbench.controls import stack
from workbench.errors import ConfigError, UnavailableError
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Budget, Memory, Selector
from workbench.testing.contracts import DurableContract, governed
from workbench.testing.fake_memory import FakeStore
from workbench.testing.governed_memory import CALLS
from workbench.testing.memory_items import NOW, make_episode, make_item, make_query
from workbench.testing.sync_memory import SyncStore

open_fake = governed(lambda path: FakeStore(name="contract"))


class TestSQLiteGoverned(DurableContract):
    open_store = staticmethod(governed(functools.partial(SQLiteStore, name="contract")))
    examples, histories, kills = (4, 5, 2) if SOAK else (3, 3, 1)
    attempted = 1000 if SOAK else 300


VERBS = {name for name in vars(Memory) if not name.startswith("_")} - {"tenant"}


def records(tmp_path):
    return [orjson.loads(line) for line in (tmp_path / CALLS).read_bytes().splitlines()]


def every_verb(memory):
    """Each verb once, with content and names that no record may hold."""
    item, written = make_item("canary-text", subject="canary-subject"), make_episode("canary-words")
    memory.stage([item])
    memory.publish([*memory.missing([]), item.id], now=NOW)
    memory.add([item], now=NOW)
    memory.remember([written], budget=Budget(items=5), now=NOW)
    memory.search(make_query("canary-text"))
    memory.count()
    memory.items()
    memory.versions()
    memory.hold(Selector(subject="canary-subject"))
    memory.release(Selector(subject="canary-subject"))
    memory.purge(now=NOW, keep_versions=1)
    memory.forget(Selector(subject="canary-subject"), now=NOW)
    memory.stats(now=NOW)


def test_every_verb_of_the_port_has_its_row_and_is_watched():
    observe = next(position for position in stack.POSITIONS if position.name == "observe")
    assert observe.operations >= {f"memory.{verb}" for verb in VERBS}


def test_each_verb_leaves_one_record_and_no_content(tmp_path):
    store = SyncStore(inner=open_fake(tmp_path / "memory"))
    every_verb(store.tenant("acme"))
    seen = records(tmp_path)
    assert {record["operation"] for record in seen} == VERBS
    assert len(seen) == len(VERBS)
    assert {(r["tenant"], r["outcome"], r["target"]) for r in seen} == {("acme", "ok", "contract")}
    assert b"canary" not in (tmp_path / CALLS).read_bytes()


def test_a_refused_verb_leaves_its_record_too(tmp_path):
    store = SyncStore(inner=open_fake(tmp_path / "memory"))
    with pytest.raises(ConfigError):
        store.tenant("acme").forget(Selector())
    assert [(r["outcome"], r["error"]) for r in records(tmp_path)] == [("failed", "ConfigError")]


@pytest.mark.parametrize(("verb", "attempts"), [("count", 2), ("purge", 1)])
def test_reads_are_retried_while_a_store_is_unavailable_and_writes_are_not(
    tmp_path, monkeypatch, verb, attempts
):
    asked = []

    class Away:
        async def _fail(self, **arguments):
            asked.append(arguments)
            raise UnavailableError("the store is away")

        count = purge = _fail

    store = open_fake(tmp_path / "memory")
    monkeypatch.setattr(FakeStore, "tenant", lambda self, tenant: Away())
    memory = SyncStore(inner=store).tenant("acme")
    with pytest.raises(UnavailableError):
        memory.count() if verb == "count" else memory.purge(now=NOW, keep_versions=1)
    assert len(asked) == attempts
    assert len(records(tmp_path)) == 1
