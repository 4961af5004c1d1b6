"""The verbs of error analysis: cases that are wrong, unscored or changed, one case, and the explorer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.display import Card
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.experiments.case_context import ExplorableRun

if TYPE_CHECKING:
    import polars as pl

    from workbench.experiments.case_detail import CaseDetail
    from workbench.experiments.explorer import CaseExplorer


class Explorable:
    """One run or several, whose cases can be looked at.

    `arm` is by default the first that is neither the baseline nor a control, if there is one.
    """

    __slots__ = ()

    @abstractmethod
    def _arms(self) -> Mapping[str, ExplorableRun]:
        """Return the runs by arm: the baseline first where there is one, controls last."""

    @abstractmethod
    def _cards(self) -> Sequence[Card]:
        """Return the cards of the runs, or of their comparison; those of controls last."""

    def explore(self) -> CaseExplorer:
        """Return the explorer of the cases: a panel in a notebook, a text in a terminal."""
        from workbench.experiments.explorer import CaseExplorer

        return CaseExplorer(self._arms(), cards=self._cards())

    def case(
        self, case_id: str, *, arm: str | None = None, baseline: str | None = None, repeat: int = 0
    ) -> CaseDetail:
        """Return one case: question, expected values, answers, passages, scores, and why it failed.

        Raises NotFoundError with the nearest id for a case that the runs do not have.
        """
        from workbench.experiments.case_detail import CaseDetail

        arms = self._arms()
        names = [name for name in reversed(self._pair(arm, baseline)) if name is not None]
        return CaseDetail.of(case_id, {name: arms[name] for name in names}, repeat=repeat)

    def wrong(self, *, arm: str | None = None, metric: str | None = None, below: float = 1.0) -> pl.DataFrame:
        """Return the cases of an arm whose score is below `below`, the lowest first, with their answers.

        `metric` is by default the first score. Where a lower score is better, those above 0.
        """
        import polars as pl

        frame = self._cases("wrong", self._name(arm), None, metric=metric, below=below, sort="score")
        return frame.select(pl.all().exclude("change", "score_before", "answer_before", "reason"))

    def unscored(self, *, arm: str | None = None) -> pl.DataFrame:
        """Return the cases of an arm without a score, with the reason of each."""
        frame = self._cases("unscored", self._name(arm), None)
        return frame.select("case", "tenant", "reason", "error", "question", "expected")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Return the forms for Jupyter: the cards as text and HTML, and the explorer where a person looks.

        The text has no content of cases, so that an executed copy of a notebook has none; `print` of the
        explorer has.
        """
        from workbench.widgets.panel import has_front_end

        cards = self._cards()  # their intervals take time
        text = "\n\n".join(card.text() for card in cards)
        bundle = {"text/plain": text, "text/html": "".join(card.html() for card in cards)}
        if not has_front_end():
            return bundle
        from workbench.experiments.explorer import CaseExplorer

        return {**CaseExplorer(self._arms(), cards=cards).mimebundle(html=bundle["text/html"]), **bundle}

    def _name(self, arm: str | None) -> str:
        arms = self._arms()
        if arm is None:
            return list(arms)[min(1, len(arms) - 1)]
        if arm not in arms:
            raise NotFoundError(
                f"there is no arm {arm!r} ({nearest(arm, arms)})", hint=f"one of {list(arms)}"
            )
        return arm

    def _pair(self, arm: str | None, baseline: str | None) -> tuple[str, str | None]:
        """Return the names of an arm and of its baseline, which is None for one run."""
        arms = self._arms()
        if len(arms) == 1 and baseline is None:
            return self._name(arm), None
        other = self._name(baseline or next(iter(arms)))
        run = self._name(arm or next((name for name in arms if name != other), other))
        if run == other:
            raise ConfigError(f"arm and baseline are both {run!r}", hint=f"name two of {list(arms)}")
        return run, other

    def _cases(
        self, kind: str, arm: str, baseline: str | None, *, metric: str | None = None, below: float = 1.0,
        sort: str = "rank",
    ) -> pl.DataFrame:  # fmt: skip
        from workbench.experiments.case_frame import with_texts
        from workbench.experiments.case_table import CaseTable

        arms = self._arms()
        other = arms[baseline] if baseline is not None else None
        table = CaseTable.of(arms[arm], other, metric=metric, below=below)
        return with_texts(table, table.chosen(kind, sort=sort))


class ExplorablePair(Explorable):
    """Runs of which two can be compared case by case."""

    __slots__ = ()

    def flips(
        self, *, arm: str | None = None, baseline: str | None = None, metric: str | None = None
    ) -> pl.DataFrame:
        """Return the cases whose score differs between two arms, those that got worse first."""
        name, other = self._pair(arm, baseline)
        return self._cases("flips", name, other, metric=metric).drop("reason", "error")
