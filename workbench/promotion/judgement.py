"""Judge a run by a gate of params.yaml, with the run of the version in production as its baseline."""

from __future__ import annotations

from pathlib import Path

from workbench import registry
from workbench.config import UseCase
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.gates import GateReport, judge
from workbench.experiments.runs import Run, load_runs
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec


def judged(root: Path, name: str, case: UseCase, run: Run, *, phase: str | None = None) -> GateReport:
    """Judge a run by its use case's gate for `phase`, which defaults to the use case's own phase."""
    phase = phase or case.phase
    spec = GateSpec.of_phase(case.gates, phase, where=f"{root / 'params.yaml'}: use_cases.{name}.gates")
    return judge(run, spec, phase=phase, baseline=baseline_of(root, name, run))


def baseline_of(root: Path, use_case: str, run: Run) -> Run | None:
    """Return the judged run of the version in production for a use case, if it answered the same cases."""
    for name in registry.names(root, "job"):
        spec = spec_of(root, name, registry.load(root, "job", name).labels.get("production"))
        if spec is not None and spec.use_case == use_case and spec.dataset_digest == run.dataset_digest:
            return run_of(root, spec)
    return None


def run_of(root: Path, spec: JobSpec) -> Run:
    """Load the judged run of a job's version."""
    return load_runs(registry.path_of(root, "job", spec.job, spec.version).parent / jobspec.JUDGED)[0]


def spec_of(root: Path, name: str, version: int | None) -> JobSpec | None:
    """Load the specification of a job's version; None without a version."""
    return None if version is None else jobspec.load(root, name, version)[0]
