"""Remove what runs of jobs left and nobody needs after the days that pipelines/operations.yaml states.

Executed notebooks, the panel's copies of them, logs of timers, held rows, answers kept for a slot, outputs of
shadow versions, the logs of memory writes, and lines of the ledger.
What belongs to a run that has not ended is kept, and so is what belongs to the newest run of a job and
tenant. Published outputs are never touched.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workbench import files
from workbench.config.operations import load_operations
from workbench.context import Clock, SystemClock
from workbench.display import Card, Shown, number
from workbench.errors import ConfigError, NotFoundError
from workbench.jobs.ledger import DamagedRowError, JobLedger, JobRun, Slot, open_ledger
from workbench.layout import EXECUTED, JOB_STATE, JOB_WRITES, PANEL, STATE
from workbench.records import slot_writes

SHADOWS = STATE / "shadow"
_DAY, _AGAIN = dt.timedelta(days=1), dt.timedelta(hours=1)
#: How the last folder of a slot is named; see `Slot.key`.
_TIME = "%Y%m%dT%H%M%SZ"
#: The end of the name of the log that a timer of cron writes; see `exports/cron.py`.
_LOG = ".log"


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedKind:
    """What was removed of one kind, or would be: how many that are older than `before`, and their bytes."""

    kind: str
    before: dt.datetime
    count: int
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedRuns(Shown):
    """What a purge removed, or with `dry_run` would remove; kinds without stated days are not in it."""

    removed: tuple[PurgedKind, ...]
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the counts as JSON."""
        rows = [
            {"kind": item.kind, "before": item.before.isoformat(), "count": item.count, "bytes": item.size}
            for item in self.removed
        ]
        return {"dry_run": self.dry_run, "removed": rows}

    def card(self) -> Card:
        """Return a row for each kind with stated days."""
        rows = [
            (
                item.kind, f"{item.before:%Y-%m-%d %H:%MZ}", str(item.count),
                "" if item.size is None else number(round(item.size / 1e6, 3)),
            )
            for item in self.removed
        ]  # fmt: skip
        total = sum(item.count for item in self.removed)
        return Card(
            title=f"{total} {'would be' if self.dry_run else ''} removed".replace("  ", " "),
            head=("kind", "older than", "number", "MB"),
            rows=rows,
            notes=() if rows else ("pipelines/operations.yaml states no retention: everything is kept",),
            command="workbench jobs purge" if self.dry_run and total else "",
        )


def purge_runs(root: Path, *, clock: Clock | None = None, dry_run: bool = False) -> PurgedRuns:
    """Remove what is older than the days of `retention` in pipelines/operations.yaml; return the counts.

    A repeated purge, and one after a kill, removes the rest. `dry_run` removes nothing.
    """
    clock = clock or SystemClock()
    stated = load_operations(root).retention
    if not stated.stated:
        return PurgedRuns(removed=(), dry_run=dry_run)
    purge = _Purge(root=root, book=open_ledger(root, clock), now=clock.now(), dry_run=dry_run)
    removed = [
        purge.remove("executed notebooks", stated.executed_days, purge.executed()),
        purge.remove("files of the panel's runs", stated.executed_days, purge.of_panel()),
        purge.logs(stated.executed_days),
        purge.remove("held rows and kept answers", stated.quarantine_days, purge.of_slots(JOB_STATE)),
        purge.remove("outputs of shadows", stated.shadow_days, purge.of_slots(SHADOWS)),
        purge.writes(stated.history_days),
        purge.lines(stated.history_days),
    ]
    return PurgedRuns(removed=tuple(item for item in removed if item), dry_run=dry_run)


class DailyPurge:
    """Purges a repository at the first call and then once a day, for a process that calls it often."""

    def __init__(self, root: Path, *, clock: Clock) -> None:
        self._root, self._clock = root, clock
        self._next: dt.datetime | None = None

    def __call__(self) -> PurgedRuns | None:
        """Purge when a day has passed since the last time; after an error, when an hour has."""
        now = self._clock.now()
        if self._next is not None and now < self._next:
            return None
        self._next = now + _AGAIN
        removed = purge_runs(self._root, clock=self._clock)
        self._next = now + _DAY
        return removed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Purge:
    """One purge: the ledger that says what is needed, and the time by which files are old."""

    root: Path
    book: JobLedger
    now: dt.datetime
    dry_run: bool
    #: The newest run of each job and tenant that was asked for.
    newest: dict[tuple[str, str], JobRun | None] = field(default_factory=dict)

    def remove(
        self,
        kind: str,
        days: int | None,
        paths: Iterator[Path],
        *,
        remove: Callable[[Path], object] = lambda path: path.unlink(),
    ) -> PurgedKind | None:
        """Remove those of the files that are older than the days; None without stated days."""
        if days is None:
            return None
        before, count, size = self.now - dt.timedelta(days=days), 0, 0
        for path in paths:
            with files.writing(path), contextlib.suppress(FileNotFoundError):  # another purge removed it
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or found.st_mtime >= before.timestamp():
                    continue
                if not self.dry_run:
                    remove(path)
                count, size = count + 1, size + found.st_size
        return PurgedKind(kind=kind, before=before, count=count, size=size)

    def writes(self, days: int | None) -> PurgedKind | None:
        """Remove the logs of memory writes that are older than the days, each but for a mark."""
        logs = (path for path in self.of_slots(JOB_WRITES) if path.name != slot_writes.PURGED)
        marked = functools.partial(slot_writes.purge_writes, now=self.now)
        return self.remove("memory writes of slots", days, logs, remove=marked)

    def lines(self, days: int | None) -> PurgedKind | None:
        """Remove the lines of the ledger that are older than the days; None without stated days."""
        if days is None:
            return None
        before = self.now - dt.timedelta(days=days)
        return PurgedKind(
            kind="lines of the history", before=before, count=self.book.purge(before, dry_run=self.dry_run)
        )

    def executed(self) -> Iterator[Path]:
        """Yield the executed notebooks that no run needs: their names end with the id of the run."""
        for path in sorted((self.root / EXECUTED).glob("*-*.ipynb")):
            try:
                run = self.book.run(path.stem.rpartition("-")[2])
            except NotFoundError:  # run by hand, or its line is removed
                yield path
                continue
            except DamagedRowError:
                continue
            if not self._needed(run.slot, run=run):
                yield path

    def of_panel(self) -> Iterator[Path]:
        """Yield the files of the panel's runs that no run needs; remove the folders that get empty."""
        for place in sorted((self.root / PANEL / "runs").glob("*")):
            if place.is_symlink() or not place.is_dir():
                continue
            try:
                run = self.book.run(place.name.replace("-", ""))
            except NotFoundError:  # it was refused before it had a line, or that is removed
                pass
            except DamagedRowError:
                continue
            else:
                if self._needed(run.slot, run=run):
                    continue
            yield from self._below(place)

    def logs(self, days: int | None) -> PurgedKind | None:
        """Remove the logs of timers that nobody wrote to in the days, and let the others begin anew.

        A log is renamed where the one before is removed, so that a line is kept for these days at least and
        for twice as many at most. A run that writes to it goes on in the renamed one.
        """
        folder = self.root / JOB_STATE
        old = sorted([*folder.glob(f"*{_LOG}"), *folder.glob(f"*{_LOG}.1")])
        found = self.remove("logs of timers", days, iter(old))
        if days is None or self.dry_run:
            return found
        for log in sorted(folder.glob(f"*{_LOG}")):
            before = log.with_name(f"{log.name}.1")
            if log.is_file() and not log.is_symlink() and not before.exists():
                with files.writing(log), contextlib.suppress(FileNotFoundError):  # another purge renamed it
                    log.rename(before)
        return found

    def of_slots(self, folder: Path) -> Iterator[Path]:
        """Yield the files of slots below a folder that no run needs; remove the folders that get empty."""
        for place in sorted((self.root / folder).glob("*/*/*")):
            slot = _slot(place)
            if slot is None or place.is_symlink() or self._needed(slot):
                continue
            yield from self._below(place)

    def _below(self, place: Path) -> Iterator[Path]:
        """Yield the files below a folder; remove the folders that get empty meanwhile."""
        for below, _, names in os.walk(place, topdown=False):  # a run may remove it meanwhile
            yield from (Path(below, name) for name in sorted(names))
            with contextlib.suppress(OSError):  # it holds younger files
                if not self.dry_run:
                    Path(below).rmdir()

    def _needed(self, slot: Slot, *, run: JobRun | None = None) -> bool:
        """Return whether a run, or any of a slot, has not ended or is the newest of its job and tenant.

        While a row of a job cannot be read, its slots may be needed.
        """
        key = slot.job, slot.tenant
        if key not in self.newest:
            self.newest[key] = next(iter(self.book.history(slot.job, tenant=slot.tenant, limit=1)), None)
        newest = self.newest[key]
        if run is not None:
            return run.finished_at is None or (newest is not None and newest.run == run.run)
        waits = any(item.slot == slot for item in self.book.unfinished(slot.job))
        waits = waits or any(row.job == slot.job for row in self.book.damaged())
        return waits or (newest is not None and newest.slot == slot)


def _slot(place: Path) -> Slot | None:
    """Return the slot whose folder this is, or None for another folder."""
    try:
        at = dt.datetime.strptime(place.name, _TIME).replace(tzinfo=dt.UTC)
        tenant = place.parent.name
        return Slot(job=place.parent.parent.name, tenant="" if tenant == "all" else tenant, at=at)
    except (ValueError, ConfigError):
        return None
