"""Order runs by hand: trigger one slot, backfill a span of slots, pause and resume a job."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from workbench import files, registry
from workbench.audit import Act, audited
from workbench.config.operations import JobOperation, load_operations
from workbench.context import Clock
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.jobs import after_run, slots
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import JobLedger, RunOrder, Slot
from workbench.jobs.overview import JobTable
from workbench.jobs.purged_writes import check_not_purged
from workbench.jobs.schedule import zone
from workbench.jobs.slots import RunRequest, iso
from workbench.jobs.spec import JobSpec
from workbench.promotion.assured import mover
from workbench.scheduler.due import between

#: Slots of one backfill, over all tenants.
MOST_SLOTS: Final = 10_000
#: A backfill waits behind the slots of the schedule.
_BEHIND: Final = 1
_DAY: Final = len("2026-11-24")
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


def trigger(
    root: Path, ledger: JobLedger, job: str, *, clock: Clock, tenant: str | None = None, at: str | None = None
) -> JobTable:
    """Enqueue a run of one slot of the version in production, for each tenant of the job or for one."""
    spec, operation = _in_production(root, job), load_operations(root).of(job)
    rows = []
    for name in _tenants(operation, tenant):
        slot = slots.slot_of(spec, RunRequest(reference=job, at=at, tenant=name or None, clock=clock))
        check_not_purged(root, slot)
        made = ledger.enqueue(RunOrder(slot=slot, trigger="trigger", priority=operation.priority))
        rows.append((slot.key, "" if made is None else made.run, "waits" if made else "fired before"))
    return _table(job, f"{job}: {len(rows)} triggered", rows, notes=_without_server(ledger, rows))


def backfill(
    root: Path, ledger: JobLedger, job: str, span: tuple[str, str], *, tenant: str | None = None,
    again: bool = False, dry_run: bool = False,
) -> JobTable:  # fmt: skip
    """Enqueue the slots of a schedule in a span, both ends included, each of which did not fire before.

    With `again` those that fired are enqueued too. A day means all of it, in the schedule's time zone.
    ConfigError for times that are none, in the wrong order, or with more than `MOST_SLOTS` slots.
    """
    spec, operation = _in_production(root, job), load_operations(root).of(job)
    schedule = slots.schedule_of(spec)
    if schedule is None:
        raise ConfigError(
            f"{spec.reference} has no schedule, so it has no slots between two times",
            hint=f"workbench jobs trigger {job} --at TIME",
        )
    first, last = span
    local = zone(schedule.timezone, where=spec.reference)
    start, end = _moment(first, local, of_day=dt.time()), _moment(last, local, of_day=dt.time(23, 59, 59))
    if end < start:
        raise ConfigError(f"{last} is before {first}", hint=f"workbench jobs backfill {job} {last} {first}")
    tenants = _tenants(operation, tenant)
    times = between(schedule, start, end, most=MOST_SLOTS // len(tenants) + 1)
    if len(times) * len(tenants) > MOST_SLOTS:
        raise ConfigError(
            f"more than {MOST_SLOTS} slots lie between {first} and {last}",
            hint="backfill a shorter span, and the next one when its runs have ended",
        )
    rows = [
        _backfilled(root, ledger, slot, operation, again=again, dry_run=dry_run)
        for slot in (Slot(job=job, tenant=name, at=at) for at in times for name in tenants)
    ]
    title = f"{job}: {len(rows)} {'slot' if len(rows) == 1 else 'slots'} from {iso(start)} to {iso(end)}"
    if dry_run:
        words = [job, first, last, *(["--again"] if again else []), *(["--tenant", tenant] if tenant else [])]
        return _table(job, title, rows, command=f"workbench jobs backfill {shlex.join(words)}")
    return _table(job, title, rows, notes=_without_server(ledger, rows))


def _backfilled(
    root: Path, ledger: JobLedger, slot: Slot, operation: JobOperation, *, again: bool, dry_run: bool
) -> tuple[str, str, str]:
    """Enqueue a slot of a backfill, unless its run would be refused; return its row."""
    try:
        check_not_purged(root, slot)
    except RefusedError as error:
        return slot.key, "", f"left out, the log of its memory writes was purged: {error.hint}"
    order = RunOrder(slot=slot, trigger="backfill", priority=operation.priority - _BEHIND)
    made = None if dry_run else ledger.enqueue(order, again=again)
    state = "would wait, unless it fired before" if dry_run else "waits" if made else "fired before"
    return slot.key, "" if made is None else made.run, state


def pause(root: Path, ledger: JobLedger, job: str, *, tenant: str = "", reason: str = "") -> str:
    """Pause a job, or one of its tenants, on every server of the ledger; return a line that says so."""
    _check_known(root, job)
    principal = mover(root).principal
    act = Act(activity="pause", principal=principal, type="Job", name=job, tenant=tenant, reason=reason)
    with audited(root, act):
        ledger.pause(job, tenant=tenant, by=principal.name, reason=reason)
    name = f"job {job}" + (f" of tenant {tenant}" if tenant else "")
    again = f"workbench jobs resume {job}" + (f" --tenant {tenant}" if tenant else "")
    return f"{name} is paused: no server or timer starts a run of it\nnext: {again}"


def resume(root: Path, ledger: JobLedger, job: str, *, tenant: str = "", reason: str = "") -> str:
    """End the pauses of a job, or of one of its tenants; NotFoundError when there is none.

    A version that another model than its judged one answered is judged anew as another version, which is not
    paused. To end its pause without that takes a reason: RefusedError otherwise.
    """
    _check_known(root, job)
    reason = " ".join(reason.split())
    act = Act(
        activity="resume", principal=mover(root).principal, type="Job", name=job, tenant=tenant, reason=reason
    )
    with audited(root, act) as facts:
        pauses = [pause for pause in ledger.pauses() if pause.job == job]
        unjudged = [pause for pause in pauses if pause.tenant == tenant and pause.version]
        if unjudged and not reason:
            raise RefusedError(after_run.said_of(unjudged[0]), hint=after_run.hint_of(unjudged[0]))
        if unjudged:
            facts["ungated"] = [f"{job}@{pause.version}" for pause in unjudged]
        if not ledger.resume(job, tenant):
            paused = sorted({pause.tenant for pause in pauses} - {""})
            hint = f"workbench jobs resume {job} --tenant {paused[0]}" if paused else "workbench jobs list"
            raise NotFoundError(
                f"job {job!r} is not paused" + (f" for {tenant!r}" if tenant else ""), hint=hint
            )
    return f"job {job} is resumed: what it missed is caught up as operations.yaml states"


def _in_production(root: Path, job: str) -> JobSpec:
    name, number = jobs.number_of(root, job)
    if name != job:
        raise ConfigError(f"{job!r} names a version", hint=f"the server runs the one in production: {name}")
    return jobspec.load(root, name, number)[0]


def _tenants(operation: JobOperation, tenant: str | None) -> tuple[str, ...]:
    if tenant == "":
        raise ConfigError("--tenant is empty", hint="name a tenant, or leave --tenant out")
    return operation.tenants or ("",) if tenant is None else (tenant,)


def _moment(text: str, local: dt.tzinfo, *, of_day: dt.time) -> dt.datetime:
    """Return the time that a text names; a day is its beginning or its end in the zone."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        hint = "write 2026-11-24 or 2026-11-24T06:00Z"
        raise ConfigError(f"{files.shortened(text)!r} is not a time of these centuries", hint=hint)
    if len(text) == _DAY:
        return dt.datetime.combine(at.date(), of_day, local).astimezone(dt.UTC)
    if at.tzinfo is None:
        raise ConfigError(f"{text!r} has no time zone", hint=f"write {at:%Y-%m-%dT%H:%M}Z for UTC")
    return at.astimezone(dt.UTC)


def _check_known(root: Path, job: str) -> None:
    registry.load(root, "job", job)  # its error names the nearest jobs


def _without_server(ledger: JobLedger, rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return a note when runs wait and no server is there to take them."""
    if not any(run for _, run, _ in rows) or ledger.servers():
        return ()
    return ("no server is running: the runs wait until one is started (workbench jobs serve)",)


def _table(
    job: str, title: str, rows: Sequence[tuple[str, ...]], *, command: str = "", notes: tuple[str, ...] = ()
) -> JobTable:
    head = ("slot", "run", "state")
    command = command or f"workbench jobs history {job}"
    return JobTable(title=title, head=head, rows=tuple(rows), command=command, notes=notes)
