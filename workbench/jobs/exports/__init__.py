"""Export a job's schedule as plain files that run `workbench jobs run NAME`, one dialect in each file."""

from workbench.jobs.exports.airflow import to_airflow
from workbench.jobs.exports.cron import system_timezone, to_cron
from workbench.jobs.exports.entry import JobEntry
from workbench.jobs.exports.github import to_github
from workbench.jobs.exports.kubernetes import to_kubernetes
from workbench.jobs.exports.systemd import to_systemd

__all__ = [
    "JobEntry",
    "system_timezone",
    "to_airflow",
    "to_cron",
    "to_github",
    "to_kubernetes",
    "to_systemd",
]
