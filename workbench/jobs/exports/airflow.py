"""Export a job's schedule as a DAG of Airflow 3 with one task, in Python source."""

from __future__ import annotations

import datetime as dt
import re

from workbench.jobs.exports.dialect import portable
from workbench.jobs.exports.entry import MARGIN, JobEntry

_NO_ID = re.compile(r"[^A-Za-z0-9_.-]")
#: The first line of the source: Python reads an encoding from a comment of the first two, and the second of
#: them would be that of the title.
_ENCODING = "# coding: utf-8"


def to_airflow(entry: JobEntry, *, now: dt.datetime) -> dict[str, str]:
    """Return the source of a DAG by file name; RefusedError for a schedule that it cannot express."""
    entry.check()
    dag = f"workbench_{_NO_ID.sub('_', entry.name)}"
    variables = [f"# Its worker's environment needs {', '.join(entry.variables)}."] if entry.variables else []
    comments = "\n".join(
        [
            _ENCODING,
            *entry.heading(now),
            f"# To install: put it into the DAGs folder of Airflow 3; airflow dags unpause {dag}",
            f"# The folder {entry.root} and its environment must be on the worker.",
            *variables,
        ]
    )
    line = portable(entry, scheduler="Airflow").line()
    return {f"{dag}.py": f"{comments}\n{_source(entry, dag, line, now)}"}


def _source(entry: JobEntry, dag: str, line: str, now: dt.datetime) -> str:
    return f"""\
import datetime as dt
import subprocess

from airflow.sdk import CronTriggerTimetable, dag, task

COMMAND = {list(entry.command)!r}
FOLDER = {str(entry.root)!r}


@dag(
    dag_id={dag!r},
    description={entry.title!r},
    schedule=CronTriggerTimetable({line!r}, timezone={entry.schedule.timezone!r}),
    start_date=dt.datetime({now.year}, {now.month}, {now.day}, tzinfo=dt.timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["workbench"],
)
def workbench_job():
    @task(task_id="run", execution_timeout=dt.timedelta(seconds={entry.seconds + MARGIN}))
    def run():
        subprocess.run(COMMAND, cwd=FOLDER, check=True)

    run()


workbench_job()
"""
