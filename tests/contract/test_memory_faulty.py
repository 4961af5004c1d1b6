"""The suite can fail: each store here breaks one promise, and a generated history detects it."""

import dataclasses

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from workbench.memory import rules
from workbench.ports import Selector
from workbench.testing.fake_memory import FakeMemory, FakeStore
from workbench.testing.memory_history_contract import History


class StagedIsSeen(FakeMemory):
    async def items(self, version=None, *, requester=None):
        items = self._state.active(version) | self._state.staged
        return [items[key] for key in sorted(items)]


class LeftoversArePublished(FakeMemory):
    async def publish(self, ids, *, now=""):
        return await FakeMemory.publish(self, [*ids, *self._state.staged], now=now)


class EqualIdsMakeANewVersion(FakeMemory):
    async def publish(self, ids, *, now=""):
        done = await FakeMemory.publish(self, ids, now=now)
        state = self._state
        if not done.added and not done.replaced:
            state.knowledge[state.version + 1], state.at[state.version + 1] = dict(state.documents()), now
            state.version += 1
        return dataclasses.replace(done, version=state.version)


class OldVersionsAreNotForgotten(FakeMemory):
    async def forget(self, what, *, now="", dry_run=False):
        state = self._state
        older = {n: dict(items) for n, items in state.knowledge.items() if n != state.version}
        done = await FakeMemory.forget(self, what, now=now, dry_run=dry_run)
        state.knowledge.update(older)
        return done


class ADryRunIsReal(FakeMemory):
    async def forget(self, what, *, now="", dry_run=False):
        return await FakeMemory.forget(self, what, now=now)


class ChildrenStay(FakeMemory):
    async def forget(self, what, *, now="", dry_run=False):
        parents = {one: item.parents for one, item in self._state.stored().items()}
        for shelf in self._state.shelves():
            shelf.update({one: dataclasses.replace(item, parents=()) for one, item in shelf.items()})
        done = await FakeMemory.forget(self, what, now=now, dry_run=dry_run)
        for shelf in self._state.shelves():
            shelf.update(
                {one: dataclasses.replace(item, parents=parents[one]) for one, item in shelf.items()}
            )
        return done


class AHoldCoversNoLaterItem(FakeMemory):
    async def hold(self, what):
        stored = self._state.stored().values()
        ids = tuple(sorted(item.id for item in stored if rules.chosen(item, what, now="")))
        return await FakeMemory.hold(self, Selector(ids=ids))


class PurgeRemovesHeldItems(FakeMemory):
    async def purge(self, *, now, keep_versions):
        holds, self._state.holds = self._state.holds, set()
        done = await FakeMemory.purge(self, now=now, keep_versions=keep_versions)
        self._state.holds = holds
        return done


class ABudgetIsOneTooMany(FakeMemory):
    async def remember(self, items, *, budget, now, while_there=()):
        more = dataclasses.replace(budget, items=None if budget.items is None else budget.items + 1)
        return await FakeMemory.remember(self, items, budget=more, now=now, while_there=while_there)


class ParentsMayBeMissing(FakeMemory):
    async def remember(self, items, *, budget, now, while_there=()):
        return await FakeMemory.remember(self, items, budget=budget, now=now)


class KeptItemsAreNotReported(FakeMemory):
    async def forget(self, what, *, now="", dry_run=False):
        done = await FakeMemory.forget(self, what, now=now, dry_run=dry_run)
        return dataclasses.replace(done, kept=())


class OneVersionTooFewIsKept(FakeMemory):
    async def purge(self, *, now, keep_versions):
        return await FakeMemory.purge(self, now=now, keep_versions=keep_versions - 1)


class ExpiryIsLate(FakeMemory):
    async def search(self, query):
        return await FakeMemory.search(self, dataclasses.replace(query, now="2125-06-15T00:00:00Z"))


class TheVersionIsIgnored(FakeMemory):
    async def search(self, query):
        return await FakeMemory.search(self, dataclasses.replace(query, version=None))


FAULTS = [*FakeMemory.__subclasses__(), FakeMemory]


def history(kind):
    class Faulty(FakeStore):
        def tenant(self, tenant):
            return kind(store=self, tenant=tenant)

    class Life(History):
        open_store = staticmethod(lambda path: Faulty(name="contract"))
        durable = False

    return Life


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_history_detects_a_store_that_loses_items(kind, capsys):
    asked = settings(
        max_examples=1000,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    if kind is FakeMemory:  # nothing is wrong with this one
        run_state_machine_as_test(history(kind), settings=settings(asked, max_examples=10))
    else:
        with pytest.raises(AssertionError):
            run_state_machine_as_test(history(kind), settings=asked)
