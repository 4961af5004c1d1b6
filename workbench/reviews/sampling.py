"""The pairs of a review: the same cases in two runs, sampled and put on their sides by the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.errors import ConfigError
from workbench.experiments.compare import check_pair
from workbench.experiments.dataset import Dataset
from workbench.experiments.labels import ShownAnswer, answer_digest
from workbench.experiments.runs import Run

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPair:
    """Both answers to a case on their sides: what identifies them, and their outputs as stored."""

    case: str
    left: ShownAnswer
    right: ShownAnswer
    left_output: str = field(repr=False)
    right_output: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedRuns:
    """Two runs over the same cases, as a review takes them.

    `ids` are those of both runs, which take a while to compute. `answers` maps each case with two different
    answers to their outputs, of `run` and of `other`. `equal` are the cases with one and the same answer, and
    `incomplete` counts those that a run did not answer.
    """

    run: Run
    other: Run
    ids: tuple[str, str]
    answers: Mapping[str, tuple[str, str]] = field(repr=False)
    equal: tuple[str, ...] = ()
    incomplete: int = 0

    @classmethod
    def of(cls, run: Run, other: Run) -> ReviewedRuns:
        """Return the pairs of two runs; of several repeats, the first counts.

        Raise ConfigError for a run with itself, for other cases, and when no case has two answers.
        """
        ids = (run.id, other.id)
        if ids[0] == ids[1]:
            raise ConfigError(
                f"the review compares run {ids[0]} with itself", hint="ws.review(run, other): name two runs"
            )
        check_pair(run, other)
        ours, theirs = _outputs(run), _outputs(other)
        both = ours.is_not_null() & theirs.is_not_null()
        if not both.any():
            raise ConfigError(
                f"nothing to review: no case has an answer in both {run.arm} and {other.arm}",
                hint=f"workbench gate {ids[0]}   # says why cases are unscored",
            )
        differs = both & (ours != theirs).fill_null(value=False)
        cases = run.case_ids
        columns = (cases.filter(differs), ours.filter(differs), theirs.filter(differs))
        answers = {case: (first, second) for case, first, second in zip(*columns, strict=True)}
        equal = cases.filter(both & ~differs).to_list()
        return cls(
            run=run, other=other, ids=ids, answers=answers, equal=tuple(equal), incomplete=int((~both).sum())
        )

    def digests(self, case: str) -> tuple[str, str] | None:
        """Return the digests of both answers to a case; None for a case without two different answers."""
        found = self.answers.get(case)
        return None if found is None else (answer_digest(found[0]), answer_digest(found[1]))

    def sample(self, k: int | None, *, seed: int) -> tuple[AnswerPair, ...]:
        """Return `k` pairs, by default all, in the order of the seed; a larger sample begins with a smaller.

        Sides and order depend on seed and case alone.
        """
        order = sorted(self.answers, key=lambda case: files.digest(["order", seed, case]))
        return tuple(self._pair(case, seed) for case in order[:k])

    def _pair(self, case: str, seed: int) -> AnswerPair:
        shown = [
            (ShownAnswer(run=run_id, arm=run.arm, output=answer_digest(output)), output)
            for run, run_id, output in zip((self.run, self.other), self.ids, self.answers[case], strict=True)
        ]
        if int(files.digest(["side", seed, case])[0], 16) % 2:
            shown.reverse()
        (left, left_output), (right, right_output) = shown
        return AnswerPair(
            case=case, left=left, right=right, left_output=left_output, right_output=right_output
        )


def check_dataset(run: Run, cases: Dataset) -> None:
    """Raise ConfigError unless these are the cases that a run answered, so that its questions are shown."""
    if cases.digest != run.dataset_digest:
        raise ConfigError(
            f"run {run.id} ({run.arm}) answered another dataset than {cases.name} is now",
            hint="run the task again over ws.cases(), or pass the dataset of the run: cases=DATASET",
        )


def _outputs(run: Run) -> pl.Series:
    """Return the stored output of each case, in the order of cases; null for one that was not answered."""
    rows = run.cases
    return rows.filter(rows["case"].ne_missing(rows["case"].shift()))["output"]


def plain_value(value: Any) -> str:
    """Return a value of an input, an expected column or a typed output as a person reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "; ".join(value)
    return files.canonical(value).decode()
