"""The server of jobs: fire what is due, start the runs up to the capacity, and settle those that ended."""

from __future__ import annotations

import datetime as dt
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from workbench import rehearsal
from workbench.context import Clock
from workbench.errors import NotFoundError, UnavailableError, WorkbenchError
from workbench.jobs.ledger import DamagedRow, DamagedRowError, Host, JobLedger, JobRun, Pause, ServerRow
from workbench.scheduler.children import RunProcess, Starter
from workbench.scheduler.definitions import DefinitionReader, Definitions
from workbench.scheduler.due import ON_TIME_S
from workbench.scheduler.faults import JobFaults
from workbench.scheduler.firing import Firing
from workbench.scheduler.measures import ServerMeasures
from workbench.scheduler.settling import Settling
from workbench.scheduler.telling import Teller

#: Seconds between two looks: at definitions, at the runs of other processes, and at the outcomes of a day.
_RELOAD_S, _OTHERS_S, _RECENT_S, _BEAT_S = 2.0, 5.0, 60.0, 10.0
#: Seconds until the next look with and without running processes, and after an error.
_BUSY_S, _IDLE_S, _AGAIN_S = 0.1, 1.0, 2.0
#: Seconds of the machine in which a slot is looked at, however fast the clock is.
_LOOK_S: Final = 5.0
#: Seconds that a run waits again whose job and tenant run another slot.
_BEHIND_S: Final = 5.0
#: Runs that one look puts behind others, at most.
_MOST_BEHIND: Final = 50
#: The orders by hand, which run beside a slot of the schedule.
_BESIDE: Final = frozenset({"backfill", "trigger", "manual"})
_log = logging.getLogger("workbench.scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How a server runs: `runs` at once (None: as operations.yaml states) until a time, or `once`.

    `until` and `once` end the server when nothing that is due is left. `address` is shown to others. `speed`
    is that of the clock in a rehearsal while nothing runs: its seconds in one second of the machine. `warm`
    keeps templates of the processes of runs.
    """

    runs: int | None = None
    until: dt.datetime | None = None
    once: bool = False
    address: str = ""
    speed: float = 1.0
    warm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParts:
    """What a server works with; a test replaces each.

    `after_run` is called with the job of each ended run.
    """

    ledger: JobLedger
    reader: DefinitionReader
    starter: Starter
    teller: Teller
    clock: Clock
    after_run: Callable[[str], object] = lambda _job: None


class JobServer:
    """A scheduler's loop over the ledger, one look at a time; it can be killed between any two steps."""

    def __init__(self, parts: ServerParts, options: ServeOptions | None = None) -> None:
        self.options = options or ServeOptions()
        self.definitions = Definitions()
        self.children: dict[str, RunProcess] = {}
        self.pauses: Sequence[Pause] = ()
        self.waiting = 0
        self.fault = ""
        self.ticked = 0.0
        self._parts, self._ledger, self._clock = parts, parts.ledger, parts.clock
        started = self._clock.now()
        self.row = _row(started, self.options.address)
        # In fast motion a look takes minutes of the clock.
        on_time = max(ON_TIME_S, _LOOK_S * self.options.speed)
        self.faults = JobFaults(self._clock, self._tell_fault)
        self.firing = Firing(self._ledger, parts.teller, self.faults, since=started, on_time_s=on_time)
        self.settling = Settling(self._ledger, parts.teller, self._clock, self.faults)
        self._others: dict[str, JobRun] = {}
        #: The rows of the ledger that cannot be read, by the work that met them.
        self.damaged: dict[str, DamagedRow] = {}
        #: The jobs of the runs in `children`.
        self._jobs: dict[str, str] = {}
        #: The runs that were due and wait for another one of their job and tenant.
        self._behind: set[str] = set()
        self._last: dict[str, float] = {}
        self.measures = ServerMeasures()
        self._speed = 1.0
        #: The time up to which the last look enqueued what is due.
        self._fired_to: dt.datetime | None = None

    @property
    def capacity(self) -> int:
        """The number of runs that this server starts at once."""
        return self.options.runs or self.definitions.operations.capacity.runs

    def tick(self) -> float:
        """Do what is to be done now; return the seconds until the next look.

        An error of the ledger is kept in `fault`, and the work is tried again at the next look: nothing that
        is due is forgotten before its line is written. An error of one job is kept in `faults`, and delays no
        other job.
        """
        try:
            fault = self._tick()
        except Exception as error:  # noqa: BLE001  a server that ends serves no job any more
            self._note_fault(_said(error))
            return _AGAIN_S
        self._note_fault(fault)
        self.ticked = time.monotonic()
        self._set_pace(1.0 if self.children else self.options.speed)
        return self._pause()

    def is_done(self) -> bool:
        """Return whether a server with `until` or `once` has nothing left to do."""
        until, fired = self.options.until, self._fired_to
        # Not the clock: it may have passed the end after the last look, and with it a slot that is due.
        ended = self.options.once or (until is not None and fired is not None and fired >= until)
        if not ended or self.children or self.fault or not self.ticked:
            return False
        now = self._clock.now()
        try:
            left = self._ledger.unfinished()
        except WorkbenchError:
            return False  # the next look says why
        stopped = {row.job for row in self.damaged.values() if row.stops}
        return not any(
            run.state != "waiting" or _is_ready(run, now) or run.run in self._behind
            for run in left
            if run.alive or run.slot.job not in stopped
        )

    def end(self) -> None:
        """Kill the runs that still have a process of this server, and let their slots wait again."""
        for run, child in self.children.items():
            self._try(f"ending run {run}", child.kill)
        for run in list(self.children):  # all are killed before the ledger may be away
            self._try(f"run {run} waits again", partial(self._give_back, run))
            del self.children[run]

    def leave(self) -> None:
        """Remove the server from the ledger."""
        self._ledger.leave(self.row.id)

    def poll(self) -> None:
        """Settle the runs of this server whose process ended."""
        for run, child in list(self.children.items()):
            ended = None
            with self.faults.of(self._jobs.get(run, ""), f"following run {run}"):
                ended = self._polled(run, child)
            if ended is not None:
                self._settle(ended)

    def _polled(self, run: str, child: RunProcess) -> JobRun | None:
        """Return the run of a process that ended, None while it lives; the process is then forgotten.

        It is kept while the ledger does not answer: nobody else would find the line that it left open.
        """
        try:
            code = child.poll()
            if code is None:
                return None
            found = self._ended(run, child, code)
        except UnavailableError:
            raise
        except Exception:
            self._forget(run)
            raise
        self._forget(run)
        return found

    def _forget(self, run: str) -> None:
        self.children.pop(run, None)
        self._jobs.pop(run, None)

    def _tick(self) -> str:
        """Do what is to be done now; return the error of a step that another look may do, "" without."""
        now = self._clock.now()
        steps: list[tuple[str, float, Callable[[], object]]] = [
            ("reload", _RELOAD_S, self._reload),
            ("beat", _BEAT_S, lambda: self._ledger.beat_server(self.row)),
            ("recent", _RECENT_S, lambda: self.settling.settle_recent(now)),
            ("poll", 0.0, self.poll),
            ("others", _OTHERS_S, self._look_at_others),
            ("pauses", 0.0, self._look_at_pauses),
            ("damage", _OTHERS_S, self._look_at_damage),
            ("fire", 0.0, lambda: self._fire(now)),
            ("replace", 0.0, self._replace),
            ("late", 0.0, lambda: self.settling.tell_late(now)),
            ("start", 0.0, self._start),
        ]
        return "; ".join(filter(None, (self._step(*step) for step in steps)))

    def _step(self, name: str, seconds: float, work: Callable[[], object]) -> str:
        """Do a step of a look when it is time; return its error, so that the later steps are done.

        UnavailableError is raised, except by `reload`: the definitions before are served.
        """
        if seconds and not self._is_time(name, seconds):
            return ""
        try:
            work()
        except Exception as error:
            if isinstance(error, UnavailableError) and name != "reload":
                raise
            return _said(error)
        return ""

    def _fire(self, now: dt.datetime) -> None:
        until = self.options.until
        at = now if until is None else min(now, until)
        self.firing.fire(at, self.pauses)
        self._fired_to = at

    def _look_at_pauses(self) -> None:
        self.pauses = self._ledger.pauses()

    def _look_at_damage(self) -> None:
        """Keep each row of the ledger that cannot be read as a fault of its job, until it is repaired."""
        found = {f"reading {row.name}": row for row in self._ledger.damaged()}
        for work, row in {**self.damaged, **found}.items():
            if work not in found or not self.faults.left_s(work):
                with self.faults.of(row.job, work):
                    if work in found:
                        raise DamagedRowError(row)
        self.damaged = found

    def _note_fault(self, fault: str) -> None:
        if fault and fault != self.fault:
            _log.error("the server tries again: %s", fault)
        self.fault = fault

    def _tell_fault(self, job: str, text: str) -> None:
        channels = self.definitions.operations.of(job).notify
        self._parts.teller.fault(job, channels, when=self._clock.now(), detail=text)

    def _is_time(self, what: str, seconds: float) -> bool:
        """Return whether some seconds of the machine have passed since this was last done."""
        now = time.monotonic()
        if now - self._last.get(what, -seconds) < seconds:
            return False
        self._last[what] = now
        return True

    def _reload(self) -> None:
        before = self.definitions
        self.definitions = self._parts.reader.read()
        if self.definitions is before:
            return
        self.settling.operations = self.definitions.operations
        self.firing.update(self.definitions.found)
        for name, fault in self.definitions.faults.items():
            if before.faults.get(name) != fault:
                _log.error("%s is not served: %s", name, fault)
        _log.info("%d definitions, %d faults", len(self.definitions.found), len(self.definitions.faults))

    def _look_at_others(self) -> None:
        """Settle the runs of other processes that ended, and those whose process died."""
        for run in self._ledger.reconcile():
            self._settle(run)
        unfinished = {run.run: run for run in self._ledger.unfinished()}
        self.waiting = sum(run.state == "waiting" for run in unfinished.values())
        for name in self._others.keys() - unfinished.keys() - self.children.keys():
            with self.faults.of(self._others[name].slot.job, f"following run {name}"):
                self._settle_other(name)
        self._others = {name: run for name, run in unfinished.items() if name not in self.children}
        for item in unfinished.values():
            self.settling.watch(item)

    def _settle_other(self, name: str) -> None:
        try:
            self._settle(self._ledger.run(name))
        except NotFoundError:
            return  # its row could not be read, and was set aside

    def _ended(self, name: str, child: RunProcess, code: int) -> JobRun:
        """Return the run of a process that ended; one that did not end its line has failed or is lost."""
        run = self._ledger.run(name)
        if run.state == "queued" and run.pid == os.getpid():
            said = child.said() or f"the command ended with code {code}"
            return self._ledger.cancel(name, "failed", said)
        if run.alive:
            for lost in self._ledger.reconcile():
                self._settle(lost)
            run = self._ledger.run(name)
        return run

    def _settle(self, run: JobRun) -> None:
        self._others.pop(run.run, None)
        self.measures.count_end(run)
        outcome = run.outcome or run.state
        _log.info("%s: %s (run %s, attempt %d)", run.slot.key, outcome, run.run, run.attempt)
        self._try(f"the trials of {run.slot.job}", lambda: self._parts.after_run(run.slot.job))
        with self.faults.of(run.slot.job, f"settling {run.slot.key}"):
            self.settling.settle(run)

    def _try(self, what: str, work: Callable[[], object]) -> None:
        """Do work whose failure delays no run; the log has its error."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  of one job, and the server serves the others
            _log.error("%s: %s: %s", what, type(error).__name__, error)

    def _replace(self) -> None:
        """End the runs whose place a newer slot takes."""
        for run in list(self.firing.replaced):
            work = f"replacing {run.slot.key}"
            if not self.faults.left_s(work):
                with self.faults.of(run.slot.job, work):
                    self._end_replaced(run)
                    self.firing.replaced.remove(run)

    def _end_replaced(self, run: JobRun) -> None:
        try:
            self._ledger.cancel(run.run, "replaced", "a newer slot is due, and overlap is replace")
        except UnavailableError:
            raise
        except WorkbenchError:
            return  # it has ended
        if child := self.children.get(run.run):
            self._forget(run.run)
            child.kill()

    def _start(self) -> None:
        """Take waiting runs while there is room, and start their processes."""
        behind = 0
        busy = Counter(_lane(run) for run in self._ledger.unfinished() if run.alive)
        while len(self.children) < self.capacity and behind < _MOST_BEHIND:
            operations = self.definitions.operations
            run = self._ledger.take(
                self.row.id, runs=self.capacity, per_tenant=operations.capacity.per_tenant
            )
            if run is None:
                return
            if self._is_expired(run):
                detail = f"not started within {operations.of(run.slot.job).start_deadline_s:g} s of its time"
                self._settle(self._ledger.cancel(run.run, "missed", detail))
            elif busy[_lane(run)] and run.trigger not in _BESIDE:
                behind += 1
                self._put_behind(run)
            else:
                self._behind.discard(run.run)
                work = f"starting runs of {run.slot.job}"
                with self.faults.of(run.slot.job, work):
                    self._start_run(run)
                    busy[_lane(run)] += 1
                if run.run not in self.children:
                    behind += 1
                    self._give_back(run.run, self.faults.left_s(work))

    def _put_behind(self, run: JobRun) -> None:
        """Let a run wait again whose job and tenant run another slot."""
        self._ledger.give_back(run.run, self._clock.now() + dt.timedelta(seconds=_BEHIND_S))
        self._behind.add(run.run)

    def _start_run(self, run: JobRun) -> None:
        self._set_pace(1.0)
        self.children[run.run] = self._parts.starter.start(run)
        self._jobs[run.run] = run.slot.job
        if run.trigger == "schedule":
            self.measures.count_delay((self._clock.now() - run.slot.at).total_seconds())
        self.settling.watch(run)
        _log.info("%s: started (run %s, attempt %d)", run.slot.key, run.run, run.attempt)

    def _is_expired(self, run: JobRun) -> bool:
        if run.trigger not in {"schedule", "catch_up"}:
            return False
        deadline = self.definitions.operations.of(run.slot.job).start_deadline_s
        return (self._clock.now() - run.slot.at).total_seconds() > deadline

    def _give_back(self, run: str, seconds: float = 0.0) -> None:
        """Let a run of this server wait again for some seconds at least, unless it has ended."""
        try:
            self._ledger.give_back(run, self._clock.now() + dt.timedelta(seconds=seconds))
        except UnavailableError:
            raise
        except WorkbenchError:
            self._settle(self._ledger.run(run))

    def _set_pace(self, speed: float) -> None:
        """Let the clock of a rehearsal run at a speed: in fast motion only while nothing runs.

        Runs then take the time that they take, and deadlines mean what they mean.
        """
        if speed != self._speed:
            rehearsal.begin(self._clock.now(), speed)
            self._speed = speed

    def _pause(self) -> float:
        """Return the seconds until the next look: no later than the next slot."""
        pause = _BUSY_S if self.children or self.options.once else _IDLE_S
        upcoming = self.firing.next_at()
        if upcoming is None:
            return pause
        left = (upcoming - self._clock.now()).total_seconds() / self._speed
        return max(0.01, min(pause, left))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _lane(run: JobRun) -> tuple[str, str, str] | None:
    """Return what a run goes one after the other with: its job, tenant and role; None for a backfill."""
    return None if run.trigger == "backfill" else (run.slot.job, run.slot.tenant, run.role)


def _is_ready(run: JobRun, now: dt.datetime) -> bool:
    """Return whether the ledger lets a run be taken: also one of before a clock was set back."""
    return run.not_before is None or run.not_before <= now or run.queued_at > now


def _row(started: dt.datetime, address: str) -> ServerRow:
    host, pid = Host.here(), os.getpid()
    return ServerRow(
        id=f"{host.name.partition('/')[0][:40]}-{pid}-{secrets.token_hex(4)}", host=host.name, pid=pid,
        born=host.process_started_at(pid) or "", address=address, started_at=started,
    )  # fmt: skip
