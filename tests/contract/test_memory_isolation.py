"""Seeded attempts to read another's items, on every store: none succeeds."""

import pytest
from sizes import ATTEMPTS
from weaviate_servers import open_store

from workbench import _sync
from workbench.memory.sqlite.store import SQLiteStore
from workbench.testing.fake_memory import FakeMemory, FakeStore
from workbench.testing.memory_isolation import CANARY, VICTIM, attempt_all, attempts, secrets
from workbench.testing.sync_memory import SyncStore


def test_of_all_attempts_none_succeeds_on_the_embedded_store(tmp_path):
    store = SQLiteStore(tmp_path / "memory", name="contract")
    assert attempt_all(store, number=ATTEMPTS, seed=1) > ATTEMPTS // 100
    store.close()


@pytest.mark.slow
@pytest.mark.usefixtures("weaviate")
def test_of_all_attempts_none_succeeds_on_weaviate(tmp_path):
    store = open_store(tmp_path)
    assert attempt_all(store, number=ATTEMPTS, seed=6) > ATTEMPTS // 100
    _sync.run(store.aclose())


def test_of_all_attempts_none_succeeds_on_the_fake():
    assert attempt_all(FakeStore(name="contract"), number=ATTEMPTS, seed=2) > ATTEMPTS // 100


def test_attempts_go_through_every_verb_and_are_the_same_for_the_same_seed():
    from workbench.ports import Memory

    made = list(attempts(2000, seed=3))
    assert made == list(attempts(2000, seed=3)) != list(attempts(2000, seed=4))
    assert {attempt.verb for attempt in made} == {n for n in vars(Memory) if n[0] != "_"} - {"tenant"}
    assert sum(attempt.tenant == VICTIM for attempt in made) > 800
    assert {attempt.verb for attempt in made if attempt.tenant == VICTIM} == {
        "search", "items", "count",
    }  # fmt: skip


@pytest.mark.parametrize("hole", ["groups", "clearance", "expiry", "tenants", "staged", "reading"])
def test_a_store_with_a_hole_is_detected(monkeypatch, hole):
    """The attempts can fail: each hole is a store that forgot one thing."""
    from workbench.memory import rules
    from workbench.testing import fake_memory

    honest = rules.visible
    free = {
        "groups": lambda item, query: {"access": query.groups or ("x",)},
        "clearance": lambda item, query: {"classification": 0},
        "expiry": lambda item, query: {"expires": None},
    }
    if hole in free:
        import dataclasses

        def leaky(item, query):
            return honest(dataclasses.replace(item, **free[hole](item, query)), query)

        monkeypatch.setattr(rules, "visible", leaky)
    elif hole == "reading":
        monkeypatch.setattr(rules, "readable", lambda item, requester: True)
        monkeypatch.setattr(rules, "visible", lambda item, query: item.source == "public")
    elif hole == "tenants":
        whole = FakeStore.tenant

        def confused(self, tenant):
            return whole(self, "acme" if tenant == "acm" else tenant)

        monkeypatch.setattr(FakeStore, "tenant", confused)
    else:
        honest_documents = fake_memory._Tenant.documents

        def early(self, version=None):
            return honest_documents(self, version) | self.staged

        monkeypatch.setattr(fake_memory._Tenant, "documents", early)
    with pytest.raises(AssertionError, match=r"returned a secret|changed the victim"):
        attempt_all(FakeStore(name="contract"), number=2000, seed=5)


def test_the_secrets_hold_the_canary_and_what_is_public_does_not():
    in_force, staged, written = secrets()
    for item in (*in_force, *staged, *written):
        assert (CANARY in item.text) == (item.source != "public")
    store = SyncStore(inner=FakeStore(name="contract"))
    assert isinstance(store.tenant(VICTIM).inner, FakeMemory)
