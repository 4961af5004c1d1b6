"""The contract on a real Weaviate: whole on the store itself, ten sentences through the stack."""

import pytest
from sizes import SOAK, histories
from weaviate_servers import open_store

from workbench.testing.contracts import DurableContract, governed

pytestmark = pytest.mark.usefixtures("weaviate")

#: What the stack may break on the way to a server. SQLite and the fake hold every sentence through it.
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
    examples, histories, steps, attempted, kills = 10, histories(8), 20, 200, 2
    steady_words = False


class TestWeaviateGoverned(DurableContract if SOAK else Smoke):
    open_store = staticmethod(governed(open_store))
    examples, histories, steps, attempted, kills = 4, 3, 12, 100, 1
    steady_words = False


def test_the_smoke_sentences_are_ten_of_the_contract():
    assert len(set(SMOKE)) == 10
    assert SENTENCES.issuperset(SMOKE)
