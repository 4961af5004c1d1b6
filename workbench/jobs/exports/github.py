"""Export a job's schedule as a workflow of GitHub Actions, whose times are in UTC."""

from __future__ import annotations

import datetime as dt
import shlex
from typing import Any

from workbench import files
from workbench.errors import RefusedError
from workbench.jobs.exports.dialect import in_utc
from workbench.jobs.exports.entry import MARGIN, JobEntry

#: The least minutes between two starts of a workflow.
_LEAST = 5
_MOST_MINUTES = 360
_INSTALL_MINUTES = 15


def to_github(entry: JobEntry, *, now: dt.datetime) -> dict[str, str]:
    """Return the text of a workflow by file name.

    RefusedError for times in a zone whose clock changes, for more than one start in five minutes, and for
    a run that is longer than GitHub's six hours.
    """
    entry.check()
    lines = in_utc(entry, scheduler="GitHub", now=now)
    starts = sorted(60 * h + m for fields in lines for h in fields.hours for m in fields.minutes)
    gaps = [b - a for a, b in zip(starts, [*starts[1:], starts[0] + 24 * 60], strict=True)]
    if min(gaps) < _LEAST:
        raise _refused(
            entry, f"`{entry.schedule.cron}` starts more often than every {_LEAST} minutes, GitHub's least"
        )
    minutes = -(-(entry.seconds + MARGIN) // 60) + _INSTALL_MINUTES
    if minutes > _MOST_MINUTES:
        raise _refused(entry, f"a run of {entry.seconds} s is longer than the six hours of a GitHub runner")
    name = f"workbench-{entry.name}.yml"
    comments = [
        *entry.heading(now),
        "# GitHub reads times in UTC, starts late when it is busy, and stops after 60 days without a commit.",
        "# Each run has a new checkout: that a slot is published once is not known to the next one.",
        f"# To install: put it into .github/workflows/{name} and push.",
        *[f"# It reads the secret {variable}: gh secret set {variable}" for variable in entry.variables],
    ]
    workflow = _workflow(entry, [fields.line() for fields in lines], minutes)
    return {name: "\n".join(comments) + "\n" + files.yaml_text(workflow)}


def _refused(entry: JobEntry, why: str) -> RefusedError:
    return RefusedError(
        f"job {entry.name}: {why}", hint=f"workbench jobs export {entry.name} --to kubernetes"
    )


def _workflow(entry: JobEntry, lines: list[str], minutes: int) -> dict[str, Any]:
    # A version that was promoted with another lock runs in an environment of its own.
    install = _line([".venv/bin/workbench", "jobs", "install", entry.command[-1]])
    run = _line([".venv/bin/workbench", *entry.command[1:]])
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in entry.variables}
    return {
        "name": f"workbench job {entry.name}",
        "on": {"schedule": [{"cron": line} for line in lines], "workflow_dispatch": {}},
        "permissions": {"contents": "read"},
        "concurrency": {"group": f"workbench-{entry.name}", "cancel-in-progress": False},
        "jobs": {
            "run": {
                "runs-on": "ubuntu-24.04",
                "timeout-minutes": minutes,
                "steps": [
                    {
                        "uses": "actions/checkout@v4",
                        "with": {"fetch-depth": 0, "persist-credentials": False},
                    },
                    {"name": "install the lock", "run": "make env"},
                    {"name": "install the environment of the version", "run": install},
                    {
                        "name": f"run {entry.name}",
                        "run": run,
                        **({"env": secrets} if secrets else {}),
                    },
                    {
                        "uses": "actions/upload-artifact@v4",
                        "with": {"name": f"published-{entry.name}", "path": "published/"},
                    },
                ],
            }
        },
    }


def _line(words: list[str]) -> str:
    """Return words as a line of a shell, without an expression of GitHub in it."""
    return shlex.join(words).replace("${{", "$''{{")
