"""Find, install and remove the environments of labelled job versions."""

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
    """Return the page of each version that a label points to, in the order of job and version."""
    return [
        jobspec.read(registry.resolve(root, "job", f"{name}@{number}").path)
        for name in registry.names(root, "job")
        for number in sorted(set(registry.load(root, "job", name).labels.values()))
    ]


def without_environment(root: Path) -> list[JobSpec]:
    """Return the labelled versions whose environment is not installed; their runs fail at once."""
    return [spec for spec in labelled(root) if not has_environment(root, spec)]


def has_environment(root: Path, spec: JobSpec) -> bool:
    """Whether the environment of a version's lock is installed."""
    return environments.is_installed(root, spec.digests["lock"])


def install(root: Path, spec: JobSpec, *, say: Callable[[str], Any]) -> Path:
    """Install a version's environment when it is missing; return its interpreter."""
    lock = Repository(root=root).read(jobspec.code_of(root, spec), LOCK) or b""
    return environments.install(root, lock, say=say)


def prune(root: Path, *, dry_run: bool) -> list[Environment]:
    """Remove the environments that neither a labelled version nor the current lock needs; return them.

    An environment with a running process or a running build stays. `dry_run` removes none.
    """
    needed = {spec.digests["lock"] for spec in labelled(root)}
    if (root / LOCK).is_file():
        needed.add(files.digest((root / LOCK).read_bytes()))
    found = environments.unused(root, needed)
    return found if dry_run else [environment for environment in found if environments.remove(environment)]
