"""Compare the environment of a run with the one that its version was promoted in.

A version holds the fingerprint of its promotion as evidence. A difference that can change an output is told
before the run, and refuses it in the phase mlvp or where `parity: refuse` is stated.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench import files
from workbench.config.operations import OPERATIONS, load_operations
from workbench.errors import RefusedError, WorkbenchError
from workbench.jobs.slots import RunRequest
from workbench.jobs.spec import JobSpec
from workbench.layout import LOCK
from workbench.repository import environments
from workbench.repository.fingerprint import Difference, Fingerprint, fingerprint

#: The fingerprint of the promotion, in the folder of a version.
ENVIRONMENT = "evidence/environment.json"
_MOST_BYTES = 65_536
_STRICT_PHASE = "mlvp"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentParity:
    """The environment of a run, and its differences from the judged one; `unknown` without evidence."""

    here: Fingerprint
    state: Literal["equal", "differs", "unknown"]
    differences: tuple[Difference, ...] = ()

    @property
    def mattering(self) -> tuple[Difference, ...]:
        """The differences that can change an output."""
        return tuple(difference for difference in self.differences if difference.matters)

    def facts(self) -> dict[str, Any]:
        """Return what the ledger keeps with the run."""
        return {
            "parity": self.state,
            "environment": self.here.to_json(),
            **({"differences": [str(item) for item in self.differences]} if self.differences else {}),
        }

    def note(self, reference: str) -> str:
        """Return the line that is told before a run, "" when nothing that matters differs."""
        if not self.mattering:
            return ""
        return f"{reference}: this environment is not the judged one: {'; '.join(map(str, self.mattering))}"


def environment_here(root: Path, *, confinement: str) -> dict[str, bytes]:
    """Return the fingerprint of the current lock's environment, by its path in the folder of a version.

    It is empty when that environment is not installed.
    """
    try:
        lock = files.read_bytes(root / LOCK)
        python = environments.python_of(root, lock, install_hint="make env")
    except (OSError, WorkbenchError):
        return {}
    return {ENVIRONMENT: files.pretty(fingerprint(python, confinement=confinement).to_json())}


def parity_of(folder: Path, python: Path, *, confinement: str) -> EnvironmentParity:
    """Return how the environment of an interpreter compares with the evidence in a version's folder."""
    here = fingerprint(python, confinement=confinement)
    path = folder / ENVIRONMENT
    if not path.is_file():
        return EnvironmentParity(here=here, state="unknown")
    raw = files.parse_json(files.read_text(path, limit=_MOST_BYTES), where=str(path))
    differences = files.parse(Fingerprint, raw, where=str(path)).differences(here)
    state: Literal["equal", "differs"] = "differs" if any(item.matters for item in differences) else "equal"
    return EnvironmentParity(here=here, state=state, differences=differences)


def checked_parity(
    root: Path, spec: JobSpec, folder: Path, python: Path, task: RunRequest
) -> EnvironmentParity:
    """Return how the environment of a run compares with the judged one; tell a difference that matters.

    RefusedError when the version may not run in an environment that differs.
    """
    found = parity_of(folder, python, confinement=task.confinement)
    check_parity(root, spec, found)
    if task.show and (note := found.note(spec.reference)):
        sys.stderr.write(f"{note}\n")
    return found


def check_parity(root: Path, spec: JobSpec, found: EnvironmentParity) -> None:
    """Raise RefusedError when a version may not run in an environment that differs from the judged one."""
    stated = load_operations(root).of(spec.job).parity
    strict = stated == "refuse" or (stated is None and spec.phase == _STRICT_PHASE)
    if not strict or found.state == "equal" or (found.state == "unknown" and stated is None):
        return
    why = (
        found.note(spec.reference) or f"{spec.reference} has no evidence of the environment it was judged in"
    )
    rule = f"{OPERATIONS} states parity: refuse" if stated else f"it is in phase {spec.phase}"
    raise RefusedError(
        f"{why} ({rule})",
        hint=f"workbench promote job/{spec.job}   # judges it here; or: jobs.{spec.job}.parity: tell",
    )
