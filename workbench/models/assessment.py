"""Impact assessments of models: dated answers to stated questions, in `pipelines/assessments/NAME.yaml`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.layout import ASSESSMENTS

#: The questions that an assessment answers. A new one makes each assessment incomplete until it is answered.
QUESTIONS: Mapping[str, str] = {
    "intended_purpose": "What is the model used for, by whom, and what is it not to be used for?",
    "affected_people": "Whom do its answers affect, and how? Who among them needs protection?",
    "data": "Which data does it get, from where, and where are requests processed and kept?",
    "failure_modes": "How does it fail, how often, and what does a wrong answer cost the people affected?",
    "fairness": "For which groups, languages or topics are its answers worse, and how was that measured?",
    "human_oversight": "Who reads, corrects or stops an answer before it has an effect?",
    "transparency": "How do the people affected learn that a model answered, and how do they object?",
    "security": "How could it be misused or attacked, and what prevents that?",
    "monitoring": "What is watched in operation, by whom, and what ends its use?",
    "residual_risk": "Which risk remains, how large is it, and who accepts it?",
}
#: Most days for which an assessment holds, counted from its oldest answer.
MOST_DAYS = 731
#: Fewer words are a placeholder, not an answer.
_LEAST_WORDS = 3
_SHOWN = 3
_MOST_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """The answer to one question and the day on which it was given; both are empty in a new form."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    answered: dt.date | None = None
    answer: str = ""

    @property
    def given(self) -> bool:
        """Whether the answer has a day and at least three words."""
        return self.answered is not None and len(self.answer.split()) >= _LEAST_WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The assessment of a model, for all versions of its card.

    `owner` answers for the use of the model, `assessed_by` filled in the form, `data_classes` are the classes
    of data that the model may get, and `expires` is the first day on which the assessment no longer holds.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    model: str
    owner: str
    assessed_by: str
    data_classes: tuple[str, ...]
    expires: dt.date | None
    answers: dict[str, AnsweredQuestion]

    @property
    def digest(self) -> str:
        """The SHA-256 of the values; comments and the layout of the file do not count."""
        plain = {**dataclasses.asdict(self), "expires": str(self.expires)}
        plain["answers"] = {
            key: [str(item.answered), item.answer.strip()] for key, item in sorted(self.answers.items())
        }
        return files.digest(files.canonical(plain))

    @property
    def unanswered(self) -> tuple[str, ...]:
        """The questions without an answer, in their order."""
        return tuple(key for key in QUESTIONS if key not in self.answers or not self.answers[key].given)

    def gaps(self, today: dt.date) -> list[str]:
        """Return what keeps the assessment from holding on a day, each as one clause; none if it holds."""
        found = [f"{key} is empty" for key in ("owner", "assessed_by") if not getattr(self, key).strip()]
        if missing := self.unanswered:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            names = ", ".join(missing[:_SHOWN]) + more
            found.append(f"{len(missing)} of {len(QUESTIONS)} questions have no answer: {names}")
        days = [item.answered for item in self.answers.values() if item.answered is not None]
        if any(day > today for day in days):
            found.append(f"an answer is dated {max(days)}, after today")
        if not self.data_classes:
            found.append("data_classes names no class of data that the model may get")
        if self.expires is None:
            found.append("expires is empty")
        elif self.expires <= today:
            found.append(f"it expired on {self.expires}")
        elif days and (self.expires - min(days)).days > MOST_DAYS:
            found.append(f"expires is more than {MOST_DAYS} days after the oldest answer, of {min(days)}")
        return found


def path_of(name: str) -> Path:
    """Return the path of a model's assessment, relative to the repository."""
    return Path(ASSESSMENTS) / f"{name}.yaml"


def read_assessment(root: Path, name: str) -> Assessment | None:
    """Return the assessment of a model, or None without a file; ConfigError names the file and the key."""
    path = root / path_of(name)
    if not path.exists() and not path.is_symlink():
        return None
    where = str(path_of(name))
    raw = files.parse_yaml(files.read_text(path, limit=_MOST_BYTES), where=where)
    found = files.parse(Assessment, raw, where=where, hint=f"docs/assessments.md lists the keys of {where}")
    if found.model != name:
        raise ConfigError(
            f"{where}: model: is {files.shortened(found.model)!r}, and the file is of {name!r}",
            hint=f"write model: {name}, or rename the file",
        )
    for key in found.answers:
        if key not in QUESTIONS:
            raise ConfigError(
                f"{where}: answers: unknown question {files.shortened(key)!r} ({nearest(key, QUESTIONS)})",
                hint="docs/assessments.md lists the questions",
            )
    return found
