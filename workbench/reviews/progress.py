"""How far a review is, by its labels alone: how many pairs of their samples the reviewers have labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.experiments.labels import HumanLabel

#: Reviewers whose numbers are told one by one.
_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewProgress:
    """What each reviewer has labelled: the number of pairs, and that of the sample, most first.

    The size of the sample is None where all labels of a reviewer are of versions that did not write it.
    """

    reviewers: tuple[tuple[int, int | None], ...]

    @classmethod
    def of(cls, labels: Sequence[HumanLabel]) -> ReviewProgress:
        """Return the progress by the labels of a file, oldest first.

        Of each reviewer, the labels count that have the runs and the seed of the last one.
        """
        last = {label.reviewer: label for label in labels}
        found = (_of_reviewer(labels, label) for label in last.values())
        return cls(reviewers=tuple(sorted(found, key=lambda one: one[0], reverse=True)))

    @property
    def complete(self) -> bool:
        """Whether every reviewer who began has labelled all pairs of the sample."""
        return bool(self.reviewers) and all(labelled == pairs for labelled, pairs in self.reviewers)

    def __str__(self) -> str:
        people = len(self.reviewers)
        who = f" by {people} reviewers" if people > 1 else ""
        counts = [f"{labelled}" + f" of {pairs}" * bool(pairs) for labelled, pairs in self.reviewers]
        if self.complete:
            sizes = dict.fromkeys(str(pairs) for _, pairs in self.reviewers)
            return f"complete: {_pairs_of(' and '.join(sizes))} labelled{who}"
        told = ", ".join(counts[:_TOLD]) + ", …" * (people > _TOLD)
        unknown = all(pairs is None for _, pairs in self.reviewers)
        return f"{_pairs_of(told)} labelled{who}" + ", of how many is not written" * unknown


def _pairs_of(told: str) -> str:
    return f"{told} {'pair' if told == '1' else 'pairs'}"


def _of_reviewer(labels: Sequence[HumanLabel], last: HumanLabel) -> tuple[int, int | None]:
    runs = {last.left.run, last.right.run}
    own = [
        label
        for label in labels
        if (label.reviewer, label.seed) == (last.reviewer, last.seed)
        and {label.left.run, label.right.run} == runs
    ]
    pairs = next((label.pairs for label in reversed(own) if label.pairs is not None), None)
    labelled = len({label.case for label in own})
    # A larger sample that was made smaller begins with the same pairs.
    return (labelled if pairs is None else min(labelled, pairs)), pairs
