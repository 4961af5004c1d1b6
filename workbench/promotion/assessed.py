"""Find the models of a use case that are unassessed, unapproved, expired, or not allowed for its data."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import config, registry
from workbench.config import UseCase
from workbench.context import SystemClock
from workbench.errors import WorkbenchError
from workbench.models.approval import Approval, read_approvals, same_person
from workbench.models.assessment import Assessment, path_of, read_assessment
from workbench.notebooks import inspection
from workbench.registry import Version

#: Days before the end of an approval from which `workbench check` warns.
_SOON_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentProblem:
    """What the phase mlvp refuses about a model, and what to type. `model` is "" for the use case itself."""

    model: str
    what: str
    fix: str

    @property
    def text(self) -> str:
        """The problem with the model's name."""
        return f"the model {self.model} {self.what}" if self.model else self.what


def demanded(case: UseCase) -> bool:
    """Whether the phase of a use case refuses models that are not assessed and approved."""
    return case.phase == "mlvp"


def models_of(root: Path, case: UseCase, pins: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the models of a use case: the first, its fall-backs, the embedding of its memory, and others.

    Those of `pins`, the frozen references of a job, stand for the names of params.yaml. The others are the
    models that checks of moderation ask, and those whose names stand in quotes in the frozen cells of the
    notebook.
    """
    fixed = config.pinned(case, pins) if pins else case
    names = [fixed.model_name, *fixed.model_choice.models]
    names += case.moderation.models if case.moderation else ()
    names += _embedding(root, str(fixed.memory) if fixed.memory else None)
    known = {name.partition("@")[0] for name in names}
    named = _named_in_notebook(root, case)
    return tuple(dict.fromkeys([*names, *(name for name in named if name.partition("@")[0] not in known)]))


def problems(
    root: Path, name: str, case: UseCase, models: Sequence[str], *, today: dt.date | None = None
) -> list[AssessmentProblem]:
    """Return every problem of the use case `name` and its models, none if phase mlvp allows them all."""
    day = today or SystemClock().now().date()
    found = [*_of_use_case(name, case), *_undeclared(root, name, case)]
    for reference in models:
        found += _of_model(root, reference, case.handles or (), day)
    return found


def refusal(root: Path, version: Version, assessment: Assessment, today: dt.date) -> str:
    """Return why no approval of a card with its assessment counts on a day; "" if one does."""
    if counted(root, version, assessment, today):
        return ""
    found = read_approvals(root, version.name)
    exact = [item for item in found if (item.digest, item.assessment) == (version.digest, assessment.digest)]
    if ended := [item.until for item in exact if item.until <= today]:
        return f"is no longer approved: the approval ended on {max(ended)}"
    if exact:
        return f"is approved by {exact[-1].by} alone, who wrote its card or its assessment"
    if any(item.digest == version.digest for item in found):
        return "is not approved: its assessment changed after the approval"
    return "is not approved: only another version of its card is" if found else "is not approved"


def counted(root: Path, version: Version, assessment: Assessment, today: dt.date) -> list[Approval]:
    """Return the approvals of exactly this card and assessment by another person that hold on a day."""
    author = registry.load(root, "model", version.name).versions[version.number].author
    return [
        item
        for item in read_approvals(root, version.name)
        if (item.digest, item.assessment) == (version.digest, assessment.digest)
        and item.until > today
        and not own_work(item.by, assessment, author)
    ]


def ending(root: Path, models: Sequence[str], *, today: dt.date | None = None) -> list[tuple[str, dt.date]]:
    """Return the approved models whose last approval ends within 30 days, with that day, the first first."""
    day = today or SystemClock().now().date()
    found = []
    for reference in models:
        try:
            version = registry.resolve(root, "model", reference)
            assessment = read_assessment(root, version.name)
            approvals = counted(root, version, assessment, day) if assessment else []
        except WorkbenchError:
            continue  # one of the problems
        last = max((item.until for item in approvals), default=None)
        if last is not None and (last - day).days <= _SOON_DAYS:
            found.append((str(version), last))
    return sorted(found, key=lambda item: (item[1], item[0]))


def own_work(person: str, assessment: Assessment, author: str) -> bool:
    """Whether a person wrote the card or the assessment, and so may not approve them."""
    return any(same_person(person, other) for other in (assessment.assessed_by, author))


def _of_use_case(name: str, case: UseCase) -> Iterator[AssessmentProblem]:
    if case.handles is None:
        yield AssessmentProblem(
            model="",
            what=f"use_cases.{name}.handles does not say which classes of data the use case handles",
            fix="write handles: [internal] into params.yaml, with every class (docs/assessments.md)",
        )
    if case.base_url or case.provider:
        yield AssessmentProblem(
            model=case.model_name,
            what="is sent to another endpoint by params.yaml, and its assessment is of the card's own",
            fix="write a card for that endpoint (docs/models.md), then: workbench assess NAME",
        )


def _undeclared(root: Path, name: str, case: UseCase) -> Iterator[AssessmentProblem]:
    """Yield the classes that prompt, memory and dataset declare and the use case does not state."""
    for what, data_class in _declared(root, case) if case.handles is not None else ():
        if data_class in (case.handles or ()):
            continue
        yield AssessmentProblem(
            model="",
            what=f"{what} of class {data_class}, and use_cases.{name}.handles does not name that class",
            fix=f"add {data_class} to use_cases.{name}.handles in params.yaml",
        )


def _declared(root: Path, case: UseCase) -> Iterator[tuple[str, str]]:
    """Yield what is declared, such as "the dataset has an input", with its class; each pair once."""
    # The stages that judge a run import this file too, and need neither prompts nor memories.
    if case.prompt is not None:
        from workbench.prompts import prompt as prompts

        with contextlib.suppress(WorkbenchError):  # reported with the prompt
            header = prompts.read(registry.resolve(root, "prompt", str(case.prompt))).header
            for name in sorted({item.data_class for item in header.inputs.values()}):
                yield f"the prompt {case.prompt} has an input", name
    if case.memory is not None:
        from workbench import retrieval

        with contextlib.suppress(WorkbenchError):  # reported with the memory
            if of_items := retrieval.load_spec(root, str(case.memory)).data_class:
                yield f"the memory {case.memory} has items", of_items
    for name in sorted({*case.column_classes.values()}):
        yield "the dataset has an input", name


def _of_model(
    root: Path, reference: str, handled: Iterable[str], today: dt.date
) -> Iterator[AssessmentProblem]:
    try:
        version = registry.resolve(root, "model", reference)
    except WorkbenchError as error:
        what = f"has no card that could be assessed ({error.message})"
        yield AssessmentProblem(model=reference, what=what, fix=error.hint)
        return
    place = path_of(version.name)
    try:
        assessment = read_assessment(root, version.name)
    except WorkbenchError as error:
        fix = error.hint or f"correct {place}"
        yield AssessmentProblem(model=str(version), what=f"is unassessed: {error.message}", fix=fix)
        return
    if assessment is None:
        fix = f"workbench assess {version.name}   # writes the form"
        yield AssessmentProblem(model=str(version), what=f"is unassessed: there is no {place}", fix=fix)
        return
    if gaps := assessment.gaps(today):
        fix = f"edit {place}, then: workbench assess {version.name}"
        yield AssessmentProblem(model=str(version), what=f"is not assessed: {'; '.join(gaps)}", fix=fix)
        return  # what is incomplete cannot be approved either
    yield from _not_allowed(version, assessment, handled)
    try:
        reason = refusal(root, version, assessment, today)
    except WorkbenchError as error:
        yield AssessmentProblem(model=str(version), what=f"is not approved: {error.message}", fix=error.hint)
        return
    if reason:
        fix = f'workbench approve model/{version} --role "…" --reason "…"'
        yield AssessmentProblem(model=str(version), what=reason, fix=fix)


def _not_allowed(
    version: Version, assessment: Assessment, handled: Iterable[str]
) -> Iterator[AssessmentProblem]:
    if beyond := [item for item in handled if item not in assessment.data_classes]:
        allowed = ", ".join(assessment.data_classes) or "no class"
        yield AssessmentProblem(
            model=str(version),
            what=f"may not get data of the class {', '.join(beyond)} (assessed for {allowed})",
            fix=f"assess it for that class in {path_of(version.name)}, or name another model in params.yaml",
        )


def _embedding(root: Path, memory: str | None) -> list[str]:
    """Return the model of a memory's vectors; none for a memory that cannot be read, which others report."""
    if memory is None:
        return []
    from workbench import retrieval

    try:
        return [retrieval.load_spec(root, memory).embedding]
    except WorkbenchError:
        return []


def _named_in_notebook(root: Path, case: UseCase) -> list[str]:
    """Return the references to saved models in the notebook's frozen cells; [] for an unreadable notebook."""
    try:
        text = inspection.read(root / case.notebook).frozen()
    except (WorkbenchError, OSError):
        return []
    names = "|".join(map(re.escape, registry.names(root, "model")))
    return re.findall(rf"""["']((?:{names})(?:@\w+)?)\\?["']""", text) if names else []
