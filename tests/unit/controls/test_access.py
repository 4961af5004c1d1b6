"""What a call says of its asker, cut down to the principal that makes it."""

import asyncio
import json
import random
from dataclasses import replace

import pytest
from calls import ask, remembered, search
from hypothesis import given
from hypothesis import strategies as st
from item_policies import drawn_items, parsed, policies, principal

from workbench.controls.access import Access
from workbench.controls.policy import PolicyControl, memory_of, request_of
from workbench.controls.stack import around
from workbench.errors import NotFoundError, PolicyError, RefusedError
from workbench.identity import Principal
from workbench.memory import rules
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.policy.requests import from_record
from workbench.policy.source import read_builtin
from workbench.ports import Budget, Memory, Query, Requester, written_id
from workbench.ports.item_filter import all_of, at_most, one_of
from workbench.ports.policy import about_item
from workbench.testing.fake_memory import FakeStore
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import make_episode, make_item
from workbench.types import Event, Hit

POLICIES = CedarPolicy.builtin()
LAW = MemoryLaw(lambda: POLICIES)
BUILTIN = "".join(read_builtin().policies.values())
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


class Widened(Query):
    """A query that takes back what it is limited to."""

    def __post_init__(self):
        object.__setattr__(self, "groups", ("board",))


class WidenedRequester(Requester):
    """The same for a count, whose items nobody sees."""

    def __post_init__(self):
        object.__setattr__(self, "groups", ("board",))


class Groups(tuple):
    """Groups that are a class of their own."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("search", {"query": Widened(text="q", vector=(), k=1, groups=("everyone",), as_of="2026-11-24")}),
        ("items", {"requester": WidenedRequester(groups=("everyone",), now="")}),
        ("count", {"requester": WidenedRequester(groups=("everyone",), now="")}),
        ("count", {"requester": Requester(groups=Groups(("board",)), now="")}),
    ],
)
def test_a_requester_of_a_class_of_its_own_reaches_no_store(operation, payload):
    with pytest.raises(RefusedError, match="class of its own"):
        through(replace(search(), operation=operation, payload=payload))


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


# What the policies permit of items ------------------------------------------------------------

OWN = """
@id("own") @reason("r") permit(principal, action in Workbench::Action::"read", resource is Workbench::Item)
when { resource.owner == principal.name && resource.tenant == principal.tenant };
@id("memories") @reason("r") permit(principal, action, resource is Workbench::Memory);
"""


class Holding:
    """A store that gives these items to every search and read, and keeps what it was asked."""

    def __init__(self, *items):
        self.items, self.asked = items, []

    async def __call__(self, call):
        self.asked.append(call.payload.get("query") or call.payload.get("requester"))
        if call.operation != "search":
            yield Event(data=list(self.items))
            return
        query = replace(call.payload["query"], where=all_of([]), now="1900-01-01T00:00:00Z")
        about = {"score": 1.0, "memory": "handbook", "version": 1, "tenant": "acme"}
        yield Event(data=[rules.hit(item, query, **about) for item in self.items])


def under(text):
    policies = parsed(text)
    return MemoryLaw(lambda: policies)


def asking(verb="search", **narrowed):
    """A call that asks for all that ada may see, or for the groups and the clearance that are given."""
    given = {"groups": ("everyone", "principal:ada"), "clearance": 0, **narrowed}
    if verb == "search":
        query = Query(text="t", vector=(1.0,), k=1, as_of="2025-01-01", **given)
        return remembered(verb, clock=FakeClock(), query=query)
    return remembered(verb, clock=FakeClock(), requester=Requester(now=NOW, **given))


MINE, OTHERS = make_item("taxi", owner="ada", subject="cust-1"), make_item("salary", owner="eve")


@pytest.mark.parametrize("verb", ["search", "items", "count"])
def test_a_store_is_asked_for_what_the_policies_permit(verb):
    store = Holding()
    ask(around(Access(under(OWN)), store), asking(verb))
    (asked,) = store.asked
    assert asked.where == one_of("owner", ["ada"]) and asked.groups == ()
    ask(around(Access(under(OWN)), store), asking(verb, groups=("everyone", "board"), clearance=-1))
    conditions = [one_of("owner", ["ada"]), one_of("acl", ["everyone"]), at_most("classification", -1)]
    assert store.asked[-1].where == all_of(conditions)


def test_a_hit_is_given_with_the_policy_that_permits_it_and_without_its_item():
    (hits,) = ask(around(Access(under(OWN)), Holding(MINE)), asking())
    assert [(type(hit), hit.allowed) for hit in hits] == [(Hit, "policy own")]
    (hits,) = ask(around(Access(LAW), Holding(MINE)), asking())
    assert type(hits[0]) is Hit and hits[0].allowed.startswith("everyone; classification 0")


@pytest.mark.parametrize("verb", ["search", "items"])
def test_what_a_store_gives_against_the_policies_is_withheld_and_recorded(verb):
    call = asking(verb)
    with pytest.raises(PolicyError, match="gave 1 items that the policies deny") as caught:
        ask(around(Access(under(OWN)), Holding(MINE, OTHERS)), call)
    noted = call.span.facts
    assert noted["decision"]["id"] == caught.value.decision and not noted["decision"]["allowed"]
    asked = json.loads(noted["policy_request"])
    assert asked["resource"]["id"] == OTHERS.id
    again = under(OWN).decide(from_record(asked, where="the record"))
    assert (again.id, again.allowed) == (caught.value.decision, False)


def test_a_hit_without_its_item_is_withheld():
    async def store(call):
        yield Event(data=[rules.hit(MINE, search().payload["query"], score=1.0, memory="m", version=1,
                                    tenant="acme").plain()])  # fmt: skip

    with pytest.raises(PolicyError, match="without their items"):
        ask(around(Access(LAW), store), asking())


def test_a_caller_makes_no_condition_of_its_own():
    query = replace(asking().payload["query"], where=all_of([]))
    for call in (remembered("search", query=query), remembered("items", requester=replace(
        asking("items").payload["requester"], where=all_of([])
    ))):  # fmt: skip
        with pytest.raises(RefusedError, match="where"):
            ask(around(Access(LAW), Holding(OTHERS)), call)


@pytest.mark.parametrize("verb", ["items", "count"])
def test_nobody_reads_all_of_a_memory_of_which_the_policies_forbid_a_part(verb):
    head = '@id("x") @reason("r") forbid(principal, action, resource is Workbench::Item)'
    part = f'{head} when {{ resource.kind == "fact" }};'
    with pytest.raises(PolicyError, match="may not read all of 'handbook'"):
        ask(around(Access(under(BUILTIN + part)), Holding()), remembered(verb, principal=KEEPER))


def test_a_set_that_is_tried_out_opens_nothing_and_says_what_it_would_deny():
    call, tried = asking(), under(OWN)
    (hits,) = ask(around(Access(LAW, observed=tried), Holding(MINE, OTHERS)), call)
    assert len(hits) == 2 and call.span.facts["would_refuse"] == ["policy:not-permitted"]
    hidden = make_item("board", access=("board",), owner="ada")
    with pytest.raises(PolicyError, match="deny"):
        ask(around(Access(LAW, observed=tried), Holding(hidden)), asking())


@given(seed=st.integers(0, 10_000))
def test_whatever_the_policies_say_a_search_gives_what_the_exact_decision_permits(seed):
    drawn = random.Random(seed)
    policy, who, items = policies(seed, hard=seed % 3 == 0), principal(drawn), drawn_items(drawn, 12)
    store = FakeStore(name="handbook")
    asyncio.run(store.tenant("acme").add(items, now=NOW))

    async def answer(call):
        yield Event(data=await store.tenant("acme").search(**call.payload))

    query = replace(asking().payload["query"], groups=who.grants, clearance=9, k=50, as_of="2125-03-01",
                    vector=items[0].vector)  # fmt: skip
    call = remembered("search", principal=who, query=query, clock=FakeClock())
    law = MemoryLaw(lambda: policy)
    (hits,) = ask(around(Access(law), answer), call)
    asked = request_of(call, memory_of(call))
    decided = zip(items, policy.decide_all([about_item(asked, item) for item in items]), strict=True)
    valid = replace(query, where=all_of([]), now=NOW)
    permitted = {item.id for item, made in decided if made.allowed and rules.visible(item, valid)}
    found = {hit.id for hit in hits}
    assert found <= permitted
    assert found == permitted or law.untranslatable(asked)
