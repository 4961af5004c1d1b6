"""JupyterLab's Notebook Jobs panel: an execution manager and a scheduler that run promoted versions only.

`.jupyter` names both classes where jupyter-scheduler is installed. The panel starts runs, and lists those of
the history. Schedules are those of promoted versions, which `workbench jobs serve` runs.
"""

# mypy: disable-error-code="no-untyped-call, import-untyped, misc"

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from traitlets import Type

from workbench import config, schemas
from workbench.context import SystemClock
from workbench.errors import RefusedError, WorkbenchError
from workbench.files import make_folder
from workbench.jobs.ledger import JobRun, open_ledger
from workbench.notebooks import canonical
from workbench.scheduler import panel_runs

schemas.jsonschema()  # what follows imports it

import nbformat
from jupyter_scheduler.exceptions import SchedulerError
from jupyter_scheduler.executors import DefaultExecutionManager
from jupyter_scheduler.models import (
    CountJobsQuery,
    CreateJob,
    DescribeJob,
    ListJobsQuery,
    ListJobsResponse,
    SortDirection,
    Status,
)
from jupyter_scheduler.orm import Job
from jupyter_scheduler.scheduler import Scheduler
from jupyter_scheduler.utils import get_utc_timestamp

_STARTED = (Status.QUEUED, Status.IN_PROGRESS, Status.STOPPING)
_MOST_MESSAGE, _MOST_RUNS = 1_000, 200
#: The ids of runs that the panel did not start; Jupyter's ids have a dash.
_ELSEWHERE = "run-"


class GovernedRun(DefaultExecutionManager):
    """Runs the promoted version of a notebook with `workbench jobs run`, never the panel's copy of it.

    Jupyter makes one in a process of its own for each run. The id of the run in the history is that of the
    panel's job, without dashes.
    """

    def execute(self) -> None:
        """Run the version, and write the card and the executed copy as the job's outputs.

        RefusedError for a notebook that is no promoted version, and for a run that published nothing.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._execute()
        except KeyboardInterrupt:
            raise StoppedError("stopped; the answers so far are kept and not asked again") from None

    def _execute(self) -> None:
        root, notebook = config.find_root(Path(self.root_dir)), Path(self.staging_paths["input"])
        with panel_runs.turn(root):
            # After the wait: a promotion meanwhile decides which version is run.
            order = panel_runs.ordered(root, notebook, self.model.parameters or {})
            done = panel_runs.run(root, order, uuid.UUID(self.job_id).hex, notebook.parent)
        text = canonical.text_of({"cells": done.cells(), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        self.create_output_files(self.model, nbformat.reads(text, as_version=4))
        if done.code:
            raise RefusedError(done.errors or done.card or f"the run ended with code {done.code}")

    def on_failure(self, e: Exception) -> None:
        """Set the job's state, end and message: stopped when it was stopped, else failed."""
        status = Status.STOPPED if isinstance(e, StoppedError) else Status.FAILED
        self._ended(status, str(e)[:_MOST_MESSAGE])

    def _ended(self, status: Status, message: str) -> None:
        end = {"status": status, "status_message": message, "end_time": get_utc_timestamp()}
        with self.db_session() as session:
            session.query(Job).filter(Job.job_id == self.job_id).update(end)
            session.commit()

    @staticmethod
    def supported_features(_class: Any) -> dict[Any, bool]:
        """Return what the panel offers: names and formats of outputs, stopping and deleting."""
        features: dict[Any, bool] = DefaultExecutionManager.supported_features(DefaultExecutionManager)
        return features

    @staticmethod
    def validate(_class: Any, _path: str) -> bool:
        """Return True: the version's own kernel runs, and `GovernedScheduler` checks the notebook."""
        return True


class StoppedError(WorkbenchError):
    """The panel stopped the run."""


class GovernedScheduler(Scheduler):
    """The panel's list: refuses what is not promoted before it has a row, and has no schedules of its own."""

    task_runner_class = Type(
        default_value=None,
        klass="jupyter_scheduler.task_runner.BaseTaskRunner",
        allow_none=True,
        config=True,
        help="None: `workbench jobs serve` runs schedules.",
    )

    @property
    def _repository(self) -> Path:
        return config.find_root(Path(self.root_dir))

    def create_job(self, model: CreateJob) -> str:
        """Start a run; SchedulerError, which the panel shows, when it would be refused."""
        path = Path(self.root_dir) / model.input_uri
        if path.is_file():  # else Jupyter's own error says so
            try:
                panel_runs.ordered(self._repository, path, model.parameters or {})
            except (WorkbenchError, OSError) as error:
                raise SchedulerError(str(error)) from error
        make_folder(Path(self.root_dir) / self.output_directory)  # Jupyter would let everybody read it
        model.package_input_folder = None  # the version's folder is run, not the notebook's
        job_id: str = super().create_job(model)
        with self.db_session() as session:  # Jupyter's own first state is "stopped"
            new = session.query(Job).filter(Job.job_id == job_id, Job.status == Status.STOPPED)
            new.filter(Job.start_time.is_(None)).update({"status": Status.QUEUED})
            session.commit()
        return job_id

    def create_job_definition(self, model: Any) -> str:
        """Raise SchedulerError: a schedule is part of a version."""
        raise SchedulerError(
            f"{model.input_uri}: the schedule of a job is frozen with its version\n"
            "  -> set jobs.NAME.schedule in params.yaml, then: workbench promote job/NAME --to production"
        )

    def create_job_from_definition(self, job_definition_id: str, model: Any) -> str:  # noqa: ARG002  Jupyter's
        """Raise SchedulerError: there are no definitions of the panel's own."""
        raise SchedulerError(f"no job definition {job_definition_id}\n  -> workbench jobs trigger NAME")

    def stop_job(self, job_id: str) -> None:
        """Ask a run to end, also one that waits for its turn; its process then writes the history's line."""
        if job_id.startswith(_ELSEWHERE):
            raise SchedulerError("the panel did not start this run\n  -> workbench jobs pause NAME")
        with self.db_session() as session:
            row = session.query(Job).filter(Job.job_id == job_id).one()
            if row.status in _STARTED and (process := _process(row)):
                row.status = Status.STOPPING
                session.commit()
                process.terminate()

    def delete_job(self, job_id: str) -> None:
        """Stop a run and remove its row and outputs; its line in the history stays."""
        self.stop_job(job_id)
        super().delete_job(job_id)

    def list_jobs(self, query: ListJobsQuery) -> ListJobsResponse:
        """Return the panel's runs and the newest others of the history, sorted as asked."""
        self._settle()
        every = ListJobsQuery(**{**query.dict(), "max_items": -1, "next_token": None})
        own = super().list_jobs(every).jobs
        known = {uuid.UUID(job.job_id).hex for job in own}
        found = [*own, *(job for job in self._others(known) if _matches(job, query))]
        for field in reversed(query.sort_by):
            falling = field.direction == SortDirection.desc
            found.sort(key=lambda job, name=field.name: _sort_key(job, name), reverse=falling)
        first = int(query.next_token or 0)
        until = first + int(query.max_items)
        token = str(until) if until < len(found) else None
        return ListJobsResponse(jobs=found[first:until], total_count=len(found), next_token=token)

    def count_jobs(self, query: CountJobsQuery) -> int:
        """Return the number of the panel's runs in a state."""
        self._settle()
        count: int = super().count_jobs(query)
        return count

    def get_job(self, job_id: str, job_files: bool | None = True) -> DescribeJob:  # noqa: FBT001, FBT002  Jupyter's
        """Return a run of the panel or of the history."""
        if not job_id.startswith(_ELSEWHERE):
            self._settle()
            return super().get_job(job_id, job_files)
        book = open_ledger(self._repository, SystemClock())
        return _described(book.run(job_id.removeprefix(_ELSEWHERE)))

    def _others(self, known: set[str]) -> Iterable[DescribeJob]:
        book = open_ledger(self._repository, SystemClock())
        return (_described(run) for run in book.history(limit=_MOST_RUNS) if run.run not in known)

    def _settle(self) -> None:
        """End the rows whose process is gone: it was killed, or the machine was restarted."""
        with self.db_session() as session:
            for row in session.query(Job).filter(Job.status.in_(_STARTED)):
                if row.pid is not None and _process(row) is None:
                    session.refresh(row)  # it may have ended by itself meanwhile
                    if row.status not in _STARTED:
                        continue
                    stopped = row.status == Status.STOPPING
                    row.status = Status.STOPPED if stopped else Status.FAILED
                    row.status_message = "stopped" if stopped else "its process was killed; see the history"
                    row.end_time = get_utc_timestamp()
            session.commit()


def _process(row: Any) -> psutil.Process | None:
    """Return the living process of a row, or None; another process may have its number since."""
    try:
        process = psutil.Process(row.pid)
        made_at = process.create_time() * 1_000
        if process.status() == psutil.STATUS_ZOMBIE or made_at > row.create_time + 60_000:
            return None
    except psutil.Error:
        return None
    return process


def _matches(job: DescribeJob, query: ListJobsQuery) -> bool:
    """Whether a run of the history fits a query; it has no definition and no tags of the panel."""
    named = not query.name or job.name.startswith(query.name)
    late = not query.start_time or (job.start_time or 0) >= query.start_time
    plain = not query.job_definition_id and not query.tags
    return plain and named and late and (not query.status or job.status == query.status)


def _sort_key(job: DescribeJob, name: str) -> tuple[bool, Any]:
    value = getattr(job, name, None)
    return value is not None, value


def _described(run: JobRun) -> DescribeJob:
    """Return a run of the history as the panel shows it."""
    times = {"start_time": run.started_at, "end_time": run.finished_at, "update_time": run.finished_at}
    ended = {"published", "unchanged", "shadowed"}
    status = {"waiting": Status.QUEUED, "queued": Status.IN_PROGRESS, "running": Status.IN_PROGRESS}.get(
        run.state, Status.COMPLETED if run.outcome in ended else Status.FAILED
    )
    created = int(run.queued_at.timestamp() * 1_000)
    milliseconds = {name: int(at.timestamp() * 1_000) for name, at in times.items() if at}
    return DescribeJob(
        **{"update_time": created, **milliseconds},
        job_id=f"{_ELSEWHERE}{run.run}",
        name=f"{run.slot.key} ({run.role}, {run.trigger})",
        input_filename=f"{run.slot.job}@{run.version}" if run.version else run.slot.job,
        runtime_environment_name="workbench",
        output_formats=[],
        url=f"/jobs/{_ELSEWHERE}{run.run}",
        create_time=created,
        status=Status.STOPPED if run.outcome == "interrupted" else status,
        status_message=f"{run.outcome or run.state}: {run.detail}".strip(": "),
    )
