"""Open the blind review of two runs of a use case: its runs, its cases and the file of its labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol, TypedDict

from workbench.config import UseCase
from workbench.context import Context
from workbench.errors import ConfigError
from workbench.experiments.dataset import Dataset
from workbench.experiments.runs import Run
from workbench.reviews.blind_review import Review
from workbench.reviews.label_file import LabelFile
from workbench.reviews.sampling import ReviewedRuns

#: The number of pairs that a review has unless it is told another.
PAIRS = 20


class ReviewOptions(TypedDict, total=False):
    """Options of a review: see `Workspace.review`."""

    k: int | None
    seed: int | None
    cases: Dataset | None
    name: str | None


class ReviewingWorkspace(Protocol):
    """What a review needs of a workspace."""

    @property
    def root(self) -> Path:
        """The repository."""

    @property
    def name(self) -> str:
        """The name of the use case."""

    @property
    def use_case(self) -> UseCase:
        """The use case, whose seed is the default one."""

    @property
    def context(self) -> Context:
        """Who reviews, and by which clock."""

    def cases(self) -> Dataset:
        """Return the cases of the use case."""

    def run(self, reference: str) -> Run:
        """Return a run by `use_case/arm` or by its id, with the cases that it answered if they are known."""


def open_review(
    ws: ReviewingWorkspace, run: Run | str, other: Run | str, options: ReviewOptions | None = None
) -> Review:
    """Return the review of two runs, given as such, as `use_case/arm` or by id; see `Workspace.review`.

    Raise NotFoundError for a run that is gone, and ConfigError for a run of another use case.
    """
    chosen = options or {}
    found = [_run_of(ws, item) for item in (run, other)]
    runs = ReviewedRuns.of(*found)
    seed, cases = chosen.get("seed"), chosen.get("cases")
    arms = "-".join(re.sub("[^A-Za-z0-9._+-]", "_", item.arm) for item in found)
    return Review(
        runs,
        _cases_of(ws, found[0]) if cases is None else cases,
        LabelFile(ws.root, ws.name, chosen.get("name") or arms),
        reviewer=ws.context.principal.name,
        k=chosen.get("k", PAIRS),
        seed=ws.use_case.seed if seed is None else seed,
        clock=ws.context.clock,
    )


def _cases_of(ws: ReviewingWorkspace, run: Run) -> Dataset:
    """Return the cases that a run answered, such as a sample, if known; else those of the use case."""
    known = run.context.dataset
    return known if known is not None and known.digest == run.dataset_digest else ws.cases()


def _run_of(ws: ReviewingWorkspace, run: Run | str) -> Run:
    if isinstance(run, str):
        run = ws.run(run)
    if not isinstance(run, Run):
        raise ConfigError(
            f"a review takes runs, found {type(run).__name__}",
            hint=f'ws.review(result["candidate"], result["few_shot"]), or "{ws.name}/candidate"',
        )
    if run.use_case != ws.name:
        raise ConfigError(
            f"run {run.id} is of the use case {run.use_case!r}, this workspace of {ws.name!r}",
            hint=f'wb.connect("{run.use_case}").review(…)',
        )
    return run
