"""Run the pipeline's steps with the memory on a server, and compare its hits with the pipeline's.

All output is written below `.workbench/weaviate/`, with a copy of the tape; pinned results do not change.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout
from workbench.config import MemoryServer, UseCase
from workbench.errors import CorruptError, NotFoundError
from workbench.experiments.gates import GateReport
from workbench.layout import ON_SERVER, Results
from workbench.memory.snapshot import read_manifest
from workbench.memory.stores import StoreLocation
from workbench.memory.weaviate.local_server import default_server
from workbench.pipeline import build, stages
from workbench.pipeline.judge import judge
from workbench.pipeline.repro import make_tapes
from workbench.promotion.judgement import prepared_cases
from workbench.retrieval import MemoryHandle
from workbench.workspace.use_case import pages_of

#: The number of hits of each question that are compared.
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
        """Return the value that `--json` prints."""
        return {**dataclasses.asdict(self), "gate": self.gate.to_json()}

    def __str__(self) -> str:
        return "\n".join([
            str(self.gate),
            f"memory: {self.store}, snapshot {self.snapshot[:12]}, equal to the pipeline's",
            f"hits:   {len(self.differences)} of {self.asked} questions differ in their first {DEPTH}",
            *(f"        {case}" for case in self.differences),
        ])  # fmt: skip


def reproduce_on_server(root: Path, *, quiet: bool = False) -> list[Parity]:
    """Run the steps of each use case with a memory on the server of params.yaml, or on the local one.

    Raise UnavailableError when no server answers, CorruptError when the server returns other items than
    the pipeline's snapshot holds, and the errors of the steps.
    """
    params = config.load_params(root)
    make_tapes(root, params)
    cases = {name: case for name, case in params.use_cases.items() if case.memory}
    return [_on_server(root, name, case, quiet=quiet) for name, case in cases.items()]


def _on_server(root: Path, name: str, case: UseCase, *, quiet: bool) -> Parity:
    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"== {text}\n")

    server = config.memory_server(case) or default_server(root)
    say(f"{name}: memory on {server.url}")
    results, pipeline = Results(use_case=name, base=ON_SERVER), Results(use_case=name)
    if not (root / pipeline.memory / "manifest.json").is_file():
        raise NotFoundError(f"the pipeline's snapshot {pipeline.memory} is missing", hint="make repro")
    shutil.rmtree(root / results.folder, ignore_errors=True)
    stages.prepare(root, name, results=results)
    for ours, tape in ((results.tape, pipeline.tape), (results.judge_tape, pipeline.judge_tape)):
        files.write_atomic(root / ours, files.read_bytes(root / tape))
    say("remember: ingest into the server, and a snapshot of it")
    live = StoreLocation(state=root / layout.STATE, server=server)
    with closing(build.replaying(root, name, live, purpose="parity")) as ws:
        build.ingest_through(ws, pages_of(root, name, case), root / results.memory)
    written, pinned = (read_manifest(root / side.memory).logical_digest for side in (results, pipeline))
    if written != pinned:
        raise CorruptError(
            f"the server's memory has snapshot {written[:12]}, the pipeline's {pinned[:12]}",
            hint="dvc repro, then make repro MEMORY=weaviate; if they still differ, the store alters items",
        )
    say("judge and experiment: the notebook, with searches on the server")
    judge(root, name, results=results, show=not quiet, live_memory=True, memory_server=server)
    stages.execute(root, results, show=not quiet, live_memory=True, memory_server=server)
    gate = stages.gate(root, name, results=results)
    stages.report(root, name, results=results, page=str(results.folder / "readiness"))
    say("compare: hits of the server with those of the pipeline's snapshot")
    cases = prepared_cases(root, case, results)
    asked = [(c.id, c.tenant, str(c.inputs["question"])) for c in cases if "question" in c.inputs]
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

    `asked` has the case, tenant and text of each question. `change` may change how both sides search.
    """
    pinned = StoreLocation(state=root / layout.STATE, pinned=root / Results(use_case=name).memory)

    def hits(where: StoreLocation) -> list[list[str]]:
        with closing(build.replaying(root, name, where, purpose="parity")) as ws:
            handles = [(change(ws.bind(tenant=tenant).memory()), text) for _, tenant, text in asked]
            return [[hit.id for hit in handle.search(text, k=DEPTH)] for handle, text in handles]

    pairs = zip(hits(pinned), hits(dataclasses.replace(pinned, server=server)), strict=True)
    return tuple(asked[n][0] for n, (embedded, remote) in enumerate(pairs) if embedded != remote)
