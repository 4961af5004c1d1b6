"""`make repro MEMORY=weaviate`: the pipeline's steps with the memory on a server, and where its hits differ.

Everything is written below `.workbench/weaviate/`, with a copy of the tape; nothing that is pinned changes.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout
from workbench.config import MemoryServer, UseCase
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.experiments.gates import GateReport
from workbench.layout import ON_SERVER, Results
from workbench.memory.snapshot import read_manifest
from workbench.memory.stores import StoreLocation
from workbench.pipeline import build as knowledge
from workbench.pipeline import stages
from workbench.pipeline.repro import make_tapes
from workbench.retrieval import MemoryHandle
from workbench.workspace import boundary, workspace
from workbench.workspace.use_case import pages_of
from workbench.workspace.workspace import Workspace

#: Hits of each question that are compared.
DEPTH = 5
_WHY = """\
Both stores get the same vectors, look for the same stemmed words and fuse two rankings with one function.
Exact nearest neighbours are equal. Keyword scores are not: for SQLite's FTS5 a word that stands in more
than half of the passages counts next to nothing, for Weaviate's BM25 it still counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One question whose hits differ: sources found embedded and on the server, best first."""

    case: str
    tenant: str
    embedded: tuple[str, ...]
    server: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What one use case gave on the server.

    `differences` are of the search as the memory's spec says, `exact_differences` of exact
    nearest neighbours alone, of which there should be none.
    """

    use_case: str
    store: str
    gate: GateReport
    snapshot: str
    asked: int
    differences: tuple[Difference, ...]
    exact_differences: tuple[Difference, ...]
    page: str

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        lists = {
            "differences": [dataclasses.asdict(one) for one in self.differences],
            "exact_differences": [dataclasses.asdict(one) for one in self.exact_differences],
        }
        return {
            "use_case": self.use_case, "store": self.store, "gate": self.gate.to_json(),
            "snapshot": self.snapshot, "asked": self.asked, "page": self.page, **lists,
        }  # fmt: skip

    def __str__(self) -> str:
        same, exact = (self.asked - len(x) for x in (self.differences, self.exact_differences))
        return "\n".join(
            [
                str(self.gate),
                f"memory: {self.store}, snapshot {self.snapshot[:12]}, the same as in the pipeline",
                f"hits:   {same} of {self.asked} questions find the same {DEPTH}; by exact vectors {exact}",
                f"page:   {self.page}",
            ]
        )


def reproduce_on_server(root: Path, *, quiet: bool = False) -> list[Parity]:
    """Run every use case's steps with its memory on the server that params.yaml names, or the local one.

    Raises what the steps raise, UnavailableError when no server answers, and CorruptError when what the
    server gives back is not what the pipeline's snapshot holds.
    """
    params = config.load_params(root)
    make_tapes(root, params)
    found = []
    for name, case in params.use_cases.items():
        server = config.memory_server(case) or MemoryServer(url=config.DEFAULT_MEMORY_URL)
        _step(f"{name}: memory on {server.url}", quiet=quiet)
        found.append(_on_server(root, name, case, server, quiet=quiet))
    return found


def _on_server(root: Path, name: str, case: UseCase, server: MemoryServer, *, quiet: bool) -> Parity:
    results, pipeline = Results(use_case=name, base=ON_SERVER), Results(use_case=name)
    if not (root / pipeline.memory / "manifest.json").is_file():
        raise NotFoundError(
            f"{pipeline.memory} is missing: there is nothing to compare with", hint="make repro"
        )
    shutil.rmtree(root / results.folder, ignore_errors=True)
    stages.prepare(root, name, results=results)
    files.write_atomic(root / results.tape, files.read_bytes(root / layout.tape_of(name)))
    pages = pages_of(root, name, case)
    _step("remember: ingest into the server, and a snapshot out of it", quiet=quiet)
    live = StoreLocation(state=root / layout.STATE, server=server)
    ws = _workspace(root, name, live)
    knowledge.ingest_through(ws, pages, root / results.memory)
    ws.close()
    digest = _same_snapshot(root, results, pipeline)
    _step("experiment: the notebook, searching the server", quiet=quiet)
    stages.execute(root, results, show=not quiet, live_memory=True, memory_server=server)
    gate = stages.gate(root, name, results=results)
    stages.report(root, name, results=results, page=str(results.folder / "readiness"))
    _step("compare: hits of the server with those of the pipeline's snapshot", quiet=quiet)
    cases = Dataset.from_file(root / results.prepared / "cases.parquet")
    sides = _sides(root, name, live, pipeline)
    asked = [(one.id, one.tenant, str(one.inputs["question"])) for one in cases]
    exact = compared(asked, sides, exact=True)
    hybrid = compared(asked, sides, neighbours_differ={one.case for one in exact})
    for side in sides:
        side.close()
    page = results.folder / "differences.md"
    parity = Parity(
        use_case=name, store=f"weaviate at {server.url}", gate=gate, snapshot=digest, asked=len(asked),
        differences=hybrid, exact_differences=exact, page=str(page),
    )  # fmt: skip
    files.write_atomic(root / page, _page(parity).encode())
    return parity


def _same_snapshot(root: Path, results: Results, pipeline: Results) -> str:
    there, here = (read_manifest(root / one.memory).logical_digest for one in (results, pipeline))
    if there != here:
        raise CorruptError(
            f"the server's memory has snapshot {there[:12]}, the pipeline's {here[:12]}",
            hint="dvc repro, then make repro MEMORY=weaviate; if it stays, the store changes what it keeps",
        )
    return there


def _workspace(root: Path, name: str, where: StoreLocation) -> Workspace:
    made = boundary.Boundary(
        root,
        mode="replay",
        tape=boundary.open_tape(root / layout.tape_of(name)),
        places=boundary.StatePaths(home=root, memories=where),
    )
    return workspace.connect(name, root=root, purpose="parity", through=made)


def _sides(root: Path, name: str, live: StoreLocation, pipeline: Results) -> tuple[Workspace, Workspace]:
    """The same pinned snapshot twice: embedded, and on the server."""
    pinned = root / pipeline.memory
    embedded = StoreLocation(state=live.state, pinned=pinned)
    return (
        _workspace(root, name, embedded),
        _workspace(root, name, dataclasses.replace(live, pinned=pinned)),
    )


def compared(
    asked: Sequence[tuple[str, str, str]],
    sides: tuple[Workspace, Workspace],
    *,
    exact: bool = False,
    neighbours_differ: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Questions (case, tenant, text) whose first hits differ between two workspaces, and why.

    `exact` compares exact nearest neighbours alone; `neighbours_differ` are the cases where those differ.
    """
    found = []
    for case, tenant, text in asked:
        one, two = (_found(_memory(ws, tenant, exact=exact), text) for ws in sides)
        if one != two:
            words = not exact and case not in neighbours_differ
            here, there = (tuple(source for _, source in side) for side in (one, two))
            why = "words are scored otherwise" if words else "neighbours differ"
            if here == there:
                why += ": other passages of the same sources"
            found.append(Difference(case=case, tenant=tenant, embedded=here, server=there, reason=why))
    return tuple(found)


def _memory(ws: Workspace, tenant: str, *, exact: bool) -> MemoryHandle:
    handle = ws.bind(tenant=tenant).memory()
    if not exact:
        return handle
    return dataclasses.replace(handle, spec=dataclasses.replace(handle.spec, mode="vector", exact=True))


def _found(handle: MemoryHandle, text: str) -> list[tuple[str, str]]:
    return [(hit.id, hit.source) for hit in handle.search(text, k=DEPTH)]


def _page(parity: Parity) -> str:
    """The page on which hits differ, and why, as Markdown."""
    asked = f"of {parity.asked} questions differ in their first {DEPTH} hits"
    lines = [
        f"# {parity.use_case}: hits on the server and embedded",
        "",
        f"Store: {parity.store}. Snapshot {parity.snapshot} in both.",
        "",
        f"- As the memory's spec searches: {len(parity.differences)} {asked}.",
        f"- By exact vectors alone: {len(parity.exact_differences)} {asked}.",
        f"- Gate on the server's run: **{parity.gate.verdict}**.",
        "",
        _WHY,
    ]
    for title, differences in (
        ("As the spec searches", parity.differences),
        ("Exact vectors", parity.exact_differences),
    ):
        if differences:
            lines += [
                "",
                f"## {title}",
                "",
                "| question | tenant | embedded | server | why |",
                "| --- | --- | --- | --- | --- |",
            ]
            lines += [_row(one) for one in differences]
    return "\n".join(lines) + "\n"


def _row(one: Difference) -> str:
    embedded, server = (", ".join(side) or "none" for side in (one.embedded, one.server))
    return f"| {one.case} | {one.tenant} | {embedded} | {server} | {one.reason} |"


def _step(text: str, *, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(f"== {text}\n")


def exit_code(found: Sequence[Parity]) -> int:
    """The worst verdict's, as `workbench repro` has it; 2 when exact neighbours differ between the stores."""
    if any(one.exact_differences for one in found):
        return ConfigError.exit_code
    return max((one.gate.exit_code for one in found), default=0)
