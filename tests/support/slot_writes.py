"""Runs of a job's slot over a store: what each writes passes the controls that a job's run has."""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from pathlib import Path

from calls import SLOT, keyed

from workbench import _sync
from workbench.context import Context, InvocationScope, invocation_scope
from workbench.controls.access import Access
from workbench.controls.idempotence import Idempotence
from workbench.controls.stack import fold
from workbench.identity import Principal
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Budget, Call, MemoryStore, Remembered, Selector, written_id
from workbench.records.slot_writes import SlotWrites
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import make_episode
from workbench.types import Event, Item

LATER = "2125-06-15T12:00:09Z"


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


class SlotRun:
    """One run of a slot, in a process of its own: it knows what the log in `folder` says, and no more.

    `dies` is "before" the store is asked by the next write, or "after" it has answered.
    """

    def __init__(self, store: MemoryStore, folder: Path, *, slot: str = SLOT, at: str = LATER) -> None:
        self.store, self.clock, self.dies, self.asked = store, FakeClock(at), "", []
        once = Idempotence(slot, writes=SlotWrites(folder / slot), keyed=keyed)
        self._handler = fold({"access": Access(MemoryLaw.builtin()), "idempotence": once}, self._leaf)

    async def _leaf(self, call: Call):
        self.asked.append(call.operation)
        if self.dies == "before":
            raise Killed
        verb = getattr(self.store.tenant(call.context.tenant), call.operation)
        done = await verb(**call.payload)
        if self.dies == "after":
            raise Killed
        yield Event(data=done)

    def call(self, verb: str, *, case: str = "", tenant: str = "acme", **payload):
        """The result of a verb, called for a case of the task `answer`."""

        async def answered():
            context = Context(
                use_case="answers", tenant=tenant, principal=Principal(name="ada", admin=True),
                purpose="job", clock=self.clock,
            )  # fmt: skip
            call = Call(
                port="memory", operation=verb, target="contract", payload=payload, context=context,
                identity={"version": 1},
            )  # fmt: skip
            async with aclosing(self._handler(call)) as events:
                return [event.data async for event in events][-1]

        with invocation_scope(InvocationScope(case=case, task="answer")):
            return _sync.run(answered())

    def remember(self, text: str, *, case: str = "", tenant: str = "acme", **fields) -> Remembered:
        """Remember a text as the handle does: its id names the second in which it was written."""
        created = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        item = make_episode(text, owner="ada", created=created, **fields)
        item = dataclasses.replace(item, id=written_id(tenant, item))
        return self.call("remember", case=case, tenant=tenant, items=[item], budget=Budget(), now=created)

    def forget(self, **what):
        return self.call("forget", what=Selector(**what), now=LATER)

    def items(self, tenant: str = "acme") -> list[Item]:
        return _sync.run(self.store.tenant(tenant).items())

    def texts(self, tenant: str = "acme") -> list[str]:
        """The texts in the memory, sorted; each as often as it is stored."""
        return sorted(item.text for item in self.items(tenant))
