"""Contract of histories: after any sequence of verbs a store agrees with the fake."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from workbench.context import instant
from workbench.errors import WorkbenchError
from workbench.memory import rules
from workbench.ports import Budget, Query, Selector
from workbench.testing.fake_memory import FakeStore
from workbench.testing.fakes import FakeClock
from workbench.testing.governed_memory import OpenStore
from workbench.testing.memory_items import (
    WORDS,
    contents,
    days,
    groups,
    ids_of,
    levels,
    make_episode,
    make_item,
    make_query,
    texts,
)
from workbench.testing.store_contract import StoreContract
from workbench.testing.sync_memory import SyncMemory, SyncStore
from workbench.types import Item

_START = "2125-06-15T00:00:00+00:00"
_SOURCES, _SUBJECTS = ("one", "two", "three"), ("cust-1", "cust-2")
_ACCESS = (("everyone",), ("people", "everyone"), ("finance",), ())
_EXPIRES = (None, "2125-06-15T06:00:00Z", "2125-06-15T18:00:00Z", None)
_VALID = ((None, None), ("2125-06-15", None), (None, "2125-06-16"))


def _fields(n: int) -> dict[str, Any]:
    return {
        "access": _ACCESS[n % 4],
        "classification": n % 3,
        "subject": ("", *_SUBJECTS)[n % 3],
        "expires": _EXPIRES[n // 2 % 4],
        "valid": _VALID[n // 3 % 3],
    }


DOCUMENTS = [
    make_item(f"{WORDS[n % 8]} {WORDS[n // 2]}", source=_SOURCES[n % 3], position=n, **_fields(n))
    for n in range(12)
]
EPISODES = [
    make_episode(
        f"{WORDS[n % 8]} {WORDS[-n % 8]} again",
        source="talk",
        position=100 + n,
        kind=("episode", "fact", "summary")[n % 3],
        trust=n % 4,
        parents=(DOCUMENTS[n].id,) if n % 4 else (),
        created=f"2125-06-{10 + n % 4}T00:00:00Z",
        **_fields(n + 1),
    )
    for n in range(8)
]
EPISODES.append(make_episode("a summary of two", kind="summary", parents=tuple(ids_of(EPISODES[:2]))))
EVERYTHING = {item.id: item for item in (*DOCUMENTS, *EPISODES)}

_documents = st.lists(st.sampled_from(DOCUMENTS), unique_by=lambda item: item.id, max_size=8)
_episodes = st.lists(st.sampled_from(EPISODES), unique_by=lambda item: item.id, min_size=1, max_size=5)
_holds = st.one_of(
    st.lists(st.sampled_from(sorted(EVERYTHING)), min_size=1, max_size=2, unique=True).map(
        lambda ids: Selector(ids=tuple(ids))
    ),
    st.sampled_from(_SUBJECTS).map(lambda subject: Selector(subject=subject)),
    st.sampled_from((*_SOURCES, "talk")).map(lambda source: Selector(source=source)),
)
_who = st.one_of(groups, st.just(["everyone", "finance", "people"]))
_cleared = st.one_of(levels, st.just(9))
_selectors = st.one_of(_holds, st.just(Selector(expired=True)))


class History(RuleBasedStateMachine):
    """Sends each verb to one tenant of a store and of the fake; the clock moves on command."""

    open_store: OpenStore
    durable: bool

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "memory"
        self.clock = FakeClock(_START)
        self.holds: list[Selector] = []
        self.truth = SyncStore(inner=FakeStore(name="contract")).tenant("acme")
        self.store = SyncStore(inner=self.open_store(self.path))
        self.memory = self.store.tenant("acme")

    @property
    def now(self) -> str:
        """Return the clock's instant."""
        return instant(self.clock.now())

    def both(self, verb: str, *given: Any, **named: Any) -> Any:
        """Send a verb to both; return the common answer, or None when both raise."""
        answers = []
        for memory in (self.truth, self.memory):
            try:
                answers.append(_comparable(getattr(memory, verb)(*given, **named)))
            except WorkbenchError as error:
                answers.append(type(error))
        assert answers[0] == answers[1], f"{verb} of {given} {named} differs"
        return None if isinstance(answers[1], type) else answers[1]

    def taking(self, verb: str, *given: Any, **named: Any) -> Any:
        """Do the same as `both` for a verb that removes items; no held item may be removed."""
        held = self._held()
        answer = self.both(verb, *given, **named)
        assert held <= set(ids_of(self.memory.items())), f"{verb} removed a held item"
        return answer

    def _held(self) -> set[str]:
        items = self.memory.items() if self.holds else []
        return {item.id for item in items if any(rules.chosen(item, what, now="") for what in self.holds)}

    @initialize(picked=_documents)
    def begin(self, picked: list[Item]) -> None:
        """Make some documents active."""
        self.both("add", picked, now=self.now)

    @rule(picked=_documents)
    def stage(self, picked: list[Item]) -> None:
        """Stage some documents, some of them known."""
        self.both("missing", ids_of(picked))
        before = contents(self.memory)
        self.both("stage", picked)
        assert contents(self.memory) == before

    @rule(picked=_documents, all_staged=st.booleans())
    def publish(self, picked: list[Item], all_staged: bool) -> None:
        """Publish some or all of the active and staged documents."""
        ids = ids_of(DOCUMENTS if all_staged else picked)
        missing = set(self.both("missing", ids))
        wanted = [key for key in ids if key not in missing]
        self.both("publish", wanted, now=self.now)
        active = [item.id for item in self.memory.items() if item.kind == "document"]
        assert active == sorted(wanted)

    @rule(picked=_documents)
    def publish_the_unknown(self, picked: list[Item]) -> None:
        """Publish documents, of which some may be unknown."""
        self.both("publish", ids_of(picked), now=self.now)

    @rule(picked=_documents)
    def add(self, picked: list[Item]) -> None:
        """Replace the active documents of some sources."""
        self.both("add", picked, now=self.now)

    @rule(
        picked=_episodes, most=st.sampled_from([None, 0, 2, 5]), size=st.sampled_from([None, 6, 20]),
        parents=st.sampled_from([[], [], *([key] for key in sorted(EVERYTHING))]),
    )  # fmt: skip
    def remember(self, picked: list[Item], most: int | None, size: int | None, parents: list[str]) -> None:
        """Write episodic items within a budget while some item is active."""
        budget, before = Budget(items=most, tokens=size), ids_of(self.memory.items())
        answer = self.taking("remember", picked, budget=budget, now=self.now, while_there=parents)
        assert answer is None or set(parents) <= set(before)
        if answer is not None:
            left = [item for item in self.memory.items() if item.kind != "document"]
            assert most is None or len(left) <= most
            assert size is None or sum(budget.tokens_of(item.text) for item in left) <= size

    @rule(what=_selectors, dry_run=st.booleans())
    def forget(self, what: Selector, dry_run: bool) -> None:
        """Forget items, or only count them."""
        removed = self.taking("forget", what, now=self.now, dry_run=dry_run).ids
        left = set(ids_of(self.memory.items()))
        assert dry_run or left.isdisjoint(removed)

    @rule(what=_holds)
    def hold(self, what: Selector) -> None:
        """Put items under legal hold."""
        self.both("hold", what)
        if what not in self.holds:
            self.holds.append(what)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        """End a hold."""
        what = data.draw(st.sampled_from(self.holds))
        self.both("release", what)
        self.holds = [hold for hold in self.holds if hold.ids is None or set(hold.ids) != set(what.ids or ())]
        self.holds = [hold for hold in self.holds if hold != what]

    @rule(keep=st.integers(1, 4))
    def purge(self, keep: int) -> None:
        """Purge twice; the second purge removes nothing."""
        self.taking("purge", now=self.now, keep_versions=keep)
        again = self.memory.purge(now=self.now, keep_versions=keep)
        assert (again.expired, again.outdated) == (0, 0)
        assert len(self.memory.versions()) <= keep
        held = self._held()
        left = self.memory.items()
        assert all(item.id in held or (item.expires or "9999") > self.now for item in left)

    @rule(hours=st.integers(1, 12))
    def pass_time(self, hours: int) -> None:
        """Let some hours pass."""
        self.clock.advance(hours * 3600)

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = SyncStore(inner=self.open_store(self.path))
        self.memory = self.store.tenant("acme")

    @rule(
        question=texts, group_names=_who, clearance=_cleared, day=days, back=st.integers(0, 3),
        mode=st.sampled_from(["hybrid", "vector"]), sources=st.lists(st.sampled_from(_SOURCES), max_size=2),
    )  # fmt: skip
    def search(
        self, question: str, group_names: list[str], clearance: int, mode: str, **narrowed: Any
    ) -> None:
        """Search a version on a day; compare the hits, and check that each is visible."""
        numbers = [kept.number for kept in self.memory.versions()]
        version = numbers[-narrowed["back"]] if 0 < narrowed["back"] <= len(numbers) else None
        query = make_query(
            question, k=50, groups=group_names, clearance=clearance, as_of=narrowed["day"] or "2125-06-15",
            now=self.now, version=version, mode=mode, exact=True, sources=narrowed["sources"],
        )  # fmt: skip
        assert set(ids_of(self.memory.search(query))) == self._visible(query)
        if mode == "vector":  # keyword scores differ between stores
            self.both("search", query)

    def _visible(self, query: Query) -> set[str]:
        return {
            item.id
            for item in self.memory.items(query.version)
            if any(group in query.groups for group in item.access)
            and item.classification <= query.clearance
            and (item.valid_from or "") <= query.as_of < (item.valid_to or "9999")
            and self.now < (item.expires or "9999")
            and (not query.sources or item.source in query.sources)
        }

    @invariant()
    def the_active_items_agree(self) -> None:
        """Compare the active items after every verb."""
        assert ids_of(self.memory.items()) == ids_of(self.truth.items())

    def teardown(self) -> None:
        """Compare everything at the end."""
        try:
            _compare(self.truth, self.memory, now=self.now)
        finally:
            self.store.close()
            self.folder.cleanup()


def _comparable(answer: Any) -> Any:
    """Return the part of an answer on which stores agree; counts of rows and orders of evicted ids differ."""
    if hasattr(answer, "evicted"):
        return dataclasses.replace(answer, evicted=tuple(sorted(answer.evicted)))
    if hasattr(answer, "outdated"):
        return answer.expired
    return answer


def _compare(truth: SyncMemory, memory: SyncMemory, *, now: str) -> None:
    numbers = [(version.number, version.at) for version in truth.versions()]
    assert [(version.number, version.at) for version in memory.versions()] == numbers
    for version in (None, *(number for number, _ in numbers)):
        assert contents(memory, version) == contents(truth, version)
    ours, theirs = memory.stats(now=now), truth.stats(now=now)
    for name in ("version", "items", "stored", "staged", "expired", "held", "by_kind"):
        assert getattr(ours, name) == getattr(theirs, name), name


class HistoryContract(StoreContract):
    """Generated sequences of verbs."""

    durable = False

    def test_any_history_agrees_with_the_fake(self) -> None:
        own = {"open_store": staticmethod(self.open_store), "durable": self.durable}
        machine = type("Life", (History,), own)
        profile = settings(max_examples=self.histories, stateful_step_count=self.steps, deadline=None)
        run_state_machine_as_test(machine, settings=profile)
