"""Running a promoted job on today's input, and reproducing its sample.

The version's folder and label are taken from HEAD, its code from the commit it names, its environment
from its own lock. What runs is the worker of that code, in a process of its own; what it wrote is
published whole or not at all, once for each slot.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, registry
from workbench.context import Clock
from workbench.display import degraded_note
from workbench.errors import (
    CorruptError,
    DeadlineError,
    NotFoundError,
    RefusedError,
    WorkbenchError,
)
from workbench.experiments.inputs import read
from workbench.jobs import publishing, runner, slots
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import Ledger, Outcome, Slot
from workbench.jobs.publishing import Manifest
from workbench.jobs.result import JobResult
from workbench.jobs.runner import Place, Request, Result
from workbench.jobs.slots import Task
from workbench.jobs.spec import JobSpec
from workbench.layout import CACHE, CODE, EXECUTED, JOB_LEDGER, JOB_STATE, JOB_WORK, LOCK
from workbench.registry import Reference
from workbench.repository import environments
from workbench.repository.git import Repository

_BEAT_S = 10.0
#: A cell's error up to its kind: what follows may be words of a row, which a ledger does not keep.
_CELL = re.compile(r"(, cell \d+: \w+).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A version that can run: its page and folder, verified; its code, exported; its interpreter."""

    spec: JobSpec
    folder: Path
    code: Path
    python: Path


def ledger(root: Path, clock: Clock) -> Ledger:
    """The ledger of a repository; runs that died are declared lost, and what they left is removed."""
    found = Ledger(root / JOB_LEDGER, clock=clock)
    found.reconcile()
    for work in (root / JOB_WORK).glob("*"):
        if found.is_alive(work.name):
            continue
        runner.end(work.name)
        for copy in (root / EXECUTED).glob(f"*-{work.name}.*"):  # nobody scrubbed it
            copy.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)  # last: it says that there is something left
    return found


def ready(root: Path, name: str, number: int) -> Ready:
    """A version made ready to run; every reason why it cannot is one error, before anything runs."""
    spec, folder = jobspec.load(root, name, number)
    repository = Repository(root=root)
    commit = jobspec.code_of(root, spec)
    lock = repository.read(commit, LOCK) or b""
    if files.digest(lock) != spec.digests["lock"]:
        raise CorruptError(f"{LOCK} at {commit[:12]} is not the one {spec.reference} was judged with")
    python = environments.python_of(root, lock, install_hint=f"workbench jobs install {spec.reference}")
    code = repository.export(commit, root / CODE / commit)
    return Ready(spec=spec, folder=folder, code=code, python=python)


def number_of(root: Path, reference: str) -> tuple[str, int]:
    """The job and version that `answers` (production), `answers@2` or `answers@candidate` means."""
    ref = Reference.parse(reference)
    if ref.version is None and ref.label is None:
        asset = registry.load(root, "job", ref.name)
        if "production" not in asset.labels:
            raise NotFoundError(
                f"job {ref.name!r} has no version in production",
                hint=f"workbench promote job/{ref.name} --to production",
            )
        return ref.name, asset.labels["production"]
    return ref.name, registry.resolve(root, "job", reference).number


def run(root: Path, task: Task) -> JobResult:
    """Run a job on an input and publish what it gives; what was published, held, or there already.

    RefusedError when the label's move is not committed, when the slot is published from another input
    or version, or when another run of the slot is alive.
    """
    name, number = number_of(root, task.reference)
    jobspec.load(root, name, number)  # first: what was changed by hand is not to be committed
    _check_committed(root, name)
    this = ready(root, name, number)
    slot = slots.slot_of(this.spec, task)
    source = slots.input_of(root, this.spec, task, slot)
    data = files.digest(slots.bytes_of(source))
    read(source, tenant=task.tenant)  # a file that holds no rows is told before a kernel is started
    book, run_id = ledger(root, task.clock), secrets.token_hex(8)
    # Claimed before anything is looked at, so that nobody else publishes between the look and the run.
    book.claim(slot, run=run_id, version=number, input_digest=data)
    with _recorded(book, run_id):
        target = publishing.target_of(root, slot)
        publishing.recover(target.parents[1], alive=book.is_alive)
        if task.replace or not target.exists():
            return _run(root, this, task, slot, source, book, run_id)
        there = publishing.read(target)
        if (there.version, there.input_digest) != (number, data):
            again = f"workbench jobs run {task.reference} --input {shlex.quote(str(source))}"
            raise _taken(slot, there, number, again)
        _finish(book, dataclasses.replace(there, run=run_id), "unchanged", folder=_relative(root, target))
        shutil.rmtree(root / JOB_STATE / slot.key, ignore_errors=True)
        return JobResult.of(there, slot=slot, outcome="unchanged", folder=_relative(root, target))


def _taken(slot: Slot, there: Manifest, number: int, again: str) -> RefusedError:
    """The error for a slot that was published from something else."""
    other = "version" if there.version != number else "input"
    whose = f" --tenant {slot.tenant}" if slot.tenant else ""
    return RefusedError(
        f"{slot.key} is published already, by {there.job}@{there.version} from another {other}",
        hint=f"{again}{whose} --at {slots.iso(slot.at)} --replace",
    )


@contextmanager
def _recorded(book: Ledger, run_id: str) -> Iterator[None]:
    """Settle a run that ends with an error, by what ended it."""
    try:
        yield
    except BaseException as error:
        said = error.message if isinstance(error, WorkbenchError) else type(error).__name__
        detail = _CELL.sub(r"\1", said.partition("\n")[0])
        if book.is_alive(run_id):
            book.finished(run_id, _ending(error), detail=detail)
        raise


def _ending(error: BaseException) -> Outcome:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "deadline" if isinstance(error, DeadlineError) else "failed"


def _run(
    root: Path, this: Ready, task: Task, slot: Slot, source: Path, book: Ledger, run_id: str
) -> JobResult:
    spec, work = this.spec, root / JOB_WORK / run_id
    # No tape is there: today's rows are asked today. Answers are kept until published, for a rerun.
    tape, journal = work / jobspec.TAPE, JOB_STATE / slot.key / f"{spec.version}.jsonl"
    data = slots.bytes_of(source)
    inputs = Path("input") / source.name
    files.write_atomic(work / inputs, data)
    told = {"tenant": task.tenant, "journal": str(journal), "show": task.show}
    request = _request(root, this, work, run_id, inputs=inputs, mode="auto", tape=str(tape), **told)
    book.started(run_id, os.getpid())
    beat = _Beat(book, run_id, task.clock)
    try:
        result = runner.run(request, python=this.python, folder=work, seconds=spec.limits.seconds, tick=beat)
        manifest = _manifest(spec, slot, run_id, files.digest(data), result)
        if result.counts["held"]:
            return _held(root, book, slot, work, manifest)
        book.beat(run_id)  # whoever was declared lost meanwhile may not publish
        target = publishing.target_of(root, slot)
        staged = publishing.staging_of(target, run_id)
        _copy(work / "out", staged)
        publishing.publish(staged, target, manifest, replace=task.replace)
        said = "".join(degraded_note(manifest.counts.get("degraded", 0)))
        _finish(book, manifest, "published", folder=_relative(root, target), detail=said)
        shutil.rmtree(root / JOB_STATE / slot.key, ignore_errors=True)
        there = publishing.read(target)
        return JobResult.of(there, slot=slot, outcome="published", folder=_relative(root, target))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _request(root: Path, this: Ready, work: Path, run_id: str, *, inputs: Path, **rest: Any) -> Request:
    task, place = (this.folder / jobspec.TASK).read_bytes(), Place(home=root, code=this.code, work=work)
    return runner.request_of(this.spec, task, place, run=run_id, inputs=inputs, **rest)


def reproduce(root: Path, name: str, number: int, out: Path) -> None:
    """The version's sample, answered from its own tape, into `out`; CorruptError when a byte is another."""
    this = ready(root, name, number)
    spec, run_id = this.spec, secrets.token_hex(8)
    work = root / CACHE / "reproducing" / f"{name}-{number}"
    shutil.rmtree(work, ignore_errors=True)  # of a stage that was killed
    try:
        files.write_atomic(work / spec.sample, (this.folder / spec.sample).read_bytes())
        tape = str(this.folder / jobspec.TAPE)
        request = _request(root, this, work, run_id, inputs=Path(spec.sample), mode="replay", tape=tape)
        result = runner.run(request, python=this.python, folder=work, seconds=spec.limits.seconds)
        Path(result.notebook).unlink(missing_ok=True)
        found = {path.name: files.digest(files.read_bytes(path)) for path in sorted((work / "out").iterdir())}
        if found != spec.sample_outputs:
            changed = ", ".join(sorted({name for name, _ in found.items() ^ spec.sample_outputs.items()}))
            raise CorruptError(
                f"{spec.reference}: the sample gives other bytes than as promoted: {changed}",
                hint=f"workbench jobs install {spec.reference}, then: dvc repro",
            )
        _copy(work / "out", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# -- inside -----------------------------------------------------------------------------------------


class _Beat:
    """Renews the lease now and then; raises when the run was declared lost."""

    def __init__(self, book: Ledger, run_id: str, clock: Clock) -> None:
        self._book, self._run_id, self._clock, self._last = book, run_id, clock, clock.monotonic()

    def __call__(self) -> None:
        if self._clock.monotonic() - self._last > _BEAT_S:
            self._last = self._clock.monotonic()
            self._book.beat(self._run_id)


def _check_committed(root: Path, name: str) -> None:
    place = f"pipelines/jobs/{name}"
    left = Repository(root=root).changed(below=[place])
    if left:
        raise RefusedError(
            f"the last promotion or rollback of job {name!r} is not committed ({left[0]})",
            hint=f"git add {place} pipelines/jobs/stages.yaml && git commit",
        )


def _manifest(spec: JobSpec, slot: Slot, run_id: str, input_digest: str, result: Result) -> Manifest:
    counts: dict[str, Any] = dict(result.counts)
    cost, held = counts.pop("cost_usd"), counts.pop("held")
    tokens = {name: counts.pop(name) for name in ("input_tokens", "output_tokens")}
    return Manifest(
        job=spec.job,
        version=spec.version,
        tenant=slot.tenant,
        at=slots.iso(slot.at),
        run=run_id,
        use_case=spec.use_case,
        input_digest=input_digest,
        task_digest=result.task_digest,
        counts=counts,
        cost_usd=cost,
        tokens=tokens,
        verdict="held" if held else "published",
        settings={**spec.pins, "snapshot": spec.digests["memory"]},
    )


def _held(root: Path, book: Ledger, slot: Slot, work: Path, manifest: Manifest) -> JobResult:
    """Too many rows are broken: nothing is published, and the rows are kept where they can be looked at."""
    kept = JOB_STATE / slot.key / f"held-{manifest.run}.parquet"
    files.write_atomic(root / kept, (work / "out" / "quarantine.parquet").read_bytes())
    counts = manifest.counts
    _finish(book, manifest, "held", detail=f"{counts['quarantined']} of {counts['rows']} rows broken: {kept}")
    return JobResult.of(manifest, slot=slot, outcome="held", folder=str(kept))


def _finish(
    book: Ledger, manifest: Manifest, outcome: Outcome, *, folder: str = "", detail: str = ""
) -> None:
    book.finished(
        manifest.run,
        outcome,
        rows=manifest.counts["rows"],
        quarantined=manifest.counts["quarantined"],
        cost_usd=manifest.cost_usd,
        folder=folder,
        detail=detail,
    )


def _copy(source: Path, target: Path) -> None:
    """The worker's output, which is files alone, in place of what `target` holds."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        for path in sorted(source.iterdir()):
            files.write_atomic(target / path.name, files.read_bytes(path))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
