"""What is exported, as those who read it do: Kubernetes' schema, GitHub's, actionlint, and Airflow."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.resources
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
from clones import ROOT
from ruamel.yaml import YAML

from workbench.jobs.exports import JobEntry, to_airflow, to_github, to_kubernetes
from workbench.jobs.schedule import Schedule

NOW = dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC)
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"
ACTIONLINT = os.environ.get("WORKBENCH_ACTIONLINT") or shutil.which("actionlint")
HOSTILE = "x: {{ 1 }} ${{ github.token }} $(PATH) %n \"'\\ # - é *&!|>`'''\"\"\""
SCRIPT = """#!/bin/sh
printf '%s\\n' "$PWD" "$@" > "$(dirname "$0")/called"
exit ${CODE:-7}
"""


def entry(folder=Path("/repo"), cron="30 2 * * *", timezone="UTC", **given):
    """A job whose name, folder, program and description are odd in each format."""
    plain = JobEntry(
        name="Answers_to-all",
        root=folder,
        command=(str(folder / "bin" / "work bench"), "jobs", "run", HOSTILE),
        schedule=Schedule.parse(cron, timezone, where="params.yaml"),
        seconds=900,
        description=HOSTILE,
        variables=("MY_KEY", "OPENAI_API_KEY"),
    )
    return dataclasses.replace(plain, **given)


def test_kubernetes_takes_the_cron_job_of_an_awkward_job_and_no_key_that_it_does_not_know():
    [text] = to_kubernetes(entry(timezone="Europe/Berlin"), now=NOW).values()
    job = YAML(typ="safe", pure=True).load(text)
    kubernetes_validate.validate(job, "1.37", strict=True)
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicies"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicies"):
        kubernetes_validate.validate(job, "1.37", strict=True)


@pytest.fixture
def workflow(tmp_path):
    awkward = entry(cron="0,30 4,23 2-15 * mon", timezone="Asia/Kolkata")
    [(name, text)] = to_github(awkward, now=NOW).items()
    path = tmp_path / ".github" / "workflows" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_githubs_schema_takes_the_workflow_of_an_awkward_job_and_no_key_that_it_does_not_know(workflow):
    schemas = importlib.resources.files(check_jsonschema) / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "github-workflows.json").read_text())
    found = YAML(typ="safe", pure=True).load(workflow)
    jsonschema.validate(found, schema)
    found["jobs"]["run"]["step"] = []
    with pytest.raises(jsonschema.ValidationError, match="step"):
        jsonschema.validate(found, schema)


@pytest.mark.skipif(
    ACTIONLINT is None, reason="go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
)
def test_actionlint_has_nothing_against_the_workflow_of_an_awkward_job(workflow):
    command = [ACTIONLINT, "-shellcheck=", "-pyflakes=", "-no-color", workflow]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    workflow.write_text(re.sub(r"cron: \S+ \S+ ", "cron: 0 28 ", workflow.read_text(), count=1))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "invalid CRON format" in done.stdout, "it does read the times"


@pytest.mark.skipif(not AIRFLOW.exists(), reason="make airflow")
def test_airflow_loads_the_dags_starts_them_on_time_and_fails_with_the_command(tmp_path):
    root = tmp_path / "it's 100% {{ odd }} é"
    program = root / "bin" / "work bench"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPT)
    program.chmod(0o755)
    dags = tmp_path / "dags"
    dags.mkdir()
    jobs = [
        entry(root),
        entry(root, "30 6 1-7 * mon", "Europe/Berlin", name="weekly", command=("/bin/true",)),
        entry(root, "30 2 * * *", "Europe/Berlin", name="nightly", command=("/bin/true",)),
    ]
    for job in jobs:
        for name, text in to_airflow(job, now=NOW).items():
            (dags / name).write_text(text)
    since = dt.datetime(2027, 3, 26, 12, tzinfo=dt.UTC)
    told = loaded(tmp_path, dags, since)
    assert told["errors"] == {}
    found = told["dags"]
    odd = found["workbench_Answers_to-all"]
    assert (odd["tasks"], odd["timeout"]) == (["run"], 1020)
    assert (odd["catchup"], odd["max_active_runs"], odd["description"]) == (False, 1, jobs[0].title)
    assert (odd["ran"], found["workbench_weekly"]["ran"]) == ("CalledProcessError", "")
    assert (program.parent / "called").read_text() == f"{root}\njobs\nrun\n{HOSTILE}\n"
    # In the hour that the clock skips it starts half an hour later: `jobs run` takes the slot of 01:00 then.
    found["workbench_nightly"]["starts"][1] = found["workbench_nightly"]["starts"][1].replace(
        "01:30", "01:00"
    )
    for job in jobs:
        starts = [dt.datetime.fromisoformat(at) for at in found[f"workbench_{job.name}"]["starts"]]
        assert starts == job.schedule.after(since, 5)


def loaded(home, dags, since):
    """What Airflow read from the folder, with a home of its own and no database."""
    environment = {
        "PATH": os.environ["PATH"], "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    program = ROOT / "tests" / "support" / "airflow_dags.py"
    done = subprocess.run(
        [AIRFLOW, program, dags, since.isoformat(), "5"],
        capture_output=True, text=True, env=environment, cwd=home, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])
