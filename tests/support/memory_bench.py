"""Handles over a store of this process, with an embedding that needs no model and a clock that stands."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from workbench.context import Context
from workbench.controls.access import Access
from workbench.controls.policy import PolicyControl, memory_of
from workbench.controls.stack import around
from workbench.identity import Principal
from workbench.memory.cipher import IdCipher
from workbench.memory.sqlite.store import SQLiteStore
from workbench.memory.stores import StoreLocation, Stores
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Call
from workbench.retrieval import Chunking, MemoryHandle, MemorySpec
from workbench.retrieval.front_matter import MINIMAL
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_items import hash_vector
from workbench.types import Event

BODY = "Taxis are paid. Keep the receipt."
POLICIES = CedarPolicy.builtin()
KEY = IdCipher(key=b"k" * 64)


@pytest.fixture(name="store", params=["fake", "sqlite"])
def either_store(request, tmp_path):
    """For `Bench`: None, which is a fake of its own, or an embedded store of the same memory."""
    if request.param == "fake":
        yield None
        return
    opened = SQLiteStore(tmp_path / "m.sqlite", name="m")
    yield opened
    opened.close()


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


class Clock:
    """Stands still until it is set."""

    def __init__(self, at="2026-01-01T12:00:00"):
        self.set(at)

    def set(self, at):
        self.at = dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC)

    def now(self):
        return self.at

    def monotonic(self):
        return 0.0


def write_page(root, name="acme/taxi.md", *, body=BODY, **front):
    """A page below `root/pages`, its front matter changed as told; the folder of pages."""
    text = MINIMAL
    for key, value in front.items():
        changed = re.sub(rf"{key}: .*\n", f"{key}: {value}\n" if value is not None else "", text)
        text = (
            changed
            if changed != text or value is None
            else text.replace("seed: 0", f"seed: 0\n{key}: {value}")
        )
    path = root / "pages" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n\n{body}\n")
    return root / "pages"


class OneStore(Stores):
    """The boundary's stores, of which there is one."""

    async def view(self, call):
        return self.one.tenant(call.context.tenant)

    def names(self):
        return KEY


class Bench:
    """One memory in one store. `calls` are the names of all calls; `die_at` is the call to be killed in."""

    def __init__(self, root, source="", *, store=None, **spec):
        self.store, self.calls, self.texts, self.root = store or FakeStore(name="m"), [], [], root
        self.clock, self.die_at, self.queries = Clock(), None, []
        self.stores = OneStore(StoreLocation(state=root / "state"))
        self.stores.one, self.ledger, self.snapshot_store = (
            self.store,
            self.stores.ledger,
            self.stores.snapshot_store(),
        )
        fields = {
            "name": "m", "version": 1, "digest": "d", "description": "", "source": str(source),
            "chunking": Chunking(kind="sentences", size=1), "embedding": "hash", "candidates": 50,
        }  # fmt: skip
        self.spec = MemorySpec(**fields | spec)

    async def handle(self, call):
        self.calls.append(call.name)
        if self.die_at is not None and len(self.calls) >= self.die_at:
            raise Killed
        if call.port == "model":
            self.texts += call.payload["input"]
            rows = [{"index": n, "embedding": hash_vector(t)} for n, t in enumerate(call.payload["input"])]
            yield Event(data={"data": rows})
        else:
            yield Event(data=await self.ask(call))

    async def ask(self, call):
        """As the boundary does."""
        if call.operation == "search":
            self.queries.append(call.payload["query"])
        return await self.stores.answer(call)

    def handle_of(
        self,
        tenant="acme",
        groups=("everyone",),
        *,
        name="p",
        clearance=0,
        assurance="asserted",
        admin=True,
        **more,
    ):
        principal = Principal(name=name, groups=groups, clearance=clearance, assurance=assurance, admin=admin)
        context = Context(use_case="u", tenant=tenant, principal=principal, purpose="test", clock=self.clock)

        timeless = bool(more.get("pinned")) and not more.get("today")
        access = Access(MemoryLaw(lambda: POLICIES), timeless=timeless)
        memories = around(PolicyControl(POLICIES, resource=memory_of), around(access, self.handle))

        def make(port, operation, target, payload):
            return Call(port=port, operation=operation, target=target, payload=payload, context=context)

        return MemoryHandle(
            spec=self.spec, context=context, make_call=make,
            handler=lambda call: (self.handle if call.port == "model" else memories)(call),
            **{"root": self.root, "snapshot_store": self.snapshot_store, "as_of": "2026-01-01", **more},
        )  # fmt: skip
