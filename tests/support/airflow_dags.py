"""Load a folder of DAGs as Airflow does, run the task of each, and print as JSON what was read.

Run by test_exported_manifests.py with the interpreter of .venv-airflow: the folder, a time, and a number.
"""

import json
import subprocess
import sys

import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction


def starts(dag, since, number):
    """The first starts of a DAG."""
    found, last = [], None
    timetable = coerce_to_core_timetable(dag.timetable)
    within = TimeRestriction(earliest=since, latest=None, catchup=True)
    for _ in range(number):
        run = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=within)
        found.append(run.run_after.isoformat())
        last = run.data_interval
    return found


def ran(dag):
    """What its task raises, "" for nothing."""
    try:
        dag.get_task("run").python_callable()
    except subprocess.CalledProcessError as error:
        return type(error).__name__
    return ""


folder, since, number = sys.argv[1], pendulum.parse(sys.argv[2]), int(sys.argv[3])
bag = DagBag(folder)
told = {
    name: {
        "catchup": dag.catchup, "max_active_runs": dag.max_active_runs, "description": dag.description,
        "tasks": dag.task_ids, "timeout": dag.get_task("run").execution_timeout.total_seconds(),
        "starts": starts(dag, since, number), "ran": ran(dag),
    }
    for name, dag in bag.dags.items()
}  # fmt: skip
print(json.dumps({"errors": bag.import_errors, "dags": told}))
