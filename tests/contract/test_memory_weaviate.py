"""The contract on a real Weaviate: whole on the store itself, ten sentences through the stack."""

import pytest
from sizes import SOAK, histories
from weaviate_servers import open_store

from workbench.memory.weaviate import objects
from workbench.ports import Budget, Requester
from workbench.ports.item_filter import at_most, one_of
from workbench.testing.contracts import DurableContract, governed
from workbench.testing.memory_items import NOW, make_episode, make_item, make_query
from workbench.testing.sync_memory import SyncStore

pytestmark = pytest.mark.usefixtures("weaviate")

#: What the stack may break on the way to a server. SQLite holds every sentence through it.
SMOKE = (
    "test_an_added_item_is_found_with_its_provenance",
    "test_every_field_of_an_item_is_kept",
    "test_a_tenant_never_sees_another",
    "test_no_attempt_reads_across_tenants_or_access_lists",
    "test_a_search_finds_what_access_clearance_and_days_allow",
    "test_a_staged_item_is_invisible_until_published",
    "test_a_search_of_an_earlier_version_is_unchanged",
    "test_a_remembered_item_is_found_at_once_with_its_trust",
    "test_a_hold_blocks_forget_purge_and_eviction",
    "test_a_forgotten_item_is_never_found",
)
SENTENCES = {name for name in dir(DurableContract) if name.startswith("test_")}
Smoke = type("Smoke", (DurableContract,), dict.fromkeys(SENTENCES.difference(SMOKE)))


class TestWeaviate(DurableContract):
    open_store = staticmethod(open_store)
    examples, histories, steps, attempted = 10 if SOAK else 3, histories(4), 20, 200
    kills = 2 if SOAK else 1  # test_memory_killed kills at chosen requests
    steady_words = False


class TestWeaviateGoverned(DurableContract if SOAK else Smoke):
    open_store = staticmethod(governed(open_store))
    examples, histories, steps, attempted, kills = 4 if SOAK else 2, 3, 12, 100, 1
    steady_words = False


def test_the_smoke_sentences_are_ten_of_the_contract():
    assert len(set(SMOKE)) == 10
    assert SENTENCES.issuperset(SMOKE)


def test_rows_of_an_older_workbench_are_found_by_groups_and_by_no_condition_on_their_owner(
    tmp_path, monkeypatch
):
    """They have no entries for owner and trust: a condition on these does not find them, nor its negation."""
    with SyncStore(inner=open_store(tmp_path / "memory")) as store:
        acme = store.tenant("acme")
        with monkeypatch.context() as older:
            older.setattr(objects, "_marks", lambda item: [])
            old = acme.add([make_item("taxi", owner="ada")]) and acme.items()[0]
        new = make_episode("taxi", owner="ada")
        acme.remember([new], budget=Budget(), now=NOW)
        assert {hit.id for hit in acme.search(make_query("taxi"))} == {old.id, new.id}
        assert [(item.owner, item.access) for item in acme.items()] == [("ada", ("everyone",))] * 2
        for where, found in (
            (one_of("owner", ["ada"]), [new.id]),
            (one_of("owner", ["eve"]).negated(), [new.id]),
            (at_most("trust", 3), [new.id]),
            (one_of("source", ["page"]), [old.id]),
        ):
            query = make_query("taxi", groups=(), where=where)
            assert [hit.id for hit in acme.search(query)] == found
            assert acme.count(requester=Requester(groups=(), now=NOW, where=where)) == len(found)
