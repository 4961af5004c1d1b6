"""The evidence of a readiness page, collected from the results of a use case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, registry
from workbench.config import UseCase
from workbench.errors import ConfigError, nearest
from workbench.experiments.compare import ComparisonSet, compare_all
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run, load_runs
from workbench.layout import Results
from workbench.promotion.judgement import judged
from workbench.prompts import prompt as prompts
from workbench.workspace import boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetUse:
    """One version of one asset that the runs depended on."""

    kind: str
    reference: str
    digest: str
    reason: str
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The facts of a readiness page.

    `other` is the same run judged by the gate of the other phase, which decides nothing. `memory` is the
    snapshot's manifest; `tape` counts the recordings and lists the processors that made them.
    """

    name: str
    use_case: UseCase
    runs: tuple[Run, ...]
    gate: GateReport
    other: GateReport | None
    comparison: ComparisonSet | None
    memory: Mapping[str, Any]
    versions: tuple[AssetUse, ...]
    tape: Mapping[str, Any]


def collect(root: Path, case: UseCase, run: Run, results: Results) -> Evidence:
    """Collect the evidence of the judged `run` and of the other runs in `results`."""
    from workbench.memory.snapshot import read_manifest

    name = results.use_case
    explored = comparable(run, load_runs(root / results.runs))
    runs = (run, *explored)
    later = next((phase for phase in case.gates if phase != case.phase), None)
    return Evidence(
        name=name,
        use_case=case,
        runs=runs,
        gate=judged(root, name, case, run),
        other=judged(root, name, case, run, phase=later) if later else None,
        comparison=_compared(name, case, run, explored),
        memory=dataclasses.asdict(read_manifest(root / results.memory)),
        versions=_versions(root, case, runs),
        tape=_tape_facts(root / results.judge_tape, root / results.tape),
    )


def comparable(run: Run, explored: Sequence[Run]) -> list[Run]:
    """Return the arms that the notebook ran on the judged cases and scored by the run's first score."""
    return [
        other
        for other in explored
        if other.arm != run.arm
        and other.dataset_digest == run.dataset_digest
        and run.score_names[0] in other.score_names
    ]


def _compared(name: str, case: UseCase, run: Run, others: Sequence[Run]) -> ComparisonSet | None:
    """Compare the candidate with the use case's baseline, or with the first other arm if it names none."""
    named = {other.arm: other for other in others}
    if case.baseline is not None and case.baseline not in named:
        raise ConfigError(
            f"{case.notebook} kept no run of baseline {case.baseline!r} ({nearest(case.baseline, named)})",
            hint=f'name the arm in ws.experiment("{name}").compare(…), or set use_cases.{name}.baseline',
        )
    baseline = named[case.baseline] if case.baseline else next(iter(others), None)
    return compare_all([run], baseline=baseline) if baseline else None


def _versions(root: Path, case: UseCase, runs: Sequence[Run]) -> tuple[AssetUse, ...]:
    """Return every prompt that an arm used, the memory and the model, each with its digest."""
    used = {str(case.prompt): ""} | {run.settings["prompt"]: run.settings["prompt_digest"] for run in runs}
    found = {}
    for reference, digest in sorted(used.items()):
        if prompts.is_draft(reference):
            found[reference] = AssetUse(
                kind="prompt", reference=reference, digest=digest, reason="a draft, not saved", author=""
            )
        else:
            found[reference] = _use(root, "prompt", reference)
    found[str(case.memory)] = _use(root, "memory", str(case.memory))
    settings = runs[0].settings
    model = AssetUse(
        kind="model", reference=settings["model"], digest=settings["model_digest"], reason="", author=""
    )
    return (*found.values(), model)


def _use(root: Path, kind: str, reference: str) -> AssetUse:
    version = registry.resolve(root, kind, reference)
    entry = registry.load(root, kind, version.name).versions[version.number]
    return AssetUse(
        kind=kind, reference=str(version), digest=version.digest, reason=entry.reason, author=entry.author
    )


def _tape_facts(*paths: Path) -> dict[str, Any]:
    """Return the number of recorded answers, and the types of processor that made them."""
    entries = [entry for path in paths for entry in boundary.open_tape(path).entries()]
    processors = {files.canonical(entry.processor): dict(entry.processor) for entry in entries}
    return {"entries": len(entries), "processors": [processors[key] for key in sorted(processors)]}
