"""The runs that JupyterLab's Notebook Jobs panel starts: find the job of a notebook, and run its command.

The panel hands over a copy of a notebook, and texts. What runs is the version in production that has the
task of the copy: from its own folder, by `workbench jobs run`, which asks the policies and keeps a history.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import config, files, locking, processes, registry
from workbench.config.operations import load_operations
from workbench.context import SystemClock
from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError, nearest
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import open_ledger
from workbench.jobs.roles import version_in_role, withdrawn_in
from workbench.jobs.spec import JobSpec
from workbench.layout import EXECUTED, PANEL
from workbench.notebooks import canonical, inspection
from workbench.notebooks.inspection import Notebook

#: The panel's parameters that are options of `workbench jobs run`; `job` chooses between jobs of one task.
OPTIONS: Final = ("at", "input", "tenant")
_PAGE: Final = "docs/notebook-jobs.md"
_MOST_SAID, _STOP_S, _TURN_S = 4_000, 20.0, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelRun:
    """A run that the panel ordered: the job, its version in production, and options of the command."""

    job: str
    version: int
    options: Mapping[str, str]

    def arguments(self, run: str) -> list[str]:
        """Return the arguments of `workbench` that execute the run under the id `run`."""
        options = [f"--{name}={value}" for name, value in sorted(self.options.items())]
        return ["jobs", "run", self.job, *options, "--run", run]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelResult:
    """The end of the command of a run: its exit code, the card that it printed, and its errors."""

    code: int
    card: str
    errors: str
    executed: Path | None

    def cells(self) -> list[dict[str, object]]:
        """Return the cells that come back: the card or the error, and the executed copy's cells."""
        text = "\n\n".join(filter(None, (self.card, self.errors if self.code else "")))
        first = {"cell_type": "markdown", "id": "run", "metadata": {}, "source": f"```text\n{text}\n```"}
        return [first, *(canonical.read(self.executed)["cells"] if self.executed else ())]


def ordered(root: Path, notebook: Path, parameters: Mapping[str, str]) -> PanelRun:
    """Return the run of the version in production that has the notebook's task.

    RefusedError, with the command that promotes it, when no version in production has it. ConfigError for a
    parameter that is no option of a run.
    """
    options = _options(parameters)
    found = inspection.read(notebook)
    wanted = options.pop("job", None)
    if wanted is not None and wanted not in registry.names(root, "job"):
        known = nearest(wanted, registry.names(root, "job"))
        raise NotFoundError(f"the parameter job: no job {wanted!r} ({known})", hint="workbench jobs list")
    specs: dict[str, JobSpec] = {}
    for name in registry.names(root, "job"):
        with contextlib.suppress(WorkbenchError):  # a damaged job does not stop the others
            specs[name] = _in_production(root, name)
    same = [name for name, spec in specs.items() if _has_task(spec, found)]
    if wanted is not None and wanted not in same:
        raise _not_promoted(root, found, [wanted])
    if not same:
        raise _not_promoted(root, found, _jobs_of(root, notebook.name))
    if wanted is None and len(same) > 1:
        raise RefusedError(
            f"{notebook.name} is the task of {len(same)} jobs: {', '.join(same)}",
            hint=f"name one in the parameter `job`, such as {same[0]}",
        )
    job = wanted or same[0]
    return PanelRun(job=job, version=specs[job].version, options=options)


def _options(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters as options; ConfigError for another name, and for a value that is no text."""
    for name, value in parameters.items():
        if name not in {*OPTIONS, "job"}:
            raise ConfigError(
                f"parameter {files.shortened(name)!r}: a promoted version's parameters are frozen",
                hint=f"the panel takes {', '.join(OPTIONS)} and job ({_PAGE})",
            )
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ConfigError(
                f"the parameter {name} is empty", hint=f"remove it, or give it a value ({_PAGE})"
            )
    return {name: value.strip() for name, value in parameters.items()}


def _in_production(root: Path, name: str) -> JobSpec:
    """Return the page of a job's version in production; raise WorkbenchError where it cannot be read."""
    book = open_ledger(root, SystemClock())
    number = version_in_role(root, name, "production", withdrawn_in(book, name))[1]
    return jobspec.read(registry.resolve(root, "job", f"{name}@{number}").path)


def _has_task(spec: JobSpec, notebook: Notebook) -> bool:
    """Whether a notebook would run what the version runs: its comments and `explore` cells may differ."""
    return notebook.digest(spec.values()) == spec.task_digest


def _jobs_of(root: Path, notebook: str) -> list[str]:
    """Return the jobs of params.yaml whose use case has a notebook with this file name."""
    stated = config.load_params(root)
    notebooks = {name: Path(case.notebook).name for name, case in stated.use_cases.items()}
    return [name for name, job in stated.jobs.items() if notebooks.get(job.use_case) == notebook]


def _not_promoted(root: Path, notebook: Notebook, jobs: list[str]) -> RefusedError:
    """Return the error for a notebook whose task no version in production has.

    A job whose version in production cannot be read raises the reason.
    """
    name = notebook.path.name
    if not jobs:
        return RefusedError(
            f"{name} is no promoted version, and no job of params.yaml is made of it",
            hint="workbench promote job/NAME --dry-run lists what a job needs (docs/promote-a-notebook.md)",
        )
    job = jobs[0]
    for number in sorted(_versions(root, job), reverse=True):
        with contextlib.suppress(WorkbenchError):
            if _has_task(jobspec.read(registry.resolve(root, "job", f"{job}@{number}").path), notebook):
                return RefusedError(
                    f"{name} is the task of {job}@{number}, which is not in production",
                    hint=f"workbench promote job/{job}@{number} --to production",
                )
    if job in registry.names(root, "job"):
        _in_production(root, job)
    return RefusedError(
        f"{name} is no promoted version: its task differs from that of every version of job {job!r}",
        hint=f"workbench promote job/{shlex.quote(job)} --to production",
    )


def _versions(root: Path, job: str) -> list[int]:
    if job not in registry.names(root, "job"):
        return []
    return list(registry.load(root, "job", job).versions)


@contextlib.contextmanager
def turn(root: Path) -> Iterator[None]:
    """Hold one of the places of this machine's capacity during a block: the panel starts all runs at once."""
    folder = root / PANEL
    files.make_folder(folder)
    places = range(load_operations(root).capacity.runs)
    while True:
        for place in places:
            descriptor = os.open(folder / f"turn-{place}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if locking.acquire(descriptor, wait=False):
                    yield
                    return
            finally:
                os.close(descriptor)
        time.sleep(_TURN_S)


def run(root: Path, order: PanelRun, run_id: str, folder: Path) -> PanelResult:
    """Execute `workbench jobs run` and return how it ended; what it prints is kept in `folder`.

    An interrupt of this process interrupts the run, and the history says so. When this process is killed, the
    run's processes end too.
    """
    out, err = folder / ".run.out", folder / ".run.err"
    with out.open("wb") as card, err.open("wb") as errors:
        process = processes.start(
            [sys.executable, "-P", "-m", "workbench.processes", "workbench.cli", *order.arguments(run_id)],
            mark=run_id, cwd=root, environment=processes.inherited() or os.environ,
            stdout=card, stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        process.wait()
    except BaseException:
        processes.stop(process, grace_s=_STOP_S)
        raise
    finally:
        processes.end(run_id, process)
    copies = sorted((root / EXECUTED).glob(f"*-{run_id}.ipynb"))
    said = [_tail(path) for path in (out, err)]
    for path in (out, err):
        path.unlink(missing_ok=True)
    executed = copies[0] if copies else None
    return PanelResult(code=process.returncode, card=said[0], errors=_last_error(said[1]), executed=executed)


def _tail(path: Path) -> str:
    """Return the end of a file as text."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_SAID))
        return file.read().decode(errors="replace").strip()


def _last_error(text: str) -> str:
    """Return what a command said from its last error on."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-3:])
