"""One memory of secrets behind the whole boundary, as workspaces hold it, on SQLite or a Weaviate server."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workbench import _sync
from workbench.config import MemoryServer
from workbench.context import Context
from workbench.identity import Principal
from workbench.memory.stores import StoreLocation
from workbench.ports import Call
from workbench.retrieval import Chunking, MemoryHandle, MemorySpec
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.testing.memory_isolation import VICTIM, secrets
from workbench.testing.memory_items import NOW, hash_vector
from workbench.types import Event
from workbench.workspace import boundary

ROOT = Path(__file__).parents[2]
CARD = "wordllama-256"
#: All groups of the secrets' access lists.
ALL = ("everyone", "staff", "board", "principal:anna")


class Hashes(FakeModel):
    """Embeds as the secrets are embedded."""

    async def embed(self, payload, *, timeout_s=None):
        rows = [{"index": n, "embedding": hash_vector(text)} for n, text in enumerate(payload["input"])]
        yield Event(data={"data": rows, "usage": {"prompt_tokens": 1, "total_tokens": 1}})


@dataclass
class House:
    """One memory as workspaces hold it: through a boundary, with all controls that exist."""

    folder: Path
    server: MemoryServer | None = None
    fallback: bool = False
    root: Path = ROOT
    observe: bool = False
    clock: FakeClock = field(default_factory=lambda: FakeClock("2125-06-15T12:00:00+00:00"))

    def __post_init__(self):
        self.boundary = boundary.Boundary(
            self.root,
            mode="live",
            tape=boundary.open_tape(self.folder / "none"),
            places=boundary.StatePaths(
                home=self.folder,
                memories=StoreLocation(state=self.folder / "state", server=self.server),
                memory_fallback=self.fallback,
                observe_policy=self.observe,
            ),
        )
        self.boundary._models[CARD] = Hashes()
        pages = self.folder / "pages"
        pages.mkdir(exist_ok=True)
        self.spec = MemorySpec(
            name="secret", version=1, digest="d", description="", source=str(pages), embedding=CARD,
            chunking=Chunking(kind="sentences", size=1), candidates=100, kind="episodic",
        )  # fmt: skip

    def handle(self, tenant, principal) -> MemoryHandle:
        context = Context(use_case="u", tenant=tenant, principal=principal, purpose="test", clock=self.clock)
        made = {"context": context, "identity": {"version": 1, "spec": "d", "index": {}}}
        return MemoryHandle(
            spec=self.spec, context=context, handler=self.boundary.handler, root=self.folder,
            make_call=partial(_call, **made), snapshot_store=self.boundary.stores.snapshot_store(),
            permitted=self.boundary.access.permitted,
        )  # fmt: skip

    def fill(self):
        in_force, staged, written = secrets()
        admin = self.admin()
        _sync.run(admin.unfiltered.add(in_force, now=NOW))
        _sync.run(admin.unfiltered.remember(written, budget=self.spec.budget, now="2124-01-01T00:00:00Z"))
        _sync.run(admin.unfiltered.stage(staged))
        admin.snapshot()
        admin.snapshot(self.folder / "stolen")

    def admin(self):
        return self.handle(VICTIM, Principal(name="keeper", groups=ALL, clearance=9, admin=True))

    def secrets_there(self):
        """What the victim holds of what it held first."""
        known = {item.id for item in itertools.chain(*secrets())}
        return {item for item in _sync.run(self.admin().unfiltered.items()) if item.id in known}

    def close(self):
        _sync.run(self.boundary.aclose())


def _call(port, operation, target, payload, **made):
    identity = made["identity"] if port == "memory" else {}
    return Call(port=port, operation=operation, target=target, payload=payload, context=made["context"],
                identity=identity)  # fmt: skip
