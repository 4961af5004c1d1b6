"""Run a promoted job on an input and publish its output once for each slot; reproduce its sample.

The version's folder and label come from HEAD, its code from the commit that it names, its environment from
its own lock. The worker of that code runs in a process of its own. Its output is published atomically.
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

from workbench import files, identity, processes, registry
from workbench.audit import Act, audited
from workbench.context import Clock
from workbench.display import degraded_note, fallback_note
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
from workbench.jobs.ledger import Outcome, RunLedger, Slot
from workbench.jobs.publishing import PublishedManifest
from workbench.jobs.result import JobResult
from workbench.jobs.runner import Request, RunPaths, WorkerResult
from workbench.jobs.slots import RunRequest
from workbench.jobs.spec import JobSpec
from workbench.layout import CACHE, CODE, EXECUTED, JOB_LEDGER, JOB_STATE, JOB_WORK, LOCK
from workbench.registry import Reference
from workbench.repository import environments
from workbench.repository.git import Repository

_BEAT_S = 10.0
#: A cell's error up to its kind. The rest may quote a row, which a ledger does not keep.
_CELL = re.compile(r"(, cell \d+: \w+).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A version that can run: its verified page and folder, its exported code, its interpreter."""

    spec: JobSpec
    folder: Path
    code: Path
    python: Path


def ledger(root: Path, clock: Clock) -> RunLedger:
    """Open a repository's ledger, declare runs whose process died lost, and remove their files."""
    found = RunLedger(root / JOB_LEDGER, clock=clock)
    found.reconcile()
    for work in (root / JOB_WORK).glob("*"):
        if found.is_alive(work.name):
            continue
        processes.end(work.name)
        for copy in (root / EXECUTED).glob(f"*-{work.name}.*"):  # it still holds outputs and parameters
            copy.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)  # last, because this folder shows what is left to remove
    return found


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


def number_of(root: Path, reference: str) -> tuple[str, int]:
    """Return the job and version of a reference: `answers` (production), `answers@2`, `answers@candidate`."""
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


def run(root: Path, task: RunRequest) -> JobResult:
    """Run a job on an input and publish its output, unless the slot has the same output already.

    Raise RefusedError when the label's move is not committed, when the slot is published from another
    input or version, or when another run of the slot is alive.
    """
    name, number = number_of(root, task.reference)
    # Before the check of commits, whose hint would commit a version that was changed by hand.
    spec, folder = jobspec.load(root, name, number)
    _check_committed(root, name)
    version = ready(root, spec, folder)
    slot = slots.slot_of(version.spec, task)
    source = slots.input_of(root, version.spec, task, slot)
    data = files.digest(slots.bytes_of(source))
    read(source, tenant=task.tenant)  # an unreadable input raises before a kernel starts
    book, run_id = ledger(root, task.clock), secrets.token_hex(8)
    # Claimed before the output is read, so that no other run publishes in between.
    book.claim(slot, run=run_id, version=number, input_digest=data)
    with _recorded(book, run_id):
        target = publishing.target_of(root, slot)
        publishing.recover(target.parents[1], alive=book.is_alive)
        if task.replace or not target.exists():
            return _run(
                _SlotRun(
                    root=root, ready=version, request=task, slot=slot, source=source, book=book, id=run_id
                )
            )
        published = publishing.read(target)
        if (published.version, published.input_digest) != (number, data):
            again = f"workbench jobs run {task.reference} --input {shlex.quote(str(source))}"
            raise _taken(slot, published, number, again)
        place = target.relative_to(root).as_posix()
        _finish(book, dataclasses.replace(published, run=run_id), "unchanged", folder=place)
        shutil.rmtree(root / JOB_STATE / slot.key, ignore_errors=True)
        return JobResult(slot=slot.key, outcome="unchanged", folder=place, manifest=published)


def _taken(slot: Slot, published: PublishedManifest, number: int, again: str) -> RefusedError:
    """Return the error for a slot that another version or input has published."""
    other = "version" if published.version != number else "input"
    tenant = f" --tenant {slot.tenant}" if slot.tenant else ""
    return RefusedError(
        f"{slot.key} is published already, by {published.job}@{published.version} from another {other}",
        hint=f"{again}{tenant} --at {slots.iso(slot.at)} --replace",
    )


@contextmanager
def _recorded(book: RunLedger, run_id: str) -> Iterator[None]:
    """Record the outcome of a run that raises an error."""
    try:
        yield
    except BaseException as error:
        said = error.message if isinstance(error, WorkbenchError) else type(error).__name__
        detail = _CELL.sub(r"\1", said.partition("\n")[0])
        if book.is_alive(run_id):
            outcome: Outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            book.finished(run_id, "deadline" if isinstance(error, DeadlineError) else outcome, detail=detail)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _SlotRun:
    """One run of a slot: its request, version, input and ledger."""

    root: Path
    ready: Ready
    request: RunRequest
    slot: Slot
    source: Path
    book: RunLedger
    id: str

    @property
    def work(self) -> Path:
        """The folder of the run, removed at its end."""
        return self.root / JOB_WORK / self.id

    @property
    def kept(self) -> Path:
        """The folder that keeps answers and held rows for the slot, relative to the root."""
        return JOB_STATE / self.slot.key


def _run(attempt: _SlotRun) -> JobResult:
    """Run the worker on the input, and publish its output or hold it back."""
    spec = attempt.ready.spec
    data = slots.bytes_of(attempt.source)
    inputs = Path("input") / attempt.source.name
    files.write_atomic(attempt.work / inputs, data)
    attempt.book.started(attempt.id, os.getpid())
    beat = _Beat(attempt.book, attempt.id, attempt.request.clock)
    try:
        # The tape does not exist, so that the model answers today's rows; the journal keeps its answers
        # for a rerun, until the slot is published.
        request = _request(
            attempt.root, attempt.ready, attempt.work, attempt.id,
            inputs=inputs, mode="auto", tape=str(attempt.work / jobspec.TAPE),
            journal=str(attempt.kept / f"{spec.version}.jsonl"),
            tenant=attempt.request.tenant, show=attempt.request.show,
        )  # fmt: skip
        seconds = spec.limits.seconds
        result = runner.run(
            request, python=attempt.ready.python, folder=attempt.work, seconds=seconds, tick=beat
        )
        manifest = _manifest(spec, attempt.slot, attempt.id, files.digest(data), result)
        if result.counts["held"]:
            return _held(attempt, manifest)
        return _published(attempt, manifest)
    finally:
        shutil.rmtree(attempt.work, ignore_errors=True)


def _published(attempt: _SlotRun, manifest: PublishedManifest) -> JobResult:
    attempt.book.beat(attempt.id)  # raises for a run that was declared lost
    target = publishing.target_of(attempt.root, attempt.slot)
    staged = publishing.staging_of(target, attempt.id)
    _copy(attempt.work / "out", staged)
    act = Act(
        activity="publish", principal=identity.of_job(manifest.job), type="Job",
        name=f"{manifest.job}@{manifest.version}", tenant=manifest.tenant, use_case=manifest.use_case,
        decision=attempt.request.decision,
        facts={"slot": attempt.slot.key, "input": manifest.input_digest[:16]},
    )  # fmt: skip
    with audited(attempt.root, act):
        publishing.publish(staged, target, manifest, replace=attempt.request.replace)
    counts = manifest.counts
    notes = [*degraded_note(counts.get("degraded", 0)), *fallback_note(counts.get("fallback", 0))]
    folder = target.relative_to(attempt.root).as_posix()
    _finish(attempt.book, manifest, "published", folder=folder, detail="; ".join(notes))
    shutil.rmtree(attempt.root / attempt.kept, ignore_errors=True)
    return JobResult(
        slot=attempt.slot.key, outcome="published", folder=folder, manifest=publishing.read(target)
    )


def _request(root: Path, version: Ready, work: Path, run_id: str, *, inputs: Path, **rest: Any) -> Request:
    task, place = (
        (version.folder / jobspec.TASK).read_bytes(),
        RunPaths(home=root, code=version.code, work=work),
    )
    return runner.request_of(version.spec, task, place, run=run_id, inputs=inputs, **rest)


def reproduce(root: Path, name: str, number: int, out: Path) -> None:
    """Answer the version's sample from its own tape into `out`; CorruptError when a byte differs."""
    version = ready(root, *jobspec.load(root, name, number))
    spec, run_id = version.spec, secrets.token_hex(8)
    work = root / CACHE / "reproducing" / f"{name}-{number}"
    shutil.rmtree(work, ignore_errors=True)  # left by a killed stage
    try:
        files.write_atomic(work / spec.sample, (version.folder / spec.sample).read_bytes())
        tape = str(version.folder / jobspec.TAPE)
        request = _request(root, version, work, run_id, inputs=Path(spec.sample), mode="replay", tape=tape)
        result = runner.run(request, python=version.python, folder=work, seconds=spec.limits.seconds)
        Path(result.notebook).unlink(missing_ok=True)
        found = {path.name: files.digest(files.read_bytes(path)) for path in sorted((work / "out").iterdir())}
        if found != spec.sample_outputs:
            changed = ", ".join(sorted({name for name, _ in found.items() ^ spec.sample_outputs.items()}))
            raise CorruptError(
                f"{spec.reference}: outputs of the sample differ from those of its promotion: {changed}",
                hint=f"workbench jobs install {spec.reference}, then: dvc repro",
            )
        _copy(work / "out", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Beat:
    """Renews the lease every ten seconds; raises RefusedError when the run was declared lost."""

    def __init__(self, book: RunLedger, run_id: str, clock: Clock) -> None:
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


def _manifest(
    spec: JobSpec, slot: Slot, run_id: str, input_digest: str, result: WorkerResult
) -> PublishedManifest:
    counts: dict[str, Any] = dict(result.counts)
    cost, held = counts.pop("cost_usd"), counts.pop("held")
    tokens = {name: counts.pop(name) for name in ("input_tokens", "output_tokens")}
    return PublishedManifest(
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
        settings={**spec.pins, **({"snapshot": spec.digests["memory"]} if "memory" in spec.pins else {})},
    )


def _held(attempt: _SlotRun, manifest: PublishedManifest) -> JobResult:
    """Keep the broken rows and publish nothing."""
    kept = attempt.kept / f"held-{manifest.run}.parquet"
    files.write_atomic(attempt.root / kept, (attempt.work / "out" / "quarantine.parquet").read_bytes())
    counts = manifest.counts
    detail = f"{counts['quarantined']} of {counts['rows']} rows broken: {kept}"
    _finish(attempt.book, manifest, "held", detail=detail)
    return JobResult(slot=attempt.slot.key, outcome="held", folder=str(kept), manifest=manifest)


def _finish(
    book: RunLedger, manifest: PublishedManifest, outcome: Outcome, *, folder: str = "", detail: str = ""
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
    """Replace `target` by the files of the worker's output."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        for path in sorted(source.iterdir()):
            files.write_atomic(target / path.name, files.read_bytes(path))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
