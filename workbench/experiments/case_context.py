"""What the cases of a run are explored with, beside its rows: the dataset, passages, and a workspace's verbs.

None of it is part of a run's id or of its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from workbench.display import Shown
from workbench.errors import NotFoundError
from workbench.experiments.case_notes import CaseNote
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.kept_attempts import KeptAttempts
from workbench.types import Hit

if TYPE_CHECKING:
    import polars as pl


class CaseVerbs(Protocol):
    """What a workspace does for a case."""

    @property
    def root(self) -> Path:
        """Return the repository."""

    def why(self, tenant: str, trace: str, *, text: str, passages: Sequence[Hit]) -> Shown:
        """Return the origin of an answer by the trace id of its call."""

    def note(self, case: Case, reason: str) -> CaseNote:
        """Note that the ground truth of a case is wrong."""

    def notes(self) -> tuple[CaseNote, ...]:
        """Return the notes of the use case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseContext:
    """The dataset of a run, what is kept of its attempts, its workspace's verbs, and columns of slices."""

    dataset: Dataset | None = field(default=None, repr=False)
    kept: KeptAttempts | None = field(default=None, repr=False)
    verbs: CaseVerbs | None = field(default=None, repr=False)
    slices: tuple[str, ...] = ()

    def checked_verbs(self) -> CaseVerbs:
        """Return the verbs of the workspace; NotFoundError for a run that was read without one."""
        if self.verbs is None:
            raise NotFoundError(
                "this run belongs to no workspace", hint='read it by ws.run("USE_CASE/ARM") or by its id'
            )
        return self.verbs


class ExplorableRun(Protocol):
    """What the exploration of cases needs of a run."""

    @property
    def arm(self) -> str:
        """Return the name of the arm."""

    @property
    def id(self) -> str:
        """Return the digest of the run's content."""

    @property
    def use_case(self) -> str:
        """Return the use case."""

    @property
    def dataset_digest(self) -> str:
        """Return the digest of the dataset."""

    @property
    def cases(self) -> pl.DataFrame:
        """Return one row for each case and repeat."""

    @property
    def score_names(self) -> list[str]:
        """Return the names of the scorers."""

    @property
    def repeats(self) -> int:
        """Return the number of repeats of each case."""

    @property
    def context(self) -> CaseContext:
        """Return what the cases are explored with."""


def dataset_of(cases: Sequence[str], digest: str, *known: Dataset | None) -> Dataset | None:
    """Return the cases with these ids from the first `known` dataset in which they have this digest."""
    ids = set(cases)
    for dataset in filter(None, known):
        chosen = tuple(case for case in dataset if case.id in ids)
        part = dataset if len(chosen) == len(dataset) else Dataset(name=dataset.name, cases=chosen)
        if len(chosen) == len(ids) and part.digest == digest:
            return part
    return None
