"""Labelled versions of jobs and their environments: which are missing, how one is installed or removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench import files, registry
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec
from workbench.layout import LOCK
from workbench.repository import environments
from workbench.repository.environments import Environment
from workbench.repository.git import Repository


def labelled(root: Path) -> list[JobSpec]:
    """The page of each version that a label points to, by job and version."""
    return [
        jobspec.read(registry.resolve(root, "job", f"{name}@{number}").path)
        for name in registry.names(root, "job")
        for number in sorted(set(registry.load(root, "job", name).labels.values()))
    ]


def without_environment(root: Path) -> list[JobSpec]:
    """The labelled versions whose environment is not installed here: a run of them ends at once."""
    return [spec for spec in labelled(root) if not has_environment(root, spec)]


def has_environment(root: Path, spec: JobSpec) -> bool:
    """Whether the environment of a version's lock is installed here."""
    return environments.is_installed(root, spec.digests["lock"])


def install(root: Path, spec: JobSpec, *, say: Callable[[str], Any]) -> Path:
    """The interpreter of a version's environment, which is installed when it is missing."""
    lock = Repository(root=root).read(jobspec.code_of(root, spec), LOCK) or b""
    return environments.install(root, lock, say=say)


def prune(root: Path, *, dry_run: bool) -> list[Environment]:
    """Remove the environments that neither a labelled version nor today's lock needs; return them.

    One in which a process runs, or that is being built, stays. With `dry_run` nothing is removed.
    """
    needed = {spec.digests["lock"] for spec in labelled(root)}
    if (root / LOCK).is_file():
        needed.add(files.digest((root / LOCK).read_bytes()))
    found = environments.unused(root, needed)
    return found if dry_run else [environment for environment in found if environments.remove(environment)]
