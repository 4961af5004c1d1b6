"""The verbs of a workspace on runs and their cases: runs, one run with its dataset, and notes on cases."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from workbench import arguments, config
from workbench.context import Context, instant
from workbench.display import Shown
from workbench.errors import NotFoundError, RefusedError, WorkbenchError
from workbench.experiments.case_context import CaseContext, dataset_of
from workbench.experiments.case_notes import CaseNote, add_note, content_digest, read_notes
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import Run, find_run, runs_frame
from workbench.layout import RUNS, Results
from workbench.types import Reply
from workbench.workspace.history import RecordVerbs

if TYPE_CHECKING:
    import polars as pl

    from workbench.reviews.blind_review import Review
    from workbench.workspace.label_review import ReviewOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceCaseVerbs:
    """What a workspace does for a case: see `experiments.case_context.CaseVerbs`."""

    root: Path
    context: Context = field(repr=False)
    use_case: str
    bind: Callable[[str], RecordVerbs] = field(repr=False)

    def why(self, tenant: str, trace: str, *, text: str, passages: Sequence[Any]) -> Shown:
        """Return the origin of an answer, as `ws.why` tells it to the workspace of the case's tenant."""
        ws = self.bind(tenant)
        found = ws.calls(trace=trace)
        if found.is_empty():
            raise NotFoundError(
                f"the call {trace} is not in the log any more", hint="ws.calls() lists those that are kept"
            )
        prompt = found["prompt"][-1]
        return ws.why(Reply(text=text, model="", trace_id=trace, prompt=prompt, passages=tuple(passages)))

    def note(self, case: Case, reason: str) -> CaseNote:
        """Note that the ground truth of a case is wrong, as the principal of the workspace."""
        note = CaseNote(
            case=case.id,
            tenant=case.tenant,
            digest=content_digest(case),
            reviewer=self.context.principal.name,
            at=instant(self.context.clock.now()),
            reason=" ".join(arguments.text(reason, "reason").split()),
        )
        return add_note(self.root, self.use_case, note)

    def notes(self) -> tuple[CaseNote, ...]:
        """Return the notes of the use case."""
        return read_notes(self.root, self.use_case)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerbs(RecordVerbs):
    """The verbs of a workspace on runs, their blind reviews, and the notes that people made on cases."""

    name: str
    use_case: config.UseCase

    def runs(self) -> pl.DataFrame:
        """Return a frame of the runs of this repository and its pipeline, with the first metric of each."""
        return runs_frame(self._pipeline, explored=self._explored)

    def review(self, run: Run | str, other: Run | str, **how: Unpack[ReviewOptions]) -> Review:
        """Return the blind review of two runs by this principal, resumed from its labels.

        A run is one of an experiment, `use_case/arm` of the pipeline, or an id. `how` takes `k` pairs (20;
        None: all), a `seed` (the use case's), the `cases` of the runs, and the `name` of the file of labels.
        """
        from workbench.workspace.label_review import open_review  # it needs numpy

        return open_review(self, run, other, how)

    def run(self, reference: str) -> Run:
        """Return a run by `use_case/arm` of the pipeline or by its id, with its dataset if it is still known.

        Raises NotFoundError with the nearest reference.
        """
        run = find_run(arguments.text(reference, "reference"), self._pipeline, explored=self._explored)
        ids, known = run.case_ids.to_list(), self._datasets(run.use_case, run.settings.get("memory"))
        found = next(filter(None, (dataset_of(ids, run.dataset_digest, each) for each in known)), None)
        case = config.load_params(self.root).use_cases.get(run.use_case)
        verbs = dataclasses.replace(self._case_verbs, use_case=run.use_case)
        context = CaseContext(dataset=found, verbs=verbs, slices=case.slices if case else ())
        return dataclasses.replace(run, context=context)

    def case_notes(self) -> pl.DataFrame:
        """Return the notes that the ground truth of cases is wrong, with whether each is still open.

        A note is closed when the dataset has another content for the case; null when it cannot be read.
        """
        import polars as pl

        today = self._today()
        cases = {case.id: case for case in today or ()}
        notes = read_notes(self.root, self.context.use_case)
        rows = [
            {
                "case": n.case, "tenant": n.tenant, "reviewer": n.reviewer, "at": n.at, "reason": n.reason,
                "open": None if today is None else n.is_open(cases.get(n.case)),
            }
            for n in notes
        ]  # fmt: skip
        texts = dict.fromkeys(("case", "tenant", "reviewer", "at", "reason"), pl.String())
        return pl.DataFrame(rows, schema={**texts, "open": pl.Boolean()})

    @abstractmethod
    def bind(self, *, tenant: str | None = None) -> RecordVerbs:
        """Return this workspace for another tenant."""

    @abstractmethod
    def cases(self, memory: str | None = None) -> Dataset:
        """Return the use case's dataset, or the questions of a memory."""

    @property
    def _pipeline(self) -> list[Path]:
        return [*sorted(self.root.glob("results/*/judged")), *sorted(self.root.glob("results/*/runs"))]

    @property
    def _explored(self) -> list[Path]:
        return sorted((self.root / RUNS).glob("*"))

    @property
    def _case_verbs(self) -> WorkspaceCaseVerbs:
        return WorkspaceCaseVerbs(
            root=self.root,
            context=self.context,
            use_case=self.context.use_case,
            bind=lambda tenant: self.bind(tenant=tenant),
        )

    def _today(self) -> Dataset | None:
        """Return the use case's dataset; None when it cannot be read. RefusedError where it is refused."""
        try:
            return self.cases()
        except RefusedError:
            raise
        except WorkbenchError:
            return None

    def _datasets(self, use_case: str, memory: str | None) -> Iterator[Dataset]:
        """Yield what may be the dataset of a run: today's file, a memory's questions, the prepared cases.

        Nothing in a job and in a judged run, where `cases` is refused, and no file that cannot be read.
        """
        try:
            today = self._today()
        except RefusedError:
            return
        if today is not None and use_case == self.context.use_case:
            yield today
        case = config.load_params(self.root).use_cases.get(use_case)
        prepared = self.root / Results(use_case=use_case).prepared / "cases.parquet"
        with contextlib.suppress(WorkbenchError):
            if memory and use_case == self.context.use_case:
                yield self.cases(memory)
        with contextlib.suppress(WorkbenchError):
            if case is not None and prepared.exists():
                yield Dataset.from_file(prepared, **case.columns)
