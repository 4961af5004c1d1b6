"""The evidence of a readiness page, collected from the results of a use case."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import config, files, registry
from workbench.config import UseCase
from workbench.data.report import QualityReport
from workbench.errors import nearest
from workbench.experiments.compare import ComparisonSet, compare_all
from workbench.experiments.gates import GateReport
from workbench.experiments.metrics import SCORE
from workbench.experiments.pairs import Pairs
from workbench.experiments.runs import Run, load_runs
from workbench.layout import Results
from workbench.pipeline.settings import jobs_of
from workbench.pipeline.worth_reading import AskedCases
from workbench.promotion.approach import MeasuredApproach, measured
from workbench.promotion.judgement import judged, prepared_cases, scorers_of
from workbench.prompts import prompt as prompts
from workbench.records.tape import Tape
from workbench.workspace import quality
from workbench.workspace.use_case import stated_dataset

if TYPE_CHECKING:
    import polars as pl

    from workbench.workspace.saved_impact import SavedImpact

#: Differences of scores that rounding explains.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetUse:
    """One version of one asset that the runs depended on."""

    kind: str
    reference: str
    digest: str
    reason: str
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutArm:
    """An arm of the notebook that cannot be compared with the judged run, and why."""

    arm: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnArm:
    """The notebook's own arm of the candidate's name, compared with the judged run case by case.

    `same` counts the cases with equal outputs. `different` names the cases with another output, and
    `one_sided` those with an output on one side only. `rescored` counts, for each score, the cases with
    equal outputs and unequal scores.
    """

    arm: str
    n_cases: int
    same: int
    different: tuple[str, ...] = ()
    one_sided: tuple[str, ...] = ()
    rescored: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, own: Run) -> OwnArm:
        """Compare the judged run with the notebook's own over the same cases; all repeats must agree."""
        import polars as pl

        rows = own.cases.join(run.cases, on="case", suffix=".judged")
        ours, theirs = pl.col("output.judged"), pl.col("output")
        equal, lone = (ours == theirs).fill_null(value=False), ours.is_null() != theirs.is_null()
        both = ours.is_not_null() & theirs.is_not_null()
        cases = rows.group_by("case").agg(
            same=equal.all(), lone=lone.any(), different=(both & ~equal).any()
        ).sort("case")  # fmt: skip
        one_sided = cases.filter(pl.col("lone") & ~pl.col("different"))
        return cls(
            arm=own.arm,
            n_cases=run.n_cases,
            same=int(cases["same"].sum()),
            different=tuple(cases.filter("different")["case"]),
            one_sided=tuple(one_sided["case"]),
            rescored=_rescored(rows.filter(equal), [n for n in run.score_names if n in own.score_names]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The notebook's own arms beside the judged run.

    `arms` are those that are comparable with it. `comparison` is the judged run against the baseline, and
    `beside` each arm against the judged run, by its first score. `no_baseline` says why the judged run is
    not compared with the baseline that params.yaml names.
    """

    arms: tuple[Run, ...]
    comparison: ComparisonSet | None
    beside: ComparisonSet | None
    no_baseline: str
    left_out: tuple[LeftOutArm, ...]
    own: OwnArm | None

    @classmethod
    def of(cls, name: str, case: UseCase, run: Run, explored: Sequence[Run]) -> Exploration:
        """Sort the runs that the notebook of use case `name` kept, and compare them with the judged run."""
        arms = comparable(run, explored)
        reasons = ((other.arm, _unlike(run, other)) for other in explored)
        left_out = tuple(LeftOutArm(arm=arm, reason=reason) for arm, reason in reasons if reason)
        own = next((other for other in explored if other.arm == run.arm and _same_cases(run, other)), None)
        baseline = _baseline(case, arms)
        paired = baseline is not None and _paired(run, baseline)
        return cls(
            arms=tuple(arms),
            comparison=compare_all([run], baseline=baseline) if paired and baseline else None,
            beside=_beside(run, arms),
            no_baseline="" if paired else _unpaired(name, case, run, baseline, [*arms, *left_out]),
            left_out=left_out,
            own=OwnArm.of(run, own) if own else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The facts of a readiness page.

    `other` is the judged run under the gate of the other phase, which decides nothing. `memory` is the
    snapshot's manifest; `tape` counts the recordings, names their files and lists the processors that made
    them. `approach` and `impact` are None when params.yaml records none. `asked` are the judged cases,
    and `jobs` the jobs that run the task.
    """

    name: str
    use_case: UseCase
    dataset: str
    scorers: Mapping[str, Mapping[str, Any]]
    judged: Run
    explored: Exploration
    gate: GateReport
    other: GateReport | None
    memory: Mapping[str, Any]
    versions: tuple[AssetUse, ...]
    tape: Mapping[str, Any]
    quality: QualityReport | None = None
    approach: MeasuredApproach | None = None
    impact: SavedImpact | None = None
    asked: AskedCases | None = None
    jobs: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The judged run, then the explored arms."""
        return (self.judged, *self.explored.arms)


def collect(root: Path, case: UseCase, run: Run, results: Results) -> Evidence:
    """Collect the evidence of the judged `run` and of the notebook's own arms in `results`."""
    from workbench.memory.snapshot import read_manifest

    name = results.use_case
    explored = Exploration.of(name, case, run, load_runs(root / results.runs))
    cases = prepared_cases(root, case, results)
    later = next((phase for phase in case.gates if phase != case.phase), None)
    return Evidence(
        name=name,
        use_case=case,
        dataset=stated_dataset(root, case),
        scorers=scorers_of(root, name, case).identity(),
        judged=run,
        explored=explored,
        gate=judged(root, name, case, run, results=results),
        other=judged(root, name, case, run, phase=later, results=results) if later else None,
        memory=dataclasses.asdict(read_manifest(root / results.memory)),
        versions=_versions(root, case, (run, *explored.arms)),
        tape=_tape_facts(root, (results.judge_tape, results.tape)),
        quality=quality.written(root / results.prepared),
        approach=measured(case, run, explored.arms, cases),
        impact=_impact(root, name, case),
        asked=AskedCases.of(root, case, cases),
        jobs=jobs_of(config.load_params(root), name),
    )


def _impact(root: Path, name: str, case: UseCase) -> SavedImpact | None:
    """Return the saved impact of a use case; None unless it states where the impact is saved."""
    if not case.impact:
        return None
    from workbench.workspace.saved_impact import load_impact

    return load_impact(root, name, case.impact)


def comparable(run: Run, explored: Sequence[Run]) -> list[Run]:
    """Return the arms that the notebook ran on the judged cases and scored by the run's first score.

    The arm of the judged run's name is none of them: it is the same task, and `OwnArm` compares it.
    """
    return [other for other in explored if other.arm != run.arm and not _unlike(run, other)]


def _unlike(run: Run, other: Run) -> str:
    """Return why an explored arm cannot be compared with the judged run; "" when it can."""
    if not _same_cases(run, other):
        shared = int(run.case_ids.is_in(other.case_ids.implode()).sum())
        return f"it answered other cases: {other.n_cases}, of which {shared} have the id of a judged case"
    if run.score_names[0] not in other.score_names:
        scores = ", ".join(other.score_names) or "none"
        return f"it has no score {run.score_names[0]}, by which arms are compared; its scores: {scores}"
    return ""


def _same_cases(run: Run, other: Run) -> bool:
    return other.dataset_digest == run.dataset_digest and other.case_ids.equals(run.case_ids)


def _baseline(case: UseCase, arms: Sequence[Run]) -> Run | None:
    """Return the arm that the use case names as its baseline, or the first arm if it names none."""
    named = (arm for arm in arms if case.baseline in {None, arm.arm})
    return next(named, None)


def _paired(run: Run, other: Run) -> bool:
    """Return whether any case has the judged run's first score in both runs."""
    return Pairs.of(run, other, run.score_names[0]).n > 0


def _unpaired(
    name: str, case: UseCase, run: Run, baseline: Run | None, explored: Sequence[Run | LeftOutArm]
) -> str:
    """Return why the judged run is not compared with the baseline, and what to do; "" if none is stated."""
    primary, stated = run.score_names[0], case.baseline
    if baseline is not None:
        return f"Nothing to compare: no case has the score {primary} in both {run.arm} and {baseline.arm}."
    if stated is None:
        return ""
    reasons = {arm.arm: arm.reason for arm in explored if isinstance(arm, LeftOutArm)}
    if stated in reasons:
        problem = f"cannot be compared: {reasons[stated]}"
        fix = f"run it over ws.cases() with a scorer named {primary}"
    else:
        near = nearest(stated, [arm.arm for arm in explored])
        problem = f"is no arm that {case.notebook} explored ({near})"
        fix = f'name the arm in ws.experiment("{name}").compare(…)'
    change = f"or set use_cases.{name}.baseline in params.yaml"
    return f"The baseline {stated!r} {problem}. To compare with it, {fix}, {change}."


def _beside(run: Run, arms: Sequence[Run]) -> ComparisonSet | None:
    """Compare each explored arm with the judged run by its first score, where cases have it on both sides."""
    scored = [arm for arm in arms if _paired(run, arm)]
    return compare_all(scored, baseline=run, metric=run.score_names[0]) if scored else None


def _rescored(rows: pl.DataFrame, names: Sequence[str]) -> dict[str, int]:
    """Return the number of cases whose score differs from the judged one, by name of the score."""
    import polars as pl

    found: dict[str, int] = {}
    for name in names:
        ours, theirs = pl.col(f"{SCORE}{name}.judged"), pl.col(SCORE + name)
        unequal = (ours.is_null() != theirs.is_null()) | ((ours - theirs).abs() > _ROUNDING)
        if count := rows.filter(unequal)["case"].n_unique():
            found[name] = count
    return found


def _versions(root: Path, case: UseCase, runs: Sequence[Run]) -> tuple[AssetUse, ...]:
    """Return every prompt that an arm used, the memory if any, the model and its fall-backs, with digests."""
    used = {str(case.prompt): ""} if case.prompt else {}
    prompted = [run.settings for run in runs if "prompt" in run.settings]
    used |= {settings["prompt"]: settings["prompt_digest"] for settings in prompted}
    found = {}
    for reference, digest in sorted(used.items()):
        if prompts.is_draft(reference):
            found[reference] = AssetUse(
                kind="prompt", reference=reference, digest=digest, reason="a draft, not saved", author=""
            )
        else:
            found[reference] = _use(root, "prompt", reference)
    if case.memory:
        found[str(case.memory)] = _use(root, "memory", str(case.memory))
    settings = runs[0].settings
    model = AssetUse(
        kind="model", reference=settings["model"], digest=settings["model_digest"], reason="", author=""
    )
    named = [item for item in settings.get("model_fallback", ()) if isinstance(item, str)]
    fallbacks = [dataclasses.replace(_use(root, "model", item), kind="fall-back") for item in named]
    return (*found.values(), model, *fallbacks)


def _use(root: Path, kind: str, reference: str) -> AssetUse:
    version = registry.resolve(root, kind, reference)
    entry = registry.load(root, kind, version.name).versions[version.number]
    return AssetUse(
        kind=kind, reference=str(version), digest=version.digest, reason=entry.reason, author=entry.author
    )


def _tape_facts(root: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the number of recorded answers, the tapes, and the types of processor that made the answers."""
    entries, tapes = [], []
    for path in paths:
        if not (root / path).exists() and not (root / path).is_symlink():
            continue
        read = list(Tape.read(root / path).entries())
        entries += read
        if read:
            digest = hashlib.sha256(files.read_bytes(root / path)).hexdigest()
            tapes.append({"path": path.as_posix(), "entries": len(read), "digest": digest})
    processors = {files.canonical(entry.processor): dict(entry.processor) for entry in entries}
    found = [processors[key] for key in sorted(processors)]
    return {"entries": len(entries), "tapes": tapes, "processors": found}
