"""Check how jobs are operated, and the keys that statements about them are trusted by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from workbench import config, registry
from workbench.attestations.trust import KEYS, Trust
from workbench.config.operations import OPERATIONS, load_operations
from workbench.context import Clock
from workbench.diagnostics.checked_files import CheckedFile, tried
from workbench.errors import WorkbenchError, nearest
from workbench.promotion.run_rights import UnapprovedError, authorise_run


def operations(root: Path, params: config.Params) -> Iterator[CheckedFile]:
    """Yield the check of how jobs are operated, with a warning for a name that is no job's."""
    if not (root / OPERATIONS).exists():
        return
    checked = tried(str(OPERATIONS), partial(load_operations, root))
    yield checked
    known = {*params.jobs, *registry.names(root, "job")}
    for name in () if checked.problem else sorted(load_operations(root).jobs.keys() - known):
        problem = f"there is no job {name!r} ({nearest(name, known)})\n  -> rename it under jobs"
        yield CheckedFile(what=f"{OPERATIONS}: jobs.{name}", problem=problem, warning=True)


def unapproved(root: Path, *, clock: Clock | None = None) -> Iterator[CheckedFile]:
    """Yield a warning for each job in production whose runs are refused until its version is approved."""
    for job in registry.names(root, "job"):
        try:
            authorise_run(root, job, None, clock=clock, dry=True)
        except UnapprovedError as error:
            yield CheckedFile(what=f"job {job} in production", problem=str(error), warning=True)
        except WorkbenchError:
            continue  # a run of it reports another problem


def trusted_keys(root: Path) -> Iterator[CheckedFile]:
    """Yield the check of the trusted keys, where a repository has some."""
    if (root / KEYS).exists():
        yield tried(str(KEYS), partial(Trust.load, root))
