"""Fire the slots that are due: enqueue their runs once, over all servers, and note the missed ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from workbench.errors import UnavailableError
from workbench.jobs.ledger import DamagedRowError, JobLedger, JobRun, Pause, Role, RunOrder, Slot
from workbench.scheduler.definitions import Definition
from workbench.scheduler.due import ON_TIME_S, Due, Timetable
from workbench.scheduler.faults import JobFaults
from workbench.scheduler.telling import Teller

Key = tuple[str, Role, str]
_NEAR: Final = dt.timedelta(minutes=10)
#: Runs that one transaction enqueues: another server waits for it.
_TOGETHER: Final = 200


class _Together(NamedTuple):
    """A run that may be enqueued with others, with its definition's timetable."""

    key: Key
    table: Timetable
    order: RunOrder


class Firing:
    """The timetables of a server: one for each job, role and tenant.

    `replaced` is called with each unfinished run that a newer slot takes the place of.
    """

    def __init__(
        self,
        ledger: JobLedger,
        teller: Teller,
        faults: JobFaults,
        *,
        since: dt.datetime,
        on_time_s: float = ON_TIME_S,
    ) -> None:
        self._ledger, self._teller, self._since, self._on_time_s = ledger, teller, since, on_time_s
        self._faults = faults
        self._tables: dict[Key, tuple[Definition, Timetable]] = {}
        #: The slots before the first ones of definitions that this ledger has never fired.
        self._begun: dict[Key, tuple[Definition, dt.datetime]] = {}
        self.replaced: list[JobRun] = []

    def update(self, definitions: Iterable[Definition]) -> None:
        """Take over the definitions as they are now; those that did not change keep their place."""
        wanted = {(item.job, item.role, tenant): item for item in definitions for tenant in item.tenants}
        for key in self._tables.keys() - wanted.keys():
            del self._tables[key]
            self._begun.pop(key, None)
        changed = [key for key, item in wanted.items() if not self._is_kept(key, item)]
        places = {key: (key[0], key[2], key[1]) for key in changed}
        last = self._last_fired(places.values())
        for key in changed:
            item, place = wanted[key], places[key]
            self._tables[key] = (item, Timetable((), self._since))  # that of a job whose own cannot be made
            with self._faults.of(item.job, _work(key)):
                at = self._ledger.last_fired(*place) if last is None else last.get(place)
                self._tables[key] = (item, self._timetable(key, item, at))
        for key, item in wanted.items():
            self._tables[key] = (item, self._tables[key][1])

    def _last_fired(
        self, places: Collection[tuple[str, str, Role]]
    ) -> Mapping[tuple[str, str, Role], dt.datetime] | None:
        """Return when definitions fired last; None when a row of one of them cannot be read."""
        try:
            return self._ledger.last_fired_of(places) if places else {}
        except DamagedRowError:
            return None

    def _timetable(self, key: Key, item: Definition, last: dt.datetime | None) -> Timetable:
        return Timetable(item.eras, last or self._begin(key, item))

    def _is_kept(self, key: Key, item: Definition) -> bool:
        return key in self._tables and self._tables[key][0].eras == item.eras

    def next_at(self) -> dt.datetime | None:
        """Return the time of the next slot of all definitions that can be fired, or None."""
        tables = [table for key, (_, table) in self._tables.items() if not self._is_open(key)]
        return min((table.next for table in tables if table.next is not None), default=None)

    def next_of(self, job: str, role: Role) -> dt.datetime | None:
        """Return the time of the next slot of one definition, or None."""
        found = [
            table.next for (name, part, _), (_, table) in self._tables.items() if (name, part) == (job, role)
        ]
        return min((at for at in found if at is not None), default=None)

    def fire(self, now: dt.datetime, pauses: Collection[Pause]) -> int:
        """Enqueue the runs that are due at `now` and return their number.

        A paused definition waits: its slots are caught up, as it states, when it is resumed. A slot stays due
        until its line is in the ledger. An error of one definition delays no other; its timetable is made
        anew when it is tried again.
        """
        fired = 0
        self._note_begun(now)
        together: list[_Together] = []
        for key, (item, known) in list(self._tables.items()):
            if not self._is_open(key) and (known.next is None or known.next > now):
                continue  # as most are at most looks
            if self._faults.left_s(_work(key)):
                continue
            with self._faults.of(item.job, _work(key)):
                if self._is_open(key):
                    last = self._ledger.last_fired(key[0], key[2], key[1])
                    self._tables[key] = (item, self._timetable(key, item, last))
                table = self._tables[key][1]
                if table.next is None or table.next > now or _is_paused(key, item, pauses):
                    continue
                found = table.until(now, item.operation, on_time_s=self._on_time_s)
                if item.operation.overlap == "queue" and len(found) == 1 and found[0].firing != "missed":
                    together.append(_Together(key, table, _order(item, key[2], found[0])))
                    continue
                fired += sum(self._fire(item, key[2], due) for due in found)
                table.advance()
                self._tell_missed(item, key[2], found)
        return fired + self._fire_together(together)

    def _is_open(self, key: Key) -> bool:
        """Return whether firing a definition failed when it was last tried."""
        return self._faults.any and self._faults.is_open(_work(key))

    def _fire_together(self, due: Sequence[_Together]) -> int:
        """Enqueue runs that depend on no other run, in few transactions: each waits for the disk."""
        fired = 0
        for first in range(0, len(due), _TOGETHER):
            part = due[first : first + _TOGETHER]
            try:
                made = self._ledger.enqueue_all([one.order for one in part])
            except UnavailableError:
                raise
            except Exception:  # noqa: BLE001  of one of them, which is found below
                fired += sum(map(self._fire_alone, part))
                continue
            fired += sum(run is not None for run in made)
            for one in part:
                one.table.advance()
        return fired

    def _fire_alone(self, one: _Together) -> bool:
        made = None
        with self._faults.of(one.key[0], _work(one.key)):
            made = self._ledger.enqueue(one.order)
            one.table.advance()
        return made is not None

    def _begin(self, key: Key, item: Definition) -> dt.datetime:
        """Return the moment after which slots are due of a definition that this ledger never fired.

        It begins with its label's move, or with this server when the move is older than the start deadline.
        """
        deadline = self._since - dt.timedelta(seconds=item.operation.start_deadline_s)
        if item.schedule is None or item.moved_at >= deadline:
            return max(item.moved_at, deadline)
        before = item.schedule.before(self._since)
        self._begun[key] = (item, before)
        return before

    def _note_begun(self, now: dt.datetime) -> None:
        """Note the slot before the first one of a definition as skipped, when the first one is near.

        The next server then begins at the same place. To note all of them at the start would take seconds.
        """
        detail = "the last slot before this ledger's first server: workbench jobs backfill runs earlier ones"
        for key, (item, before) in list(self._begun.items()):
            upcoming = self._tables[key][1].next
            if upcoming is not None and upcoming <= now + _NEAR:
                with self._faults.of(item.job, f"noting the first slot of {item.name}"):
                    self._ledger.miss(_slot(item, key[2], before), item.role, detail, outcome="skipped")
                    del self._begun[key]

    def _fire(self, item: Definition, tenant: str, due: Due) -> bool:
        slot = _slot(item, tenant, due.at)
        if due.firing == "missed":
            self._ledger.miss(slot, item.role, due.detail)
            return False
        overlap = item.operation.overlap
        if due.firing == "schedule" and overlap != "queue":
            for run in self._unfinished(slot, item.role):
                if overlap == "skip":
                    detail = f"run {run.run} of {run.slot.key} has not ended, and overlap is skip"
                    self._ledger.miss(slot, item.role, detail, outcome="skipped")
                    return False
                self.replaced.append(run)
        return self._ledger.enqueue(_order(item, tenant, due)) is not None

    def _unfinished(self, slot: Slot, role: Role) -> list[JobRun]:
        """Return the runs of earlier slots of a slot's job, tenant and role that have not ended."""
        return [
            run
            for run in self._ledger.unfinished(slot.job)
            if run.slot.tenant == slot.tenant and run.role == role and run.slot.at < slot.at
        ]

    def _tell_missed(self, item: Definition, tenant: str, found: Collection[Due]) -> None:
        """Tell of the newest missed slot, with the number of the others."""
        missed = [due for due in found if due.firing == "missed"]
        if missed and item.role == "production":
            more = f"; {len(missed) - 1} slots before it were missed too" if len(missed) > 1 else ""
            slot = _slot(item, tenant, missed[-1].at)
            self._teller.slot("missed", slot, item.operation.notify, detail=missed[-1].detail + more)


def _work(key: Key) -> str:
    """Return the words for firing a definition, by which its faults are kept."""
    job, role, tenant = key
    return f"firing {job}" + f" ({role})" * (role != "production") + f" of tenant {tenant}" * bool(tenant)


def _slot(item: Definition, tenant: str, at: dt.datetime) -> Slot:
    return Slot(job=item.job, tenant=tenant, at=at.replace(microsecond=0))


def _order(item: Definition, tenant: str, due: Due) -> RunOrder:
    if due.firing == "missed":
        raise ValueError("a missed slot has no run")
    slot, priority = _slot(item, tenant, due.at), item.operation.priority
    return RunOrder(slot=slot, role=item.role, trigger=due.firing, priority=priority)


def _is_paused(key: Key, item: Definition, pauses: Collection[Pause]) -> bool:
    return any(
        pause.job == key[0] and pause.tenant in {"", key[2]} and pause.version in {0, item.version}
        for pause in pauses
    )
