"""Make a version of a job ready to run, from its own commit and lock; reproduce its sample."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import CorruptError
from workbench.files import folders
from workbench.jobs import runner
from workbench.jobs import spec as jobspec
from workbench.jobs.runner import Request, RunPaths
from workbench.jobs.spec import JobSpec
from workbench.layout import CACHE, CODE, LOCK
from workbench.repository import environments
from workbench.repository.git import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A version that can run: its verified page and folder, its exported code, its interpreter."""

    spec: JobSpec
    folder: Path
    code: Path
    python: Path


def ready(root: Path, spec: JobSpec, folder: Path) -> Ready:
    """Return a loaded version ready to run; raise the reason why it cannot run here."""
    repository = Repository(root=root)
    commit = jobspec.code_of(root, spec)
    lock = repository.read(commit, LOCK) or b""
    if files.digest(lock) != spec.digests["lock"]:
        raise CorruptError(
            f"{LOCK} at {commit[:12]} differs from the lock that {spec.reference} was judged with",
            hint=f"git log --oneline -- {LOCK}; promote the job again to judge it with today's lock",
        )
    python = environments.python_of(root, lock, install_hint=f"workbench jobs install {spec.reference}")
    code = repository.export(commit, root / CODE / commit)
    return Ready(spec=spec, folder=folder, code=code, python=python)


def request_to(root: Path, version: Ready, work: Path, run_id: str, *, inputs: Path, **rest: Any) -> Request:
    """Write a version's frozen notebook into the folder `work`; return the request to run it there."""
    task, place = (
        (version.folder / jobspec.TASK).read_bytes(),
        RunPaths(home=root, code=version.code, work=work),
    )
    return runner.request_of(version.spec, task, place, run=run_id, inputs=inputs, **rest)


def copy_output(source: Path, target: Path) -> None:
    """Replace `target` by the files of the worker's output."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        for path in sorted(source.iterdir()):
            files.write_atomic(target / path.name, files.read_bytes(path))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def reproduce(root: Path, name: str, number: int, out: Path) -> None:
    """Answer the version's sample from its own tape into `out`; CorruptError when a byte differs."""
    version = ready(root, *jobspec.load(root, name, number))
    spec, run_id = version.spec, secrets.token_hex(8)
    work = root / CACHE / "reproducing" / f"{name}-{number}"
    folders.remove(work)  # left by a killed stage
    try:
        files.write_atomic(work / spec.sample, (version.folder / spec.sample).read_bytes())
        tape = str(version.folder / jobspec.TAPE)
        request = request_to(root, version, work, run_id, inputs=Path(spec.sample), mode="replay", tape=tape)
        result = runner.run(request, python=version.python, folder=work, seconds=spec.limits.seconds)
        Path(result.notebook).unlink(missing_ok=True)
        found = {path.name: files.digest(files.read_bytes(path)) for path in sorted((work / "out").iterdir())}
        if found != spec.sample_outputs:
            changed = ", ".join(sorted({name for name, _ in found.items() ^ spec.sample_outputs.items()}))
            raise CorruptError(
                f"{spec.reference}: outputs of the sample differ from those of its promotion: {changed}",
                hint=f"workbench jobs install {spec.reference}, then: dvc repro",
            )
        copy_output(work / "out", out)
    finally:
        folders.remove(work)
