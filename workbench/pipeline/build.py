"""Build the memory of a use case from its documents and write the snapshot."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from workbench import _sync, config, layout
from workbench.config import UseCase
from workbench.memory.stores import StoreLocation
from workbench.ports import Memory
from workbench.retrieval.reading import Pages, told
from workbench.types import Page
from workbench.workspace import boundary, connection
from workbench.workspace.use_case import pages_of
from workbench.workspace.workspace import Workspace

#: Seconds after which the stage says how fast it was.
_QUIET_S = 10.0


def build(root: Path, name: str, case: UseCase, out: Path, *, home: Path | None = None) -> None:
    """Build the memory from the documents alone, and write its snapshot into `out`.

    A use case without a memory gets a snapshot without a name and without tenants, which answers no search.
    `home` is the repository that keeps the log when `root` is only a copy of its code.
    """
    if case.memory is None:
        _write([], out, name="", spec_digest="")
        return
    state = home or root
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        memories = StoreLocation(state=state / layout.STATE, live=Path(folder))
        private = boundary.Boundary(
            root,
            mode="live",
            tape=boundary.open_tape(Path(folder) / "none"),
            places=boundary.StatePaths(home=state, memories=memories),
        )
        # The memory is temporary and private, so its builder is its admin, whatever params.yaml says.
        opened = connection.connect_pipeline(name, root=root, purpose="remember", through=private, admin=True)
        with closing(opened) as ws:
            started = time.monotonic()
            pages = pages_of(root, name, case)
            ingest_through(ws, pages, out)
            _say(pages, time.monotonic() - started)


def _say(pages: Pages, seconds: float) -> None:
    """Write how many documents a second were remembered, and what was left out; nothing for a few pages."""
    lines = told(pages.left_out)
    if seconds >= _QUIET_S or lines:
        rate = pages.documents / max(seconds, 0.001)
        lines.insert(0, f"remembered {pages.documents:,} documents in {seconds:.0f} s ({rate:.1f} a second)")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def replaying(root: Path, name: str, memories: StoreLocation, *, purpose: str) -> Workspace:
    """Return a workspace that replays the use case's tape and searches the memory in `memories`."""
    tape = boundary.recorded_tape(root, name)
    places = boundary.StatePaths(home=root, memories=memories)
    cards = [boundary.card_of_use_case(root, config.use_case(config.load_params(root), name))]
    through = boundary.Boundary(root, mode="replay", tape=tape, cards=cards, places=places)
    return connection.connect_pipeline(name, root=root, purpose=purpose, through=through)


def ingest_through(ws: Workspace, pages: Sequence[Page], out: Path) -> None:
    """Ingest `pages` into the workspace's live memory, and write its snapshot into `out`."""
    views = []
    for tenant in sorted({page.tenant for page in pages}):
        handle = ws.bind(tenant=tenant).memory()
        handle.ingest(pages)
        views.append(handle.whole)
    spec = handle.spec
    _write(views, out, name=spec.name, spec_digest=spec.digest)


def _write(views: Sequence[Memory], out: Path, *, name: str, spec_digest: str) -> None:
    from workbench.memory.snapshot import write_snapshot

    _sync.run(write_snapshot(views, out, memory=name, spec_digest=spec_digest))
