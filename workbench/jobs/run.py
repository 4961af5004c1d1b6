"""Run a promoted job on an input and publish its output once for each slot.

The version's folder and label come from HEAD, its code from the commit that it names, its environment from
its own lock. The worker of that code runs in a process of its own. Its output is published atomically.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import files, identity, processes, registry
from workbench.audit import Act, audited
from workbench.config.operations import load_operations
from workbench.context import Clock
from workbench.display import degraded_note, fallback_note
from workbench.errors import (
    NotFoundError,
    RefusedError,
    WorkbenchError,
)
from workbench.experiments.inputs import read
from workbench.files import folders
from workbench.jobs import after_run, publishing, runner, slots, trial_runs
from workbench.jobs import spec as jobspec
from workbench.jobs.after_run import AfterRun
from workbench.jobs.effects import RunEffects
from workbench.jobs.ledger import DamagedRowError, JobLedger, JobRun, Outcome, Slot, open_ledger
from workbench.jobs.output_measures import RunOutput
from workbench.jobs.parity import checked_parity
from workbench.jobs.publishing import PublishedManifest
from workbench.jobs.purged_writes import check_not_purged, write_again
from workbench.jobs.ready import Ready, copy_output, ready, request_to
from workbench.jobs.recording import Beat, detail_of, recorded
from workbench.jobs.result import JobResult
from workbench.jobs.roles import JobRoles, roles_of, version_in_role, withdrawn_in
from workbench.jobs.run_watch import RunWatch
from workbench.jobs.runner import WorkerResult
from workbench.jobs.shares import Share
from workbench.jobs.slots import RunRequest
from workbench.jobs.trial_runs import CanaryAnswer, CanaryOrder
from workbench.layout import EXECUTED, JOB_STATE, JOB_WORK, STATE
from workbench.registry import Reference
from workbench.repository.git import Repository

#: Where the outputs of shadows are kept, by slot and version.
SHADOW_STATE = STATE / "shadow"


def ledger(root: Path, clock: Clock) -> JobLedger:
    """Open a repository's ledger, end the runs whose process died, and remove their files."""
    found = open_ledger(root, clock)
    found.reconcile()
    remove_remains(root, found)
    return found


def remove_remains(root: Path, book: JobLedger) -> None:
    """Remove what killed runs left on this machine, whose lines have ended.

    `reconcile` ends the lines of the dead; a run may also be killed after its line has ended.
    """
    for work in (root / JOB_WORK).glob("*"):
        try:
            ended = _line_of(book, work.name)
        except DamagedRowError:
            continue  # it may be alive
        if ended is not None and ended.alive:
            continue
        processes.end(work.name)
        for copy in (root / EXECUTED).glob(f"*-{work.name}.*"):  # it still holds outputs and parameters
            copy.unlink(missing_ok=True)
        if ended is not None and (ended.role, ended.outcome) == ("production", "published"):
            shutil.rmtree(root / JOB_STATE / ended.slot.key, ignore_errors=True)
        folders.remove(work)  # last, because this folder shows what is left to remove


def _line_of(book: JobLedger, run_id: str) -> JobRun | None:
    """Return the ledger's line of a run, None when it was purged."""
    try:
        return book.run(run_id)
    except NotFoundError:
        return None


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

    Raise RefusedError when the label's move is not committed, when the job is paused, when the slot is
    published from another input or version, or when another run of the slot is alive.
    """
    with failures_recorded(root, task):
        book = ledger(root, task.clock)
        name = task.reference.partition("@")[0]
        name, number = version_in_role(root, task.reference, task.role, withdrawn_in(book, name))
        # Before the check of commits, whose hint would commit a version that was changed by hand.
        spec, folder = jobspec.load(root, name, number)
        _check_committed(root, name)
        version = ready(root, spec, folder)
        slot = slots.slot_of(version.spec, task)
        after_run.check_not_paused(book, name, number)
        _check_active(book, task, slot)
        if task.role == "production" and not task.replace:  # a shadow's writes end with it
            check_not_purged(root, slot)
        source = slots.input_of(root, version.spec, task, slot)
        data = files.digest(slots.bytes_of(source))
        read(source, tenant=task.tenant)  # an unreadable input raises before a kernel starts
        parity = checked_parity(root, version.spec, folder, version.python, task)
        attempt = _SlotRun(root=root, ready=version, request=task, slot=slot, source=source, book=book)
        attempt.facts.update(parity.facts())
        # Claimed before the output is read, so that no other run publishes in between.
        book.claim(
            slot, run=task.run, version=number, input_digest=data, role=task.role, trigger=task.trigger,
            fingerprint=parity.here.digest,
        )  # fmt: skip
        with recorded(root, book, task.run):
            return _answered(attempt, data)


@contextmanager
def failures_recorded(root: Path, task: RunRequest) -> Iterator[None]:
    """Leave one line in the ledger for a run of a known job that fails in the block before its claim."""
    try:
        yield
    except BaseException as error:
        with suppress(Exception):  # the error of the run is the one to report
            _record_refusal(root, task, detail_of(error))
        raise


def _record_refusal(root: Path, task: RunRequest, detail: str) -> None:
    name = task.reference.partition("@")[0]
    if name not in registry.names(root, "job"):
        return
    slot: Slot | str = name
    number, book = 0, open_ledger(root, task.clock)
    with suppress(WorkbenchError):  # of a request whose version or time cannot be read the name is known
        number = version_in_role(root, task.reference, task.role, withdrawn_in(book, name))[1]
        slot = slots.slot_of(jobspec.read(registry.resolve(root, "job", f"{name}@{number}").path), task)
    book.refused(slot, run=task.run, version=number, detail=detail)


def _check_active(book: JobLedger, task: RunRequest, slot: Slot) -> None:
    """Raise RefusedError when a bare name is run, as timers do, and its job or tenant is paused."""
    for pause in book.pauses() if "@" not in task.reference else ():
        if (pause.job, pause.version) == (slot.job, 0) and pause.tenant in {"", slot.tenant}:
            tenant = f" --tenant {pause.tenant}" if pause.tenant else ""
            raise RefusedError(
                f"job {slot.job}{tenant} is paused since {slots.iso(pause.at)} by {pause.by}: {pause.reason}",
                hint=f"workbench jobs resume {slot.job}{tenant}",
            )


def _answered(attempt: _SlotRun, data: str) -> JobResult:
    """Run the worker, unless the slot has this version's output of the input already."""
    task, slot = attempt.request, attempt.slot
    target = publishing.target_of(attempt.root, slot)
    publishing.recover(target.parents[1], alive=attempt.book.is_alive)
    if task.role == "shadow" or task.replace or not target.exists():
        return _run(attempt)
    published = publishing.read(target)
    number = attempt.ready.spec.version
    if (published.version, published.input_digest) != (number, data):
        again = f"workbench jobs run {task.reference} --input {shlex.quote(str(attempt.source))}"
        raise _taken(slot, published, number, again)
    place = target.relative_to(attempt.root).as_posix()
    _finish(attempt, dataclasses.replace(published, run=attempt.id), "unchanged", folder=place)
    shutil.rmtree(attempt.root / attempt.kept, ignore_errors=True)
    return JobResult(slot=slot.key, outcome="unchanged", folder=place, manifest=published)


def _taken(slot: Slot, published: PublishedManifest, number: int, again: str) -> RefusedError:
    """Return the error for a slot that another version or input has published."""
    other = "version" if published.version != number else "input"
    tenant = f" --tenant {slot.tenant}" if slot.tenant else ""
    return RefusedError(
        f"{slot.key} is published already, by {published.job}@{published.version} from another {other}",
        hint=f"{again}{tenant} --at {slots.iso(slot.at)} --replace",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SlotRun:
    """One run of a slot: its request, version, input and ledger, and the facts of its line there."""

    root: Path
    ready: Ready
    request: RunRequest
    slot: Slot
    source: Path
    book: JobLedger
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.request.run

    @property
    def work(self) -> Path:
        """The folder of the run, removed at its end."""
        return self.root / JOB_WORK / self.id

    @property
    def kept(self) -> Path:
        """The folder that keeps answers and held rows for the slot, relative to the root."""
        state = SHADOW_STATE if self.request.role == "shadow" else JOB_STATE
        return state / self.slot.key

    @property
    def effects(self) -> RunEffects:
        """Which memory writes of the run last: a shadow's end with it."""
        return RunEffects(slot=None if self.request.role == "shadow" else self.slot.key)

    def trials(self) -> JobRoles:
        """Return the versions on trial beside this run: beside the version that a bare name means."""
        if self.request.role != "production" or "@" in self.request.reference:
            return JobRoles()
        job = self.slot.job
        found = roles_of(self.root, job, withdrawn=withdrawn_in(self.book, job))
        if found.canary is not None and after_run.pause_of(self.book, job, found.canary):
            return dataclasses.replace(found, canary=None, share=None)
        return found

    @property
    def journal(self) -> Path:
        """The file that keeps the version's answers for a rerun, relative to the root."""
        return self.kept / f"{self.ready.spec.version}.jsonl"


def _run(attempt: _SlotRun) -> JobResult:
    """Run the worker on the input, and publish its output or hold it back."""
    data = slots.bytes_of(attempt.source)
    attempt.book.started(attempt.id, os.getpid())
    try:
        trials = attempt.trials()
        if trials.canary is not None and trials.share is not None:
            done = _with_canary(attempt, trials.canary, trials.share)
            attempt.facts.update(done.facts)
        else:
            done = CanaryAnswer(result=_worked(attempt, data)[0])
        manifest = _manifest(attempt, files.digest(data), done)
        output = _output_of(attempt, done.result)
        judged = after_run.judge_run(attempt.root, attempt.book, output)
        shadow, held = attempt.request.role == "shadow", done.result.counts["held"]
        if held or judged.pauses or (judged.outcome != "publish" and not shadow):
            return _held_back(attempt, manifest, judged, output)
        if shadow:
            return _shadowed(attempt, manifest, judged)
        compared = trial_runs.production_facts(
            attempt.root, attempt.book, attempt.slot, manifest, attempt.work / "out", trials.shadow
        )
        attempt.facts.update(compared)
        return _published(attempt, manifest, judged)
    finally:
        folders.remove(attempt.work)


def _worked(attempt: _SlotRun, data: bytes) -> tuple[WorkerResult, Path]:
    """Run the worker on rows; return its result and the folder of its output."""
    spec = attempt.ready.spec
    inputs = Path("input") / attempt.source.name
    files.write_atomic(attempt.work / inputs, data)
    # The tape does not exist, so that the model answers today's rows; the journal keeps its answers
    # for a rerun, until the slot is published.
    request = request_to(
        attempt.root, attempt.ready, attempt.work, attempt.id,
        inputs=inputs, mode="auto", tape=str(attempt.work / jobspec.TAPE),
        journal=str(attempt.journal),
        tenant=attempt.request.tenant, show=attempt.request.show,
    )  # fmt: skip
    attempt.effects.write(attempt.work)
    if attempt.request.replace and attempt.effects.slot is not None:
        write_again(attempt.root, attempt.slot)
    clock, bounds = attempt.request.clock, load_operations(attempt.root).of(spec.job).bounds
    beat, watch = Beat(attempt.book, attempt.id, clock), RunWatch(spec.job, attempt.id, bounds, clock)

    def tick() -> None:
        beat()
        watch()

    seconds = spec.limits.seconds
    result = runner.run(request, python=attempt.ready.python, folder=attempt.work, seconds=seconds, tick=tick)
    return result, attempt.work / "out"


def _with_canary(attempt: _SlotRun, number: int, share: Share) -> CanaryAnswer:
    """Let a canary answer its share of the rows, and production the rest.

    A canary is paused that another model answered than its judged one; production answers its rows.
    """
    own = dataclasses.replace(attempt.request, run=secrets.token_hex(8))
    order = CanaryOrder(slot=attempt.slot, source=attempt.source, request=own, version=number, share=share)

    def canary(rows: bytes) -> tuple[WorkerResult, Path, AfterRun]:
        version = ready(attempt.root, *jobspec.load(attempt.root, attempt.slot.job, number))
        trial = dataclasses.replace(attempt, ready=version, request=own)
        made, out = _worked(trial, rows)
        output = _output_of(trial, made)
        judged = after_run.judge_part(attempt.root, output)
        after_run.hold(attempt.book, output, judged, attempt.root / attempt.kept / f"held-{own.run}")
        return made, out, judged

    try:
        return trial_runs.run_canary(
            attempt.book, order, canary=canary, live=lambda rows: _worked(attempt, rows), work=attempt.work
        )
    finally:
        folders.remove(attempt.root / JOB_WORK / own.run)


def _output_of(attempt: _SlotRun, result: WorkerResult) -> RunOutput:
    """Return what the checks after a run look at."""
    version, work = attempt.ready, attempt.work
    return RunOutput(
        spec=version.spec, slot=attempt.slot, folder=version.folder, code=version.code, work=work,
        source=work / "input" / attempt.source.name, journal=attempt.root / attempt.journal,
        counts=result.counts,
    )  # fmt: skip


def _held_back(
    attempt: _SlotRun, manifest: PublishedManifest, judged: AfterRun, output: RunOutput
) -> JobResult:
    """Keep the output that a check, another model or its broken rows hold back, and publish nothing."""
    attempt.book.beat(attempt.id)  # raises for a run that was declared lost
    kept, counts = _kept_output(attempt, manifest), manifest.counts
    why = f"{judged.detail}: {kept}"
    if output.counts["held"]:
        broken = f"{counts['quarantined']} of {counts['rows']} rows broken: {kept}"
        why = "; ".join(filter(None, [broken, judged.detail]))
    outcome = after_run.hold(attempt.book, output, judged, attempt.root / kept.with_suffix(""))
    _finish(attempt, manifest, outcome, detail=why, facts=judged.facts)
    made = dataclasses.replace(manifest, verdict=outcome)
    shown = judged.detail if judged.outcome != "publish" else ""
    return JobResult(slot=attempt.slot.key, outcome=outcome, folder=str(kept), manifest=made, detail=shown)


def _kept_output(attempt: _SlotRun, manifest: PublishedManifest) -> Path:
    """Keep what a run made, and return where: the broken rows alone, when there are too many of them."""
    kept, out = attempt.kept / f"held-{manifest.run}", attempt.work / "out"
    if manifest.verdict != "held":
        copy_output(out, attempt.root / kept)
        return kept
    rows = kept.with_suffix(".parquet")
    files.write_atomic(attempt.root / rows, (out / "quarantine.parquet").read_bytes())
    return rows


def _published(attempt: _SlotRun, manifest: PublishedManifest, judged: AfterRun) -> JobResult:
    attempt.book.beat(attempt.id)  # raises for a run that was declared lost
    target = publishing.target_of(attempt.root, attempt.slot)
    staged = publishing.staging_of(target, attempt.id)
    copy_output(attempt.work / "out", staged)
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
    detail = "; ".join(filter(None, [*notes, judged.detail]))
    _finish(attempt, manifest, "published", folder=folder, detail=detail, facts=judged.facts)
    shutil.rmtree(attempt.root / attempt.kept, ignore_errors=True)
    made = publishing.read(target)
    return JobResult(
        slot=attempt.slot.key, outcome="published", folder=folder, manifest=made, detail=judged.detail
    )


def _shadowed(attempt: _SlotRun, manifest: PublishedManifest, judged: AfterRun) -> JobResult:
    """Keep the output of a shadow's run in the state, beside its manifest, and publish nothing."""
    attempt.book.beat(attempt.id)  # raises for a run that was declared lost
    folder = attempt.kept / str(manifest.version)
    publishing.recover((attempt.root / folder).parents[1], alive=attempt.book.is_alive)
    staged = publishing.staging_of(attempt.root / folder, attempt.id)
    copy_output(attempt.work / "out", staged)
    publishing.publish(staged, attempt.root / folder, manifest, replace=True)
    compared = trial_runs.shadow_facts(
        attempt.root, attempt.book, attempt.slot, manifest, attempt.work / "out"
    )
    attempt.facts.update(compared)
    _finish(attempt, manifest, "shadowed", folder=folder.as_posix(), detail=judged.detail, facts=judged.facts)
    (attempt.root / attempt.journal).unlink(missing_ok=True)
    return JobResult(slot=attempt.slot.key, outcome="shadowed", folder=folder.as_posix(), manifest=manifest)


def _check_committed(root: Path, name: str) -> None:
    place = f"pipelines/jobs/{name}"
    left = Repository(root=root).changed(below=[place])
    if left:
        raise RefusedError(
            f"the last promotion or rollback of job {name!r} is not committed ({left[0]})",
            hint=f"git add {place} pipelines/jobs/stages.yaml && git commit",
        )


def _manifest(attempt: _SlotRun, input_digest: str, done: CanaryAnswer) -> PublishedManifest:
    spec, slot, result = attempt.ready.spec, attempt.slot, done.result
    counts: dict[str, Any] = dict(result.counts)
    cost, held = counts.pop("cost_usd"), counts.pop("held")
    tokens = {name: counts.pop(name) for name in ("input_tokens", "output_tokens")}
    return PublishedManifest(
        job=spec.job,
        version=spec.version,
        tenant=slot.tenant,
        at=slots.iso(slot.at),
        run=attempt.id,
        use_case=spec.use_case,
        input_digest=input_digest,
        task_digest=result.task_digest,
        counts=counts,
        cost_usd=cost,
        tokens=tokens,
        verdict="held" if held else "published",
        settings={**spec.pins, **({"snapshot": spec.digests["memory"]} if "memory" in spec.pins else {})},
        canary=done.to_json(),
    )


def _finish(
    attempt: _SlotRun,
    manifest: PublishedManifest,
    outcome: Outcome,
    *,
    folder: str = "",
    detail: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    attempt.book.finished(
        manifest.run,
        outcome,
        rows=manifest.counts["rows"],
        quarantined=manifest.counts["quarantined"],
        cost_usd=manifest.cost_usd,
        folder=folder,
        detail=detail,
        facts={**attempt.facts, **(facts or {})},
    )
