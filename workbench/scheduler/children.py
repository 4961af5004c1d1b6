"""The processes of runs that a server started: `workbench jobs run`, each with a log of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from workbench import processes
from workbench.files import make_folder
from workbench.forking.templates import StartedProcess, TemplateOrder
from workbench.jobs.ledger import JobRun
from workbench.jobs.slots import iso
from workbench.layout import CACHE
from workbench.scheduler.warm import COMMAND, WarmTemplates

#: The logs of runs that ended without success; the log of a successful run is removed.
LOGS: Final = CACHE / "served"
_MOST_LOGS, _MOST_SAID = 200, 4_000


class RunProcess(Protocol):
    """The process of one run."""

    def poll(self) -> int | None:
        """Return the exit code, or None while the process lives."""

    def kill(self) -> None:
        """Kill the process and all its descendants."""

    def said(self) -> str:
        """Return the last line of what the process wrote."""


class Starter(Protocol):
    """Starts the processes of runs; a test replaces it."""

    def start(self, run: JobRun) -> RunProcess:
        """Start the process of a run that this server has taken."""


class CommandStarter:
    """Starts `workbench jobs run` for a run, in a session of its own, so that it outlives a killed server."""

    def __init__(self, root: Path, warm: WarmTemplates | None = None) -> None:
        self._root, self._warm = root, warm
        if warm is not None:
            warm.order(self._template())

    def start(self, run: JobRun) -> RunProcess:
        """Start the command of a run; its output goes to a file below `LOGS`."""
        folder = self._root / LOGS
        make_folder(folder)
        _remove_old(folder)
        path = folder / f"{run.run}.log"
        with path.open("wb") as log:
            path.chmod(0o600)
            process = self._started(run, log.fileno())
        return CommandProcess(process, run.run, path)

    def _started(self, run: JobRun, log: int) -> StartedProcess:
        """Start the command of a run: forked from its template where one is kept, else anew."""
        mark, environment = f"served-{run.run}", {**(processes.inherited() or os.environ)}
        if self._warm is not None:
            environment |= {**self._warm.variables(), processes.MARK: mark}
            forked = self._warm.start(
                self._template(), arguments_of(run), mark=mark, environment=environment, stream=log
            )
            if forked is not None:
                return forked
        return processes.start(
            [sys.executable, "-P", "-m", "workbench.cli", *arguments_of(run)],
            mark=mark, cwd=self._root, environment=environment,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def _template(self) -> TemplateOrder:
        return TemplateOrder.of(
            processes.inherited() or os.environ, name="the command", python=sys.executable, flags=("-P",),
            module=COMMAND, cwd=str(self._root),
        )  # fmt: skip


class CommandProcess:
    """One command that a `CommandStarter` started."""

    def __init__(self, process: StartedProcess, run: str, log: Path) -> None:
        self._process, self._run, self._log = process, run, log

    def poll(self) -> int | None:
        """Return the exit code, or None while the process lives; the log of a success is removed."""
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if code == 0:
            self._log.unlink(missing_ok=True)
        return code

    def kill(self) -> None:
        """Kill the command, its worker and its kernel."""
        self._process.kill()
        processes.end(self._run)
        processes.end(f"served-{self._run}", self._process)

    def said(self) -> str:
        """Return the last line of the log."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _MOST_SAID))
            lines = log.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def arguments_of(run: JobRun) -> list[str]:
    """Return the arguments of `workbench` that execute a run of the ledger."""
    reference = run.slot.job if not run.version else f"{run.slot.job}@{run.version}"
    tenant = ["--tenant", run.slot.tenant] if run.slot.tenant else []
    role = [] if run.role == "production" else ["--role", run.role]
    return ["jobs", "run", reference, "--at", iso(run.slot.at), *tenant, *role, "--run", run.run, "--json"]


def _remove_old(folder: Path) -> None:
    """Remove all but the newest logs."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    for path in logs[:-_MOST_LOGS]:
        path.unlink(missing_ok=True)
