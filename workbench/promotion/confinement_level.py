"""Say how far the kernel of a job is confined on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from workbench import config
from workbench.config.confinement import ExecutionSettings
from workbench.confinement.supported import support


def confinement_level(settings: ExecutionSettings) -> Literal["full", "partial", "none"]:
    """Return the level to which these settings confine a kernel here; none when they switch it off."""
    return "none" if settings.mode == "off" else support().level


def level_of_job(root: Path, name: str) -> Literal["full", "partial", "none"]:
    """Return the level for a job by `params.yaml`; a job that it does not declare has the default."""
    params = config.load_params(root)
    job = params.jobs.get(name)
    if job is None:
        return confinement_level(ExecutionSettings())
    case = params.use_cases.get(job.use_case)
    return confinement_level(job.execution.over(case.execution) if case is not None else job.execution)
