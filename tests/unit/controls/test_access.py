"""What a call says of its asker, cut down to the principal that makes it."""

from dataclasses import replace

import pytest
from calls import ask, remembered, search
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.access import Access
from workbench.controls.policy import PolicyControl, memory_of
from workbench.controls.stack import around
from workbench.errors import NotFoundError, PolicyError, RefusedError
from workbench.identity import Principal
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Budget, Memory, Query, Requester, written_id
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import make_episode
from workbench.types import Event

POLICIES = CedarPolicy.builtin()
LAW = MemoryLaw(lambda: POLICIES)
NOW = "2025-01-01T00:00:00Z"
KEEPER = Principal(name="ann", admin=True)
names = st.lists(st.sampled_from(["everyone", "people", "board", "principal:ada", "principal:eve", ""]))


class Store:
    """Keeps the calls that reached it."""

    def __init__(self):
        self.calls = []

    async def __call__(self, call):
        self.calls.append(call)
        yield Event(data=[])


def through(call, **how):
    """The payload that reaches the store."""
    store = Store()
    ask(around(PolicyControl(POLICIES, resource=memory_of), around(Access(LAW, **how), store)), call)
    (reached,) = store.calls
    return reached.payload


@given(
    groups=names, clearance=st.integers(0, 5), granted=names, cleared=st.integers(0, 5),
    now=st.sampled_from([None, "1900-01-01T00:00:00Z", NOW, "2999-01-01T00:00:00Z"]),
)  # fmt: skip
def test_nobody_searches_as_more_than_they_are(groups, clearance, granted, cleared, now):
    who = Principal(name="ada", groups=tuple(granted), clearance=cleared)
    query = Query(text="t", vector=(1.0,), k=1, as_of="2025-01-01", groups=tuple(groups), now=now)
    call = remembered("search", clock=FakeClock(), principal=who, query=query)
    asked = through(call)["query"]
    assert set(asked.groups) == set(groups) & set(who.grants)
    assert asked.clearance <= cleared
    assert asked.now == max(now or "", NOW)


class Everything(str):
    """A text that says that it is any other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True


class Highest(int):
    """A number that says that it is below any other."""

    __slots__ = ()

    def __lt__(self, other):
        return True


@pytest.mark.parametrize(
    "forged", [{"groups": (Everything("x"),)}, {"clearance": Highest(9)}, {"now": Everything("2999")}]
)
def test_a_value_whose_class_answers_comparisons_is_refused(forged):
    fields = {"groups": ("everyone",), "clearance": 0, "now": NOW} | forged
    query = Query(text="t", vector=(1.0,), k=1, as_of="2025-01-01", **fields)
    with pytest.raises(RefusedError, match="plain") as caught:
        through(remembered("search", clock=FakeClock(), query=query))
    assert "Requester.of" in caught.value.hint


@pytest.mark.parametrize("verb", ["items", "count"])
def test_a_reader_reads_as_itself_and_only_who_keeps_the_memory_reads_all(verb):
    requester = Requester(groups=("everyone", "board"), clearance=5, now="1900-01-01T00:00:00Z")
    seen = through(remembered(verb, clock=FakeClock(), requester=requester))["requester"]
    assert seen == Requester(groups=("everyone",), clearance=0, now=NOW)
    for missing in ({"requester": None}, {}):
        with pytest.raises(PolicyError, match=rf"user:ada .*memory.{verb} on Memory 'handbook'.*admins"):
            through(remembered(verb, **missing))
        assert through(remembered(verb, principal=KEEPER, **missing)) == missing


ADMINISTERED = {"add", "forget", "hold", "missing", "publish", "release", "stage", "stats", "purge"}


@pytest.mark.parametrize("verb", sorted(ADMINISTERED))
def test_what_acts_on_all_of_a_tenant_is_for_its_keepers(verb):
    with pytest.raises(PolicyError, match=f"may not memory.{verb} on Memory 'handbook'"):
        through(remembered(verb, now=NOW))
    assert through(remembered(verb, principal=KEEPER, now=NOW)) == {"now": NOW}


def test_every_verb_of_the_port_is_either_cut_down_or_for_keepers():
    verbs = {name for name in vars(Memory) if not name.startswith("_")} - {"tenant"}
    # Versions tell numbers, days and counts; no item can be told from the digest of all.
    assert verbs - ADMINISTERED == {"search", "items", "count", "remember", "versions"}


def own_item(**changes):
    item = replace(make_episode("taxi", owner="ada", trust=1), **changes)
    return item if "id" in changes else replace(item, id=written_id("acme", item))


@pytest.mark.parametrize("changes", [{"owner": "eve"}, {"trust": 3}, {"trust": 2}, {"id": "another's"}])
def test_what_is_remembered_bears_the_stamps_of_who_writes_it(changes):
    call = remembered("remember", items=[own_item(**changes)], budget=Budget(), now=NOW)
    with pytest.raises(RefusedError, match="1 items are not stamped"):
        through(call)
    own = own_item()
    assert through(remembered("remember", items=[own], budget=Budget(), now=NOW))["items"] == [own]


def test_nobody_evicts_what_others_wrote_by_a_budget_of_their_own():
    call = remembered("remember", items=[], budget=Budget(items=0), now=NOW)
    assert through(call)["budget"] == Budget()
    kept = replace(call, identity={"budget": {"items": 7, "tokens": None}})
    assert through(kept)["budget"] == Budget(items=7)


@pytest.mark.parametrize(("seen", "written"), [(2, True), (1, False)])
def test_what_an_item_is_made_of_is_there_only_for_who_sees_it(seen, written):
    """The answer is a store's own, so that nobody learns what there is that they may not see."""
    asked = []

    async def store(call):
        asked.append(call)
        yield Event(data=seen)

    call = remembered(
        "remember", clock=FakeClock(), items=[own_item()], budget=Budget(), now=NOW, while_there=["a", "b"]
    )
    if written:
        ask(around(Access(LAW), store), call)
    else:
        with pytest.raises(NotFoundError, match=r"1 of 2 items .* no longer in the active version"):
            ask(around(Access(LAW), store), call)
    assert asked[0].operation == "count"
    assert asked[0].payload == {
        "ids": ["a", "b"],
        "requester": Requester(groups=("everyone", "principal:ada"), clearance=0, now=NOW),
    }
    assert [one.operation for one in asked[1:]] == (["remember"] if written else [])


def test_a_pinned_snapshot_is_searched_as_of_its_own_day():
    assert through(search(), timeless=True)["query"].now is None
    assert through(search(clock=FakeClock()))["query"].now == NOW
