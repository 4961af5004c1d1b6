"""Put a server of jobs together from a repository: its ledger, definitions, commands, notices and address."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import registry
from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, WorkbenchError
from workbench.jobs import spec as jobspec
from workbench.jobs import versions
from workbench.jobs.ledger import JobLedger, open_ledger
from workbench.jobs.retention import DailyPurge
from workbench.jobs.run import remove_remains
from workbench.notices import deliver
from workbench.promotion.rollout import settle_trials
from workbench.scheduler import serving
from workbench.scheduler.children import CommandStarter
from workbench.scheduler.definitions import Definition, DefinitionReader
from workbench.scheduler.health import ADDRESS, address_of, listen
from workbench.scheduler.server import JobServer, ServeOptions, ServerParts
from workbench.scheduler.telling import OutboxTeller
from workbench.scheduler.warm import WarmTemplates

#: The definitions that the greeting looks at: to read the page of a version takes ten milliseconds.
_LOOKED_AT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenServer:
    """A server that is ready to run, with its listening socket."""

    root: Path
    server: JobServer
    listener: socket.socket | None
    ledger: JobLedger
    clock: Clock
    purge: Callable[[], object] = lambda: None
    warm: WarmTemplates | None = None
    definitions: tuple[Definition, ...] = ()

    @property
    def greeting(self) -> str:
        """Lines that say what is served, what is due next, where the server answers, and what cannot run."""
        place = self.server.options.address
        now = self.clock.now()
        shown = self.definitions[:_LOOKED_AT]
        due = [(d.schedule.after(now, 1)[0], d.name) for d in shown if d.schedule is not None]
        count = len({definition.job for definition in self.definitions})
        said = f"the server of jobs serves {count} {'job' if count == 1 else 'jobs'}"
        if due and len(shown) == len(self.definitions):
            at, name = min(due)
            said += f", the next is {name} at {at:%Y-%m-%d %H:%MZ}"
        return "\n".join([said + (f"; it answers at {place}/ready" if place else ""), *self._unready()])

    def _unready(self) -> list[str]:
        """Return a line for each of the first definitions whose version has no environment here."""
        said = []
        for item in self.definitions[:_LOOKED_AT]:
            name = f"{item.job}@{item.version}"
            with suppress(WorkbenchError):  # of a page that a run refuses: the other jobs are served
                spec = jobspec.read(registry.resolve(self.root, "job", name).path)
                if not versions.has_environment(self.root, spec):
                    said.append(f"{name} cannot run: its environment is not installed here")
                    said.append(f"  -> workbench jobs install {name}")
        return said

    def run(self, *, grace_s: float = 30.0) -> dict[str, int]:
        """Run until a signal, or until the options' time; return the number of ended runs by outcome."""
        try:
            if self.warm is not None:
                self.warm.look()  # the first run is not before the template of the command is ordered
            serving.serve(self.server, listener=self.listener, deliver=self._deliver, grace_s=grace_s)
        finally:
            if self.warm is not None:
                self.warm.close()
        return dict(self.server.measures.outcomes)

    def _deliver(self) -> object:
        """Deliver notices, and once a day remove what is older than the stated retention."""
        if self.warm is not None:
            self.warm.look()
        known = self.server.definitions.operations.channels
        if known:
            deliver(self.root, self.ledger, known, clock=self.clock)
        return self.purge()


def open_server(
    root: Path,
    options: ServeOptions,
    *,
    address: str | None = None,
    rehearsal: bool = False,
) -> OpenServer:
    """Return a server of the jobs of a repository, with definitions that were read.

    Without an address, it listens at the default one, or, with `once` and in a rehearsal, nowhere. Raise
    ConfigError for an operations.yaml that is not valid, UnavailableError for an address that is taken.
    """
    clock = SystemClock()
    brief = options.once or options.until is not None
    listener = None if address is None and brief else listen(address or ADDRESS)
    place = "" if listener is None else address_of(listener)
    ledger = open_ledger(root, clock)

    if options.warm and sys.platform != "linux":
        raise ConfigError("--warm needs Linux", hint="workbench jobs serve")
    warm = WarmTemplates(lambda: server.definitions.operations.warm) if options.warm else None

    def after_run(job: str) -> None:
        remove_remains(root, ledger)
        settle_trials(root, ledger, job)

    remove_remains(root, ledger)  # of runs that were killed after their line had ended: nobody settles them
    parts = ServerParts(
        reader=DefinitionReader(root, rehearsal=rehearsal, withdrawn=lambda: _withdrawn(ledger)),
        ledger=ledger, starter=CommandStarter(root, warm), teller=OutboxTeller(ledger), clock=clock,
        after_run=after_run,
    )  # fmt: skip
    server = JobServer(parts, dataclasses.replace(options, address=place))
    found = parts.reader.read().found  # its errors are those of this command
    opened = OpenServer(
        root=root,
        server=server,
        listener=listener,
        ledger=ledger,
        clock=clock,
        warm=warm,
        definitions=found,
    )
    # The clock of a rehearsal says nothing about the age of files.
    return opened if brief or rehearsal else dataclasses.replace(opened, purge=DailyPurge(root, clock=clock))


def _withdrawn(ledger: JobLedger) -> dict[str, frozenset[int]]:
    """Return the withdrawn versions of each job."""
    found: dict[str, set[int]] = {}
    for item in ledger.withdrawals():
        found.setdefault(item.job, set()).add(item.version)
    return {job: frozenset(versions) for job, versions in found.items()}
