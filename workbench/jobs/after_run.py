"""Judge a run's output before it is published: the checks of its job, and the models that answered.

Nothing passes in silence: a measure that cannot be taken is undecided, and the run's line in the history
says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench import files, identity
from workbench.audit import Act
from workbench.audit.acts import log_act
from workbench.config.operations import JobOperation, load_operations
from workbench.config.output_checks import MEASURES, OutputCheck
from workbench.display import number
from workbench.errors import RefusedError, WorkbenchError
from workbench.jobs.answered_models import AnsweredModel, ModelComparison, compare_models, models_of
from workbench.jobs.ledger import JobLedger, Outcome, Pause
from workbench.jobs.output_measures import Earlier, MeasuredOutput, Measures, RunOutput
from workbench.jobs.spec import TAPE
from workbench.layout import judge_tape_of

State = Literal["pass", "breach", "undecided"]
Verdict = Literal["publish", "hold", "roll_back"]
_ORDER: tuple[Verdict, ...] = ("publish", "hold", "roll_back")
_VERDICTS: Mapping[str, Verdict] = {"tell": "publish", "hold": "hold", "roll_back": "roll_back"}
_MOST_MODELS, _MOST_TEXT = 8, 500
#: Runs of the history in which published ones are looked for, and how many of these are compared with.
_LOOKED_AT, _COMPARED = 40, 10
#: The checks that judge a canary's own rows: rates, by exact intervals of this level, and totals by `max`.
_RATES = frozenset({name for name in MEASURES if name.endswith("_rate")})
_TOTALS = frozenset({"rows", "answered", "pii_leaks", "cost_usd"})
_SURE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCheckResult:
    """The result of one check: the value of its measure, whether the bounds hold, and what follows."""

    name: str
    state: State
    value: float | None
    bound: str
    then: str
    note: str = ""

    @property
    def sentence(self) -> str:
        """The result as the history says it, such as `pii_leaks 2, at most 0`."""
        value = "undecided" if self.state == "undecided" else number(self.value)
        note = f" ({self.note})" if self.note else ""
        return f"{self.name} {value}, {self.bound}{note}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterRun:
    """What follows from an output: publish, hold or roll back, with each check and the models.

    `facts` are for the run's line in the ledger. `model_changed` says which models were not judged, or "";
    `pauses` is whether the version is paused for it. `model_unknown` says that no answer names its model.
    """

    outcome: Verdict
    checks: tuple[OutputCheckResult, ...] = ()
    model_changed: str = ""
    model_unknown: str = ""
    pauses: bool = False
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def breach(self) -> str:
        """What was breached, and the model that was not judged, in one line; "" for nothing."""
        breached = [check.sentence for check in self.checks if check.state == "breach"]
        return "; ".join(filter(None, [self.model_changed, *breached]))

    @property
    def detail(self) -> str:
        """One line for the history: what was breached and what was undecided; "" when all is well."""
        undecided = [check.sentence for check in self.checks if check.state == "undecided"]
        return "; ".join(filter(None, [self.breach, *undecided, self.model_unknown]))


def judge_run(root: Path, book: JobLedger, output: RunOutput) -> AfterRun:
    """Judge a run's output by the operations of its job, with the facts of earlier runs in the ledger.

    The audit log has a row of what the checks found, and of a model that was not judged.
    """
    slot = output.slot

    def earlier() -> list[Mapping[str, Any]]:
        runs = book.history(slot.job, tenant=slot.tenant, role="production", limit=_LOOKED_AT)
        return [run.facts for run in runs if run.outcome == "published"][:_COMPARED]

    judged = judge_output(output, load_operations(root).of(slot.job), earlier)
    if judged.checks or judged.model_changed:
        log_act(root, _act(output, judged))
    return judged


def judge_part(root: Path, output: RunOutput) -> AfterRun:
    """Judge the rows of a canary alone, by the checks that some of the rows can breach and by its models.

    The whole output is judged by all checks, so that here nothing is undecided. A check of a part follows
    only from a breach that chance does not explain.
    """
    operation = load_operations(root).of(output.slot.job)
    stated = {name: check for name, check in operation.checks.items() if name in _RATES}
    for name in _TOTALS & operation.checks.keys():
        if operation.checks[name].max is not None:
            stated[name] = dataclasses.replace(operation.checks[name], min=None)
    stated = {name: dataclasses.replace(check, undecided="tell") for name, check in sorted(stated.items())}
    operation = dataclasses.replace(operation, checks=stated)
    judged = judge_output(output, operation, level=_SURE)
    if judged.outcome != "publish":
        log_act(root, _act(output, judged))
    return judged


def _act(output: RunOutput, judged: AfterRun) -> Act:
    """Return the audit log's row of a judgement: names and states, no content."""
    facts: dict[str, Any] = {"slot": output.slot.key, "verdict": judged.outcome}
    facts["checks"] = {check.name: check.state for check in judged.checks}
    if judged.model_changed:
        facts["model_changed"] = judged.model_changed[:_MOST_TEXT]
    return Act(
        activity="check_output", principal=identity.of_job(output.spec.job), type="Job",
        name=output.spec.reference, tenant=output.slot.tenant, use_case=output.spec.use_case,
        status="Success" if judged.outcome == "publish" else "Failure", status_detail=judged.outcome,
        facts=facts,
    )  # fmt: skip


def hold(book: JobLedger, output: RunOutput, judged: AfterRun, kept: Path) -> Outcome:
    """Return the outcome of a run whose output is kept in the folder `kept` instead of being published.

    A version that another model answered is paused, and its answers are set aside: a later run asks again.
    """
    if judged.pauses:
        files.make_folder(kept)
        output.journal.replace(kept / "answers.jsonl")
        spec, reason = output.spec, f"{judged.model_changed}: {kept.name}"
        book.pause(spec.job, version=spec.version, by="workbench", reason=reason)
    return "rolled_back" if judged.outcome == "roll_back" else "held"


def check_not_paused(book: JobLedger, job: str, version: int) -> None:
    """Raise RefusedError when a version is paused, as after answers of a model that was not judged."""
    pause = pause_of(book, job, version)
    if pause is not None:
        raise RefusedError(said_of(pause), hint=hint_of(pause))


def pause_of(book: JobLedger, job: str, version: int) -> Pause | None:
    """Return the pause of a version, None without one."""
    return next((item for item in book.pauses() if (item.job, item.version) == (job, version)), None)


def said_of(pause: Pause) -> str:
    """Return the sentence about the pause of a version."""
    return f"{pause.job}@{pause.version} is paused since {pause.at:%Y-%m-%d %H:%MZ}: {pause.reason}"


def hint_of(pause: Pause) -> str:
    """Return the command that judges the model anew, and the one that ends the pause of a version without."""
    again = f'workbench jobs resume {pause.job} --reason "…"'
    return f"make repro LIVE=1 RECORD=1 && workbench promote job/{pause.job}   (or ungated: {again})"


def judge_output(
    output: RunOutput, operation: JobOperation, earlier: Earlier = tuple, *, level: float | None = None
) -> AfterRun:
    """Take the measures that the job's checks name, compare the models, and return what follows.

    With a `level`, a rate is outside its bounds only when its exact interval of this level is.
    """
    measures = Measures(output, earlier, level=level)
    checks = tuple(_checked(name, check, measures.of(name)) for name, check in operation.checks.items())
    answered = models_of(output.journal)
    models = _compared(output, answered)
    verdicts: list[Verdict] = ["publish"]
    verdicts += [_VERDICTS[result.then] for result in checks if result.state != "pass"]
    changed = "; ".join(models.changed)
    pauses = bool(changed) and operation.model_changed == "hold"
    verdicts += ["hold"] if pauses else []
    return AfterRun(
        outcome=max(verdicts, key=_ORDER.index),
        checks=checks,
        model_changed=changed,
        model_unknown="" if any(item.model for item in answered) else _unknown(output),
        pauses=pauses,
        facts=_facts(measures, checks, answered, models) | _told(checks, models, pauses=pauses),
    )


def _checked(name: str, check: OutputCheck, found: MeasuredOutput) -> OutputCheckResult:
    """Return whether a measure is within its bounds; undecided when neither is sure."""
    bounds = [
        f"at least {number(check.min)}" if check.min is not None else "",
        f"at most {number(check.max)}" if check.max is not None else "",
    ]
    state: State = "undecided"
    if found.value is not None:
        low = check.min if check.min is not None else -float("inf")
        high = check.max if check.max is not None else float("inf")
        if found.low > high or found.high < low:
            state = "breach"
        elif low <= found.value <= high:
            state = "pass"
    then = check.undecided if state == "undecided" else check.then
    note = found.note or ("" if found.value is None else MEASURES[name])
    if state == "undecided" and found.value is not None:
        note = f"{number(found.value)} is not surely outside: {found.note}"
    return OutputCheckResult(
        name=name,
        state=state,
        value=found.value,
        bound=" and ".join(filter(None, bounds)),
        then=then,
        note=note,
    )


def _compared(output: RunOutput, answered: Sequence[AnsweredModel]) -> ModelComparison:
    """Compare the models of the run with those of the version's tape and of its commit's judge's tape."""
    if not answered:
        return ModelComparison()
    judged = models_of(output.folder / TAPE, output.code / judge_tape_of(output.spec.use_case))
    return compare_models(judged, answered)


def _told(checks: Sequence[OutputCheckResult], models: ModelComparison, *, pauses: bool) -> dict[str, Any]:
    """Return the facts by which the notice of a run is chosen."""
    if pauses:
        return {"paused": True}
    breached = any(check.state == "breach" for check in checks)
    return {"told": "model_changed" if models.changed else "breached"} if models.changed or breached else {}


def _unknown(output: RunOutput) -> str:
    """Return the sentence about a run that asked a model, and whose recorded answers name none."""
    return "model undecided: no recorded answer names one" if output.counts.get("calls") else ""


def _facts(
    measures: Measures,
    checks: Sequence[OutputCheckResult],
    answered: Sequence[AnsweredModel],
    models: ModelComparison,
) -> dict[str, Any]:
    """Return the facts of the run: no content, and bounded in size."""
    facts: dict[str, Any] = {
        "checks": [dataclasses.asdict(check) for check in checks],
        "models": [dataclasses.asdict(item) for item in answered[:_MOST_MODELS]],
        "model_changed": list(models.changed[:_MOST_MODELS]),
        "model_unjudged": list(models.unjudged[:_MOST_MODELS]),
        "model_unstated": models.unstated,
    }
    for name in ("input_profile", "answer_profile"):
        try:
            facts[name] = getattr(measures, name)
        except (WorkbenchError, OSError, ValueError, KeyError, TypeError):
            facts[name] = {}  # the checks that need it are undecided, and say so
    return {name: value for name, value in facts.items() if value}
