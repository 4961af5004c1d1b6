"""Export a job's schedule as a Kubernetes CronJob, whose pod has no rights and a read-only root."""

from __future__ import annotations

import datetime as dt
from typing import Any

from workbench import files
from workbench.jobs.exports.dialect import portable, skipped
from workbench.jobs.exports.entry import MARGIN, JobEntry

#: Where the pod has the clone of the repository, on the volume that `jobs serve` uses too.
REPOSITORY = "/repo"
#: The image's first process passes signals on, which the first process of a container ignores by default.
_PROGRAM = ("/usr/bin/tini", "--", "workbench")
_USER = 10001
#: Kubernetes looks every ten seconds for what is due, and misses each time of a shorter deadline.
_LEAST_DEADLINE = 60
#: Exit codes of a run that the same input ends again: held or refused by a gate, and a wrong file or name.
_FINAL = [1, 2]


def to_kubernetes(entry: JobEntry, *, now: dt.datetime) -> dict[str, str]:
    """Return the text of a CronJob by file name; RefusedError for a schedule that it cannot express."""
    entry.check()
    line = portable(entry, scheduler="Kubernetes").line()
    comments = [
        *entry.heading(now),
        *entry.left_out("Kubernetes", skipped(entry.schedule, now)),
        "# docs/deploy.md makes the image and the volume `workbench`. To install:",
        f"#   kubectl apply -f {entry.name}.cronjob.yaml",
        *_secrets(entry),
    ]
    text = "\n".join(comments) + "\n" + files.yaml_text(_cron_job(entry, line))
    return {f"{entry.name}.cronjob.yaml": text}


def _secrets(entry: JobEntry) -> list[str]:
    """Return comments on the secret that holds the variables of a run."""
    if not entry.variables:
        return []
    given = " ".join(f'--from-literal={name}="${name}"' for name in entry.variables)
    return [f"#   kubectl create secret generic {entry.dns_name} {given}"]


def _cron_job(entry: JobEntry, line: str) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": "workbench-job",
        "app.kubernetes.io/instance": entry.dns_name,
        "app.kubernetes.io/part-of": "workbench",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": entry.dns_name,
            "labels": labels,
            "annotations": {"workbench/job": entry.name, "workbench/title": entry.title},
        },
        "spec": {
            "schedule": line,
            "timeZone": entry.schedule.timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": max(_LEAST_DEADLINE, entry.start_deadline_s),
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 5,
            "jobTemplate": {"spec": _job(entry, labels)},
        },
    }


def _job(entry: JobEntry, labels: dict[str, str]) -> dict[str, Any]:
    codes = {"containerName": "run", "operator": "In", "values": _FINAL}
    return {
        "backoffLimit": 1,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]},
        "template": {
            "metadata": {"labels": {**labels, "workbench/memory": "client"}},
            "spec": {
                "activeDeadlineSeconds": entry.seconds + MARGIN,
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 60,
                "securityContext": {
                    "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER,
                    "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [_container(entry)],
                "volumes": [
                    {"name": "repository", "persistentVolumeClaim": {"claimName": "workbench"}},
                    {"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}},
                ],
            },
        },
    }  # fmt: skip


def _container(entry: JobEntry) -> dict[str, Any]:
    environment = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": entry.dns_name, "key": name}}}
        for name in entry.variables
    ]
    return {
        "name": "run",
        "image": entry.image,
        "command": [*_PROGRAM, *(_literal(word) for word in entry.command[1:])],
        "workingDir": REPOSITORY,
        "env": [{"name": "WORKBENCH_IMAGE", "value": entry.image}, *environment],
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "4Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "repository", "mountPath": REPOSITORY},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  the pod's own volume
        ],
    }


def _literal(word: str) -> str:
    """Return a word that Kubernetes leaves as it is: it replaces `$(NAME)`, and reads `$$` as one `$`."""
    return word.replace("$(", "$$(")
