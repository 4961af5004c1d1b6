"""A use case's knowledge, made from its documents."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workbench import _sync, boundary, retrieval, workspace
from workbench.config import UseCase
from workbench.stores import Where
from workbench.types import Page
from workbench.workspace import Workspace


def pages_of(root: Path, name: str, case: UseCase) -> list[Page]:
    """The use case's documents; ConfigError when one belongs to a tenant it does not serve."""
    spec = retrieval.load_spec(root, str(case.memory))
    pages = retrieval.load(spec.source, root=root)
    for tenant in sorted({page.tenant for page in pages}):
        workspace.check_tenant(name, case, tenant)
    return pages


def build(root: Path, name: str, case: UseCase, out: Path, *, home: Path | None = None) -> None:
    """Write into `out` the snapshot of a use case's memory, made from its documents alone.

    `home` is the repository that keeps the log, when `root` is only a copy of its code.
    """
    state = home or root
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        memories = Where(state=state / boundary.STATE, live=Path(folder))
        made = boundary.Boundary(
            root,
            mode="live",
            tape=boundary.open_tape(Path(folder) / "none"),
            places=boundary.Places(home=state, memories=memories),
        )
        ws = workspace.connect(name, root=root, purpose="remember", through=made)
        # Nobody else sees this memory: who builds a result keeps it, whoever keeps the live one.
        ws = ws.bind(principal=dataclasses.replace(ws.context.principal, keeper=True))
        ingest_through(ws, pages_of(root, name, case), out)
        ws.close()


def ingest_through(ws: Workspace, pages: Sequence[Page], out: Path) -> None:
    """Put `pages` in force in the workspace's live memory, and write its snapshot into `out`."""
    from workbench.memory.snapshot import write_snapshot

    views = []
    for tenant in sorted({page.tenant for page in pages}):
        handle = ws.bind(tenant=tenant).memory()
        handle.ingest(pages)
        views.append(handle.whole)
    spec = handle.spec
    _sync.run(write_snapshot(views, out, memory=spec.name, spec_digest=spec.digest))
