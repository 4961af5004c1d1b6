"""Run the pipeline's steps with the memory on a server, and compare its hits with the pipeline's.

Everything is written below `.workbench/weaviate/`, with a copy of the tape. Pinned results do not change.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout
from workbench.config import MemoryServer, UseCase
from workbench.errors import CorruptError, NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.experiments.gates import GateReport
from workbench.layout import ON_SERVER, Results
from workbench.memory.snapshot import read_manifest
from workbench.memory.stores import StoreLocation
from workbench.memory.weaviate.local_server import default_server
from workbench.pipeline import build, stages
from workbench.pipeline.repro import make_tapes
from workbench.retrieval import MemoryHandle
from workbench.workspace import boundary, workspace
from workbench.workspace.use_case import pages_of
from workbench.workspace.workspace import Workspace

#: Hits of each question that are compared.
DEPTH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The result of one use case on the server; `differences` are the cases whose first hits differ."""

    use_case: str
    store: str
    gate: GateReport
    snapshot: str
    asked: int
    differences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "gate": self.gate.to_json(), "differences": list(self.differences)}

    def __str__(self) -> str:
        memory = f"memory: {self.store}, snapshot {self.snapshot[:12]}, equal to the pipeline's"
        lines = [str(self.gate), memory]
        lines += [f"hits:   {len(self.differences)} of {self.asked} questions differ in their first {DEPTH}"]
        lines += [f"        {case}" for case in self.differences]
        return "\n".join(lines)


def reproduce_on_server(root: Path, *, quiet: bool = False) -> list[Parity]:
    """Run every use case's steps with its memory on the server of params.yaml, or on the local one.

    Raises the errors of the steps, UnavailableError when no server answers, and CorruptError when the server
    returns other items than the pipeline's snapshot holds.
    """
    params = config.load_params(root)
    make_tapes(root, params)
    results = []
    for name, case in params.use_cases.items():
        server = config.memory_server(case) or default_server(root)
        _progress(f"{name}: memory on {server.url}", quiet=quiet)
        results.append(_on_server(root, name, case, server, quiet=quiet))
    return results


def _on_server(root: Path, name: str, case: UseCase, server: MemoryServer, *, quiet: bool) -> Parity:
    results, pipeline = Results(use_case=name, base=ON_SERVER), Results(use_case=name)
    if not (root / pipeline.memory / "manifest.json").is_file():
        raise NotFoundError(f"the pipeline's snapshot {pipeline.memory} is missing", hint="make repro")
    shutil.rmtree(root / results.folder, ignore_errors=True)
    stages.prepare(root, name, results=results)
    files.write_atomic(root / results.tape, files.read_bytes(root / layout.tape_of(name)))
    _progress("remember: ingest into the server, and a snapshot of it", quiet=quiet)
    ws = _workspace(root, name, StoreLocation(state=root / layout.STATE, server=server))
    build.ingest_through(ws, pages_of(root, name, case), root / results.memory)
    ws.close()
    written, pinned = (read_manifest(root / side.memory).logical_digest for side in (results, pipeline))
    if written != pinned:
        raise CorruptError(
            f"the server's memory has snapshot {written[:12]}, the pipeline's {pinned[:12]}",
            hint="dvc repro, then make repro MEMORY=weaviate; if it stays, the store changes what it keeps",
        )
    _progress("experiment: the notebook, with searches on the server", quiet=quiet)
    stages.execute(root, results, show=not quiet, live_memory=True, memory_server=server)
    gate = stages.gate(root, name, results=results)
    stages.report(root, name, results=results, page=str(results.folder / "readiness"))
    _progress("compare: hits of the server with those of the pipeline's snapshot", quiet=quiet)
    cases = Dataset.from_file(root / results.prepared / "cases.parquet")
    asked = [(case.id, case.tenant, str(case.inputs["question"])) for case in cases]
    return Parity(
        use_case=name, store=f"weaviate at {server.url}", gate=gate, snapshot=written, asked=len(asked),
        differences=differences(root, name, server, asked),
    )  # fmt: skip


def differences(
    root: Path,
    name: str,
    server: MemoryServer,
    asked: Sequence[tuple[str, str, str]],
    *,
    change: Callable[[MemoryHandle], MemoryHandle] = lambda handle: handle,
) -> tuple[str, ...]:
    """Search the pinned snapshot embedded and on the server; return the cases whose first hits differ.

    A question is a case, its tenant and its text. `change` may change how both sides search.
    """
    pinned = StoreLocation(state=root / layout.STATE, pinned=root / Results(use_case=name).memory)
    sides = [_workspace(root, name, where) for where in (pinned, dataclasses.replace(pinned, server=server))]

    def hits(ws: Workspace, tenant: str, text: str) -> list[str]:
        return [hit.id for hit in change(ws.bind(tenant=tenant).memory()).search(text, k=DEPTH)]

    found = tuple(
        case for case, tenant, text in asked if hits(sides[0], tenant, text) != hits(sides[1], tenant, text)
    )
    for ws in sides:
        ws.close()
    return found


def _workspace(root: Path, name: str, where: StoreLocation) -> Workspace:
    tape = boundary.open_tape(root / layout.tape_of(name))
    places = boundary.StatePaths(home=root, memories=where)
    through = boundary.Boundary(root, mode="replay", tape=tape, places=places)
    return workspace.connect(name, root=root, purpose="parity", through=through)


def _progress(text: str, *, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(f"== {text}\n")


def exit_code(found: Sequence[Parity]) -> int:
    """Return the exit code of the worst verdict, as `workbench repro` does."""
    return max((parity.gate.exit_code for parity in found), default=0)
