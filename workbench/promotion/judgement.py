"""Judge a run by a gate of params.yaml, with the run of the version in production as its baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from workbench import registry
from workbench.config import UseCase
from workbench.data import report as quality
from workbench.data.contamination import FILE, Contamination
from workbench.experiments.dataset import Dataset
from workbench.experiments.gate_lines import contaminated_line
from workbench.experiments.gate_spec import CONTAMINATED, GateSpec, stated_digest
from workbench.experiments.gates import GateReport, judge
from workbench.experiments.loosening import Verdicted, loosened
from workbench.experiments.runs import Run, load_runs
from workbench.experiments.scorer_spec import ScorerSet, fitting
from workbench.experiments.slices import Slicing
from workbench.experiments.synthetic import Synthetic
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec
from workbench.layout import Results
from workbench.promotion import verdicts
from workbench.wire.redaction import Found


def judged(
    root: Path,
    name: str,
    case: UseCase,
    run: Run,
    *,
    phase: str | None = None,
    explored: bool = False,
    results: Results | None = None,
) -> GateReport:
    """Judge a run by its use case's gate for `phase`, which defaults to the use case's own phase.

    `explored` marks a run that the stage `judge` did not make; such a run cannot pass. The slices of its
    cases are those of the cases that the stage `prepare` wrote into `results`.
    """
    phase = phase or case.phase
    cases = _cases_of(root, case, results or Results(use_case=name))
    spec, identity = gate_of(root, name, case, phase), scorers_of(root, name, case).identity()
    slicing = slicing_of(root, name, case, cases)
    report = judge(
        run,
        spec,
        phase=phase,
        baseline=baseline_of(root, name, run),
        stated=stated_digest(
            spec,
            dataset=run.dataset_digest,
            scorers=identity,
            slices=slicing.digest_beyond(spec) if slicing else None,
        ),
        explored=explored,
        slicing=slicing,
    )
    report = dataclasses.replace(report, synthetic=Synthetic.of(cases, run.case_ids) if cases else None)
    prepared = root / (results or Results(use_case=name)).prepared
    report = _with_contamination(report, spec, run, prepared)
    checked = quality.QualityReport.of_file(prepared / quality.FILE) if case.quality else None
    selected = checked.effect(case.columns["expected"]) if checked else ""
    report = dataclasses.replace(report, selected=selected)
    if explored:
        return report
    found = loosened(Verdicted.of(report, spec, run, identity), verdicts.read(root, name))
    return dataclasses.replace(report, loosened=found.text if found else "")


def _with_contamination(report: GateReport, spec: GateSpec, run: Run, prepared: Path) -> GateReport:
    """Return the report with the run's cases that stand in examples, as the stage `prepare` found them."""
    found = Contamination.of_file(prepared / FILE)
    if found is None:
        return report
    found, rules = found.of_cases(run.case_ids), {rule.metric: rule for rule in spec.rules}
    lines = tuple(
        contaminated_line(rules[CONTAMINATED], len(found.cases), n=found.n_cases)
        if line.metric == CONTAMINATED
        else line
        for line in report.lines
    )
    return dataclasses.replace(report, lines=lines, contaminated=found.text)


def note(root: Path, name: str, case: UseCase, run: Run, report: GateReport) -> GateReport:
    """Keep the verdict of a report among those of its use case; return it with what was loosened before."""
    if not report.stated_before:
        return report
    found = verdicts.note(root, name, verdicted(root, name, case, run, report))
    return dataclasses.replace(report, loosened=found.text if found else "")


def verdicted(root: Path, name: str, case: UseCase, run: Run, report: GateReport) -> Verdicted:
    """Return the verdict of a report, as the file of verdicts keeps it."""
    spec, identity = gate_of(root, name, case, report.phase), scorers_of(root, name, case).identity()
    return Verdicted.of(report, spec, run, identity)


def gate_of(root: Path, name: str, case: UseCase, phase: str | None = None) -> GateSpec:
    """Return the gate of a phase, by default the use case's; raise ConfigError if it is invalid."""
    where = f"{root / 'params.yaml'}: use_cases.{name}.gates"
    return GateSpec.of_phase(case.gates, phase or case.phase, where=where, slices=case.slices)


def slicing_of(root: Path, name: str, case: UseCase, cases: Dataset | None) -> Slicing | None:
    """Return the declared slices of these cases; None without a declaration or without cases."""
    if cases is None or not case.slices:
        return None
    return Slicing.of(cases, case.slices, where=f"{root / 'params.yaml'}: use_cases.{name}.slices")


def prepared_slicing(root: Path, name: str, case: UseCase) -> Slicing | None:
    """Return the declared slices of the prepared cases; None without either."""
    return slicing_of(root, name, case, _cases_of(root, case, Results(use_case=name)))


def _cases_of(root: Path, case: UseCase, results: Results) -> Dataset | None:
    """Return the prepared cases; None before the stage `prepare` has written them."""
    if not (root / results.prepared / "cases.parquet").is_file():
        return None
    return prepared_cases(root, case, results)


def prepared_cases(root: Path, case: UseCase, results: Results) -> Dataset:
    """Return the cases that the stage `prepare` wrote."""
    return Dataset.from_file(root / results.prepared / "cases.parquet", **case.columns)


def scorers_of(root: Path, name: str, case: UseCase) -> ScorerSet:
    """Return the scorers that judge a use case; raise ConfigError if one is invalid."""
    default = fitting(expected=case.columns["expected"], memory=case.memory is not None)
    where = f"{root / 'params.yaml'}: use_cases.{name}.scorers"
    return ScorerSet.parse(
        case.scorers, root=root, where=where, default=default, find=lambda text: _detected(root, text)
    )


def _detected(root: Path, text: str) -> Sequence[Found]:
    from workbench.privacy.repository import detector_of  # its patterns take long to compile

    return detector_of(root).find(text)


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
