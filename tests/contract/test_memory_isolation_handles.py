"""The same secrets behind handles: everything a workspace gives is tried, controls, snapshots and all."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import shutil
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from memory_bench import write_page
from secret_house import ALL, ROOT, House
from sizes import ATTEMPTS, SOAK

from workbench import _sync
from workbench.config import MemoryServer
from workbench.errors import PolicyError, RefusedError, WorkbenchError
from workbench.identity import Principal
from workbench.layout import CALLS
from workbench.memory.cipher import IdCipher
from workbench.memory.snapshot import open_snapshot
from workbench.ports import Budget, Query, Requester, Selector, written_id
from workbench.records.log import read_records
from workbench.testing.memory_isolation import CANARY, OUTSIDERS, VICTIM, readable_by_all, secrets
from workbench.testing.memory_items import HOSTILE, HOSTILE_NAMES, NOW, make_episode, make_item

LISTS = ("everyone", "", "*", "staf", "staff ", "Staff", "board' OR '1'='1")


def drawn_handle(house, drawn):
    """Somebody on none of the victim's lists, or who keeps another tenant and names all of its groups."""
    if drawn.random() < 0.6:
        groups = tuple(drawn.sample(LISTS, drawn.randint(0, 3)))
        who = Principal(
            name=drawn.choice(("eve", "ann", "anna ")), groups=groups, clearance=drawn.randint(0, 4)
        )
        return house.handle(VICTIM, who)
    who = Principal(name="anna", groups=ALL, clearance=9, admin=True, assurance="authenticated")
    return house.handle(drawn.choice(OUTSIDERS), who)


def drawn_query(drawn, known):
    """A search of the port itself, that names any requester."""
    text = drawn.choice((CANARY, "taxi", *HOSTILE[:20]))
    return Query(
        text=text, vector=drawn.choice(known).vector, k=100, groups=ALL,
        clearance=9, now=drawn.choice((None, "1900-01-01T00:00:00Z")), as_of="2125-06-15",
        version=drawn.choice((None, 0, 1, 2)), mode=drawn.choice(("hybrid", "vector", "words")),
        exact=drawn.random() < 0.5,
    )  # fmt: skip


def verbs(house, handle, drawn, known):
    """Every verb of a handle and of its views, as coroutines; the same drawing draws the same."""
    ids = drawn.sample([item.id for item in known], 3)
    name = drawn.choice((CANARY, "cust-1", "secret-1", VICTIM, *HOSTILE_NAMES))
    how = drawn.choice(({"ids": ids}, {"subject": name}, {"source": name}))
    text = drawn.choice((CANARY, f'"{CANARY}"', "taxi", *HOSTILE[:20], *HOSTILE_NAMES))
    narrowed = {
        "k": drawn.choice((1, 5, 100)),
        "as_of": drawn.choice((None, "2125-06-15", "2000-01-01")),
        "version": drawn.choice((None, None, 0, 1, 2)),
        "sources": drawn.choice(((), ("secret-0", "secret-1", "next"), HOSTILE_NAMES)),
    }
    requester = Requester(
        groups=ALL, clearance=9, now=drawn.choice(("1900-01-01T00:00:00Z", "2125-06-15T12:00:00Z"))
    )
    place = house.folder / f"taken-{drawn.random()}"
    what = Selector(**how if "ids" not in how else {"ids": tuple(ids)})
    view = drawn.choice((handle.view, handle.unfiltered))
    at = drawn.choice((0, 1, 2))
    return {
        "search": partial(handle.search_async, text, **narrowed),
        "at": partial(handle.at(at).search_async, text, k=100),
        "view.search": partial(view.search, drawn_query(drawn, known)),
        "view.items": partial(
            view.items, drawn.choice((None, 0, 1)), requester=drawn.choice((requester, None))
        ),
        "view.count": partial(view.count, ids, requester=drawn.choice((requester, None))),
        "view.missing": partial(view.missing, ids),
        "view.forget": partial(view.forget, what, dry_run=drawn.random() < 0.5),
        "view.publish": partial(view.publish, ids, now=NOW),
        "view.remember": partial(
            view.remember, [forged(handle, drawn, known)], budget=Budget(items=0), now=NOW,
            while_there=ids[: drawn.randint(0, 1)],
        ),
        "view.add": partial(view.add, [make_item("taxi outside", source="outside")], now=NOW),
        "view.stage": partial(view.stage, [make_item("taxi outside", source="outside")]),
        "view.hold": partial(view.hold, what),
        "view.release": partial(view.release, what),
        "view.purge": partial(view.purge, now="2999-12-31T23:59:59Z", keep_versions=1),
        "view.stats": partial(view.stats, now=NOW),
        "count": handle.count_async,
        "versions": handle.versions_async,
        "diff": partial(handle.diff_async, 0, 1),
        "diff_sources": handle.diff_sources_async,
        "stats": handle.stats_async,
        "snapshot": partial(taken, handle, place),
        "restore": partial(handle.restore_async, drawn.choice((1, str(house.folder / "stolen"), place))),
        "remember": partial(handle.remember_async, "taxi outside", parents=ids[: drawn.randint(0, 2)]),
        "forget": partial(handle.forget_async, **how, dry_run=drawn.random() < 0.5),
        "hold": partial(handle.hold_async, **how),
        "release": partial(handle.release_async, **how),
        "purge": handle.purge_async,
        "ingest": handle.ingest_async,
    }  # fmt: skip


def forged(handle, drawn, known):
    """An item as its writer would stamp it, or with what is another's."""
    own = make_episode("taxi outside", owner=handle.context.principal.name, trust=1, source="outside")
    own = dataclasses.replace(own, id=written_id(handle.tenant, own))
    return drawn.choice((own, dataclasses.replace(own, id=drawn.choice(known).id), make_episode("taxi")))


async def taken(handle, place):
    """What a snapshot that was written holds."""
    await handle.snapshot_async(place)
    snapshot = open_snapshot(place)
    items = await snapshot.tenant(handle.tenant).items()
    await snapshot.aclose()
    return items


async def attempt(handle, name, verb):
    """Which verb it was and how it ended; AssertionError when it told a secret."""
    try:
        answer = await verb()
    except WorkbenchError as error:
        told, ended = f"{error} {error.__cause__!r} {error.__context__!r}", type(error).__name__
    else:
        told, ended = repr(shown(handle, answer)), "answered"
    assert CANARY not in told, f"{name} by {handle.context.principal}: {told[:300]}"
    if handle.tenant != VICTIM:
        assert "secret-" not in told or ended != "answered", f"{name}: {told[:300]}"
    return name, ended, "taxi for everyone" in told


def shown(handle, answer):
    """An answer without what anybody may read: what is not valid on a day is hidden from searches alone."""
    if not isinstance(answer, list) or handle.tenant != VICTIM:
        return answer
    return [
        one for one in answer if getattr(one, "id", None) not in readable_by_all() or CANARY not in one.text
    ]


def attempt_all(house, number, *, seed, only=None):
    """How often each verb ended in which way, and how many found what everybody may see."""
    drawn = random.Random(seed)
    known = list(itertools.chain(*secrets()))
    ends, found = Counter(), 0
    before = house.secrets_there() if only is None else None

    async def some(size):
        todo = []
        for _ in range(size):
            handle = drawn_handle(house, drawn)
            given = verbs(house, handle, drawn, known)
            name = drawn.choice(only or [*given, "search", "search", "view.search", "view.items"])
            todo.append(attempt(handle, name, given[name]))
        return await asyncio.gather(*todo)

    for _ in range(0, number, 16):
        for name, ended, public in _sync.run(some(16)):
            ends[name, ended] += 1
            found += public
    assert before is None or house.secrets_there() == before, "a verb changed what the victim holds"
    return ends, found


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    made.fill()
    yield made
    made.close()


def was_hard(ends, found):
    """Every verb was tried; those that read were answered, those that keep were refused to who may not."""
    tried = Counter(name for name, _ in ends.elements())
    assert min(tried.values()) > ATTEMPTS // 500 and len(tried) == 28
    assert all(ends[name, "answered"] for name in ("search", "at", "view.search", "view.items", "count"))
    for name in ("snapshot", "restore", "forget", "hold", "release", "purge", "stats", "view.missing"):
        assert ends[name, "PolicyError"], name
    assert found > ATTEMPTS // 200


def test_of_all_attempts_through_handles_none_succeeds_on_the_embedded_store(house):
    was_hard(*attempt_all(house, ATTEMPTS, seed=1))


@pytest.mark.slow
def test_of_all_attempts_through_handles_none_succeeds_on_weaviate(tmp_path, weaviate):
    server = MemoryServer(url=weaviate.address.url, grpc=f"127.0.0.1:{weaviate.address.grpc_port}")
    made = House(tmp_path, server=server)
    made.fill()
    was_hard(*attempt_all(made, ATTEMPTS, seed=2))
    made.close()


def test_the_last_snapshot_of_a_server_that_is_away_tells_no_more(house):
    """The house's own snapshot stands in for a server that nobody answers at."""
    away = House(
        house.folder, server=MemoryServer(url="http://127.0.0.1:9", grpc="127.0.0.1:10"), fallback=True
    )
    ends, found = attempt_all(away, 48 if SOAK else 32, seed=5, only=["search", "view.search"])
    assert found and ends["search", "answered"]
    away.close()


@pytest.mark.parametrize("hole", ["groups", "admin"])
def test_a_control_with_a_hole_is_detected(house, monkeypatch, hole):
    from workbench.controls import access, policy

    if hole == "groups":
        monkeypatch.setattr(access.Access, "_limited", lambda self, call, requester: requester)
        monkeypatch.setattr(access.Access, "_exact", lambda self, call, items: [])
    else:
        monkeypatch.setattr(access.Access, "_check_all", lambda self, call: None)
        permitted = SimpleNamespace(allowed=True, decision=None, request=None)
        monkeypatch.setattr(policy.PolicyControl, "_noted", lambda self, call: permitted)
    with pytest.raises(AssertionError, match=r"by user:|changed what the victim"):
        attempt_all(house, 2_000, seed=4)


def test_a_filter_with_a_hole_gives_nothing_away(house, monkeypatch):
    """The exact decision on each hit is made by the policies, whatever the store was asked for."""
    from workbench.controls import access

    monkeypatch.setattr(access.Access, "_limited", lambda self, call, requester: requester)
    ends, _ = attempt_all(house, 96, seed=4, only=["view.search", "view.items"])
    assert ends["view.search", "PolicyError"] and ends["view.items", "PolicyError"]


def test_a_principal_who_is_no_admin_learns_who_is(house):
    with pytest.raises(RefusedError, match="admin of the memory"):
        house.handle(VICTIM, Principal(name="eve")).snapshot()
    assert isinstance(house.boundary.stores.names(), IdCipher)


OWN_ONLY = """
@id("own") @reason("Everybody reads what they wrote.")
permit(principal, action in Workbench::Action::"read", resource is Workbench::Item)
when { resource.tenant == principal.tenant && resource.owner == principal.name };
@id("memories") @reason("r") permit(principal, action, resource is Workbench::Memory);
@id("models") @reason("r") permit(principal, action, resource is Workbench::Model);
"""


def repository_with(folder, policies):
    root = folder / "repository"
    shutil.copytree(ROOT / "pipelines" / "models", root / "pipelines" / "models")
    (root / "pipelines" / "policies").mkdir()
    (root / "pipelines" / "policies" / "own.cedar").write_text(policies)
    return root


def test_the_policies_of_a_repository_are_the_law_of_its_memories(tmp_path):
    house = House(tmp_path, root=repository_with(tmp_path, OWN_ONLY))
    ann, eve = (house.handle(VICTIM, Principal(name=name)) for name in ("ann", "eve"))
    ann.remember("the taxi of ann", access=["everyone"])
    assert [hit.text for hit in ann.search("taxi")] == ["the taxi of ann"]
    assert ann.search("taxi")[0].allowed == "policy own"
    assert eve.search("taxi") == [] and eve.count() == 0
    write_page(tmp_path, owner="ann")
    assert [row.source for row in ann.diff_sources().rows] == ["taxi"]
    assert eve.diff_sources().rows == (), "a page that she may not read once it is ingested"
    keeper = house.handle(VICTIM, Principal(name="keeper", groups=ALL, clearance=9, admin=True))
    with pytest.raises(PolicyError, match="may not read all"):
        _sync.run(keeper.unfiltered.items())
    house.close()


def test_policies_that_are_tried_out_open_no_memory(tmp_path):
    house = House(
        tmp_path, root=repository_with(tmp_path, OWN_ONLY.replace("owner ==", "owner !=")), observe=True
    )
    ann, eve = (house.handle(VICTIM, Principal(name=name)) for name in ("ann", "eve"))
    ann.remember("the taxi of ann")
    assert [hit.text for hit in ann.search("taxi")] == ["the taxi of ann"], "which the policy would deny"
    assert eve.search("taxi") == [], "which the policy would permit"
    records = [r for r in read_records(tmp_path / CALLS) if r["would_refuse"]]
    assert [(r["operation"], r["principal"], r["would_refuse"]) for r in records] == [
        ("search", "ann", ["policy:not-permitted"])
    ]
    house.close()
