"""Write the form of a model's impact assessment, and show what an assessment still lacks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, registry
from workbench.context import Clock, SystemClock
from workbench.display import Card, Shown
from workbench.layout import ASSESSMENTS
from workbench.models import load_card
from workbench.models.assessment import QUESTIONS, Assessment, path_of, read_assessment
from workbench.models.assessment_form import form
from workbench.promotion import assessed
from workbench.registry import Version
from workbench.repository.git import Repository

_EXCERPT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentState(Shown):
    """An assessment and what keeps it from holding. `written` marks a new form.

    `rows` are the questions, each with its day and the beginning of its answer. `missing` are the gaps, and
    the reason why no approval counts. `until` are the days on which the approvals that count end.
    """

    model: str
    path: str
    rows: tuple[tuple[str, str, str], ...]
    missing: tuple[str, ...]
    owner: str = ""
    data_classes: tuple[str, ...] = ()
    expires: str = ""
    until: tuple[str, ...] = ()
    written: bool = False
    command: str = ""

    @property
    def complete(self) -> bool:
        """Whether the assessment holds and is approved; a new form is never complete."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {**dataclasses.asdict(self), "complete": self.complete}

    def card(self) -> Card:
        """Return the questions, what is missing, and the next command."""
        title = f"assessment of {self.model}"
        if self.written:
            return Card(title=f"{title}: the form is written to {self.path}", head=(), rows=(),
                        notes=[f"{len(self.rows)} questions"], command=self.command)  # fmt: skip
        classes = ", ".join(self.data_classes)
        facts = [
            f"{key} {value or '(empty)'}"
            for key, value in (("owner", self.owner), ("data", classes), ("expires", self.expires))
        ]
        notes = [" · ".join(facts), *(f"missing: {item}" for item in self.missing)]
        notes += [f"approved until {', '.join(self.until)}"] * bool(self.until)
        return Card(
            title=title, head=("question", "answered", "answer"), rows=self.rows, notes=notes,
            command=self.command,
        )  # fmt: skip


def assess(root: Path, reference: str, *, clock: Clock | None = None) -> AssessmentState:
    """Write the form of the model's assessment if there is none, and return its state.

    Raise NotFoundError for a model without a card, and ConfigError for a file that is no assessment.
    """
    version = registry.resolve(root, "model", reference)
    with registry.locked(root / ASSESSMENTS):
        found = read_assessment(root, version.name)
        if found is None:
            return _written(root, version)
    return _state(root, version, found, (clock or SystemClock()).now().date())


def _written(root: Path, version: Version) -> AssessmentState:
    card = load_card(root, str(version))
    author = Repository(root=root).author()
    files.write_atomic(
        root / path_of(version.name), form(card, owner=_owner(root, version), by=author).encode()
    )
    path = str(path_of(version.name))
    return AssessmentState(
        model=str(version), path=path, rows=tuple((key, "", "") for key in QUESTIONS),
        missing=tuple(QUESTIONS), written=True,
        command=f"workbench assess {version.name}   # with {path} filled in",
    )  # fmt: skip


def _owner(root: Path, version: Version) -> str:
    """Return the owner of the use case that names the model, as the first draft; "" for none or several."""
    cases = config.load_params(root).use_cases.values()
    owners = {
        case.owner
        for case in cases
        if any(name.partition("@")[0] == version.name for name in assessed.models_of(root, case))
    }
    return owners.pop() if len(owners) == 1 else ""


def _state(root: Path, version: Version, found: Assessment, today: dt.date) -> AssessmentState:
    gaps = found.gaps(today)
    reason = "" if gaps else assessed.refusal(root, version, found, today)
    approvals = assessed.counted(root, version, found, today)
    rows = tuple(
        (key, str(item.answered or ""), _excerpt(item.answer))
        for key, item in ((key, found.answers.get(key)) for key in QUESTIONS)
        if item is not None
    )
    command = "workbench check"
    if gaps:
        command = f"workbench assess {version.name}   # with {path_of(version.name)} completed"
    elif reason:
        command = f'workbench approve model/{version} --role "…" --reason "…"   # another person'
    return AssessmentState(
        model=str(version), path=str(path_of(version.name)), rows=rows, owner=found.owner,
        missing=(*gaps, *([reason] if reason else ())), data_classes=found.data_classes,
        expires=str(found.expires or ""), until=tuple(str(item.until) for item in approvals), command=command,
    )  # fmt: skip


def _excerpt(text: str) -> str:
    """Return the beginning of an answer on one line."""
    return textwrap.shorten(text, _EXCERPT, placeholder=" …")
