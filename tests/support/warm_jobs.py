"""A repository whose jobs run in real kernels, on the code of this checkout, without asking a model.

Each notebook is a version of the job `small`, frozen by hand: what is tested is how its runs are started.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import sys
from pathlib import Path

from made_jobs import LOCKED, a_spec
from made_repositories import git, saved
from small_use_case import NOTEBOOK, PUBLISH, notebook, small_repository

from workbench import config, files, layout, registry
from workbench.jobs import spec as jobspec
from workbench.layout import Results
from workbench.memory.snapshot import read_manifest
from workbench.pipeline import stages
from workbench.promotion import release
from workbench.promotion.freezing import LOCK
from workbench.repository import environments
from workbench.testing.fakes import FakeClock

ROOT = Path(__file__).resolve().parents[2]
JOBS = """\
jobs:
  small:
    use_case: small
    sample: data/sample.jsonl
    input: data/rows.jsonl
    schedule: {cron: "0 6 * * *", timezone: UTC}
    limits: {seconds: 100, broken: 1.0}
"""
#: The answer to each row is the value of `said` after the cells of a version.
TASK = """import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    return wb.Answer(text=str(said))"""
PARAMETERS = (["parameters"], 'k = 1\ninputs = ""')
OPERATIONS = "capacity: {runs: 1}\ndefaults: {retries: {times: 0}, start_deadline_s: 2000000}\n"
IGNORED = "/.workbench/\n/published/\n/results/\n/reports/\n__pycache__/\n"


def warm_repository(root: Path) -> Path:
    """A committed repository with the code of this checkout and the prepared memory of `small`."""
    small_repository(root)
    page = (root / "params.yaml").read_text()
    rows = [{"id": f"r-{n}", "tenant": "acme", "question": f"What is {n}?"} for n in range(2)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    shutil.copytree(ROOT / "workbench", root / "workbench")  # compiled as it is
    release.write_stages(root)
    git(root.parent, "init", "--quiet", str(root))
    saved(root, "Start", **{
        "params.yaml": page + JOBS, "data/rows.jsonl": lines, "data/sample.jsonl": lines,
        LOCK: LOCKED.decode(), ".gitignore": IGNORED, "pipelines/operations.yaml": OPERATIONS,
    })  # fmt: skip
    stages.prepare(root, "small")
    stages.remember(root, "small")
    snapshot = root / Results(use_case="small").memory
    digest = read_manifest(snapshot).logical_digest
    shutil.copytree(snapshot, root / layout.CACHE / "memories" / digest)
    _install(root)
    return root


def _install(root: Path) -> None:
    """Let the running interpreter be that of the environment of the lock."""
    folder = root / layout.ENVIRONMENTS / environments.digest(LOCKED)
    files.write_atomic(folder / environments.STAMP, LOCKED)
    files.write_atomic(
        folder / "bin/python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'.encode()
    )
    (folder / "bin/python").chmod(0o755)


def frozen_notebook(root: Path, *cells: str, label: str | None = "production", commit: str = "HEAD") -> int:
    """Freeze a version whose notebook has these cells before its task; commit it and return its number."""
    made = [PARAMETERS, *(([], cell) for cell in cells), ([], TASK), ([], PUBLISH)]
    task = notebook(cells=tuple(made)).encode()
    asset = registry.load_or_new(root, "job", "small")
    number = max(asset.versions, default=0) + 1
    digest = read_manifest(root / Results(use_case="small").memory).logical_digest
    contents = {jobspec.TASK: task, "sample.jsonl": b"", jobspec.TAPE: b""}
    at = git(root, "rev-parse", commit)
    spec = a_spec(
        job="small", use_case="small", version=number, notebook=NOTEBOOK, parameters={}, arm={}, pins={},
        commit=at, code={"workbench": git(root, "rev-parse", f"{at}:workbench")}, input="data/rows.jsonl",
        files={name: files.digest(data) for name, data in contents.items()},
        limits=config.Limits(seconds=100, broken=1.0), sample_outputs={},
    )  # fmt: skip
    spec = dataclasses.replace(spec, digests={**spec.digests, "memory": digest})
    folder = registry.path_of(root, "job", "small", number).parent
    for name, data in {**contents, jobspec.PAGE: spec.text()}.items():
        files.write_atomic(folder / name, data)
    entry = registry.VersionEntry(digest=files.digest(spec.text()), author="Ada", reason=f"reason {number}")
    asset = dataclasses.replace(asset, versions={**asset.versions, number: entry})
    if label is None:
        registry.write(root, asset)
    else:
        release.move(
            root, asset, label=label, version=number, reason="it passed", run=None, clock=FakeClock()
        )
    saved(root, f"Version {number}")
    return number
