"""One case of one or two runs: question, expected values, answers, passages, scores, and why it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from workbench.display import Card, Shown, number
from workbench.errors import NotFoundError, WorkbenchError, nearest
from workbench.experiments.added_cases import AddedCase, add_case
from workbench.experiments.case_context import CaseContext, ExplorableRun
from workbench.experiments.case_notes import CaseNote
from workbench.experiments.case_table import expected_of, question_of
from workbench.experiments.dataset import Case
from workbench.experiments.matching import mentions
from workbench.experiments.metrics import SCORE
from workbench.experiments.score_direction import LOWER_IS_BETTER, is_wrong
from workbench.types import Hit
from workbench.widgets.cutting import quoted

#: Characters of a text that a card shows, and that is searched for an expected one.
_SHOWN, _SEARCHED = 2_000, 20_000
_NOT_KNOWN = "not known: the dataset of this run is gone or has changed since"
_NOT_READ = 'not known: this run was read without its dataset; ws.run("ID") looks for it'
_NOT_KEPT = "not kept: only the process that made the run has the passages of its prompts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAnswer:
    """What one arm answered. `passages` is None where not kept; `traces` are those of chat calls."""

    arm: str
    text: str = field(repr=False)
    error: str | None
    scores: dict[str, float | None]
    sources: tuple[str, ...]
    passages: tuple[Hit, ...] | None = field(repr=False)
    traces: tuple[str, ...]

    @classmethod
    def of(cls, arm: str, run: ExplorableRun, case: str, repeat: int) -> ArmAnswer:
        """Return the answer of a run, called `arm`; NotFoundError for an unknown case or repeat."""
        import polars as pl

        found = run.cases.filter(pl.col("case") == case)
        if found.is_empty():
            known = run.cases["case"].unique(maintain_order=True).to_list()
            raise NotFoundError(
                f"run {arm} has no case {str(case)[:80]!r} ({nearest(str(case), known)})",
                hint="run.cases lists them",
            )
        rows = found.filter(pl.col("repeat") == repeat)
        if rows.is_empty():
            raise NotFoundError(f"case {case} has no repeat {repeat}", hint=f"0 to {found.height - 1}")
        row = rows.row(0, named=True)
        kept = run.context.kept.get(case, repeat) if run.context.kept else None
        return cls(
            arm=arm,
            text=answer_text(row["output"]),
            error=row["error"],
            scores={name: row[SCORE + name] for name in run.score_names},
            sources=tuple(row["sources"] or ()),
            passages=kept.passages if kept else None,
            traces=kept.traces if kept else (),
        )

    def score_text(self) -> str:
        """Return the scores in one line; of an unscored answer the reason."""
        if self.error is not None:
            return f"unscored: {self.error}"
        return " · ".join(f"{name} {number(score)}" for name, score in self.scores.items())

    @property
    def failed(self) -> bool:
        """Whether the answer is unscored, or its first score is not the best one."""
        first = next(iter(self.scores.items()), ("", None))
        return self.error is not None or is_wrong(*first)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDetail(Shown):
    """One case. `answers` has the baseline's first where two arms are compared.

    `case` is None where the dataset of the runs is not known.
    """

    id: str
    tenant: str
    repeat: int
    case: Case | None
    answers: tuple[ArmAnswer, ...]
    context: CaseContext = field(repr=False)

    @classmethod
    def of(cls, case: str, runs: Mapping[str, ExplorableRun], *, repeat: int = 0) -> CaseDetail:
        """Return a case of one or two runs by arm, the baseline first; NotFoundError for an unknown case."""
        answers = tuple(ArmAnswer.of(arm, run, case, repeat) for arm, run in runs.items())
        run = list(runs.values())[-1]
        context = run.context
        found = next((known for known in context.dataset or () if known.id == case), None)
        place = run.cases["case"].search_sorted(case)
        return cls(
            id=case, tenant=run.cases["tenant"][int(place)], repeat=repeat, case=found, answers=answers,
            context=context,
        )  # fmt: skip

    @property
    def question(self) -> str:
        """The inputs of the case, or that they are not known."""
        return question_of(self.case) if self.case else self._unknown

    @property
    def expected(self) -> str:
        """The expected values of the case, one line each, or that they are not known."""
        return expected_of(self.case) if self.case else self._unknown

    @property
    def notes(self) -> tuple[CaseNote, ...]:
        """The open notes that the ground truth of this case is wrong; ConfigError for a damaged file."""
        verbs = self.context.verbs
        return tuple(n for n in verbs.notes() if n.case == self.id and n.is_open(self.case)) if verbs else ()

    def noted(self) -> tuple[str, ...]:
        """Return the open notes as lines, or the error with which they cannot be read."""
        try:
            return tuple(f"noted as wrong by {n.reviewer}, {n.at}: {n.reason}" for n in self.notes)
        except WorkbenchError as error:
            return (f"the notes cannot be read: {error}",)

    def reasons(self) -> tuple[str, ...]:
        """Return why the answers failed: unscored, score by score, and what prompt and answer lack."""
        return tuple(f"{answer.arm}: {text}" for answer in self.answers for text in self._reasons(answer))

    def _reasons(self, answer: ArmAnswer) -> Iterator[str]:
        if answer.error is not None:
            yield f"unscored, and not counted as zero: {answer.error}"
            return
        for name, score in answer.scores.items():
            worst = bool(score) if name in LOWER_IS_BETTER else score == 0
            if worst or (answer.failed and is_wrong(name, score)):  # of a right answer, only the worst scores
                yield f"{name} is {number(score)}; {'0' if name in LOWER_IS_BETTER else '1'} is best"
        if answer.failed and self.case is not None:
            for name, texts in expected_texts(self.case).items():
                yield from (
                    _page_reasons(answer, texts) if name == "page" else _text_reasons(answer, name, texts)
                )

    def why(self, arm: str | None = None, *, call: int = 0) -> Shown:
        """Return the origin of an arm's answer, by default the last arm's, as `ws.why` tells it.

        `call` counts the model's calls of the case. NotFoundError where their trace ids are not kept.
        """
        answer = self._answer(arm)
        if not 0 <= call < len(answer.traces):
            known = (
                f"it made {len(answer.traces)} calls of a model"
                if answer.traces
                else "no call of it is known"
            )
            raise NotFoundError(
                f"{answer.arm}, case {self.id}: {known} here",
                hint="only the process that made the run knows its calls: run the experiment again",
            )
        verbs = self.context.checked_verbs()
        return verbs.why(self.tenant, answer.traces[call], text=answer.text, passages=answer.passages or ())

    def add_to(self, file: str) -> AddedCase:
        """Add the case to a JSON lines file of the repository, which is created if missing; not twice."""
        return add_case(self.context.checked_verbs().root, file, self._known())

    def note(self, reason: str) -> CaseNote:
        """Note that the ground truth of this case is wrong, with the reason; `workbench check` tells it."""
        return self.context.checked_verbs().note(self._known(), reason)

    def card(self) -> Card:
        """Return the display card."""
        rows = [("question", _short(self.question)), ("expected", _short(self.expected))]
        for answer in self.answers:
            rows += [(answer.arm, _short(answer.text or "no answer")), ("", answer.score_text())]
            rows += [("", f"passages: {_passages_text(answer)}")]
        repeat = f" · repeat {self.repeat}" if self.repeat else ""
        return Card(
            title=f"{self.id} · {self.tenant}{repeat}", head=("", "text"), rows=rows,
            notes=[*self.reasons(), *self.noted()], command=f"result.case({quoted(self.id)}).why()",
        )  # fmt: skip

    @property
    def _unknown(self) -> str:
        return _NOT_KNOWN if self.context.verbs else _NOT_READ

    def _answer(self, arm: str | None) -> ArmAnswer:
        arms = {answer.arm: answer for answer in self.answers}
        if arm is not None and arm not in arms:
            raise NotFoundError(
                f"there is no arm {arm!r} ({nearest(arm, arms)})", hint=f"one of {list(arms)}"
            )
        return arms[arm] if arm is not None else self.answers[-1]

    def _known(self) -> Case:
        if self.case is None:
            raise NotFoundError(
                f"the content of case {self.id} is not known: its dataset is gone or has changed",
                hint="run the experiment again on the dataset as it is now",
            )
        return self.case


def answer_text(output: str | None) -> str:
    """Return an output of a run, which is JSON, as its text, else its only value, else indented JSON."""
    if output is None:
        return ""
    try:
        value: Any = orjson.loads(output)
    except orjson.JSONDecodeError:
        return output
    if isinstance(value, dict):
        value = value["text"] if isinstance(value.get("text"), str) else value
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def expected_texts(case: Case) -> dict[str, tuple[str, ...]]:
    """Return the expected values of a case that are texts or lists of texts, by name."""
    found = {}
    for name, value in case.expected.items():
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts):
            found[name] = tuple(texts)
    return found


def _text_reasons(answer: ArmAnswer, name: str, texts: Sequence[str]) -> Iterator[str]:
    shown = " | ".join(texts)[:200]
    said = any(mentions(answer.text[:_SEARCHED], text) for text in texts)
    if not said:
        yield f"the answer lacks the expected {name}: {shown}"
    if answer.passages:
        ranks = [
            f"{rank} ({hit.source})"
            for rank, hit in enumerate(answer.passages, start=1)
            if any(mentions(hit.text[:_SEARCHED], text) for text in texts)
        ]
        if ranks and not said:
            yield f"passage {', '.join(ranks[:3])} has it: the prompt held the answer"
        elif not ranks:
            yield f"no passage of the prompt has the expected {name}: look at search and documents"


def _page_reasons(answer: ArmAnswer, pages: Sequence[str]) -> Iterator[str]:
    sources = [hit.source for hit in answer.passages] if answer.passages else list(answer.sources)
    if sources and not set(pages).intersection(sources):
        yield f"page {' | '.join(pages)} is not among the passages: {', '.join(dict.fromkeys(sources))}"


def _passages_text(answer: ArmAnswer) -> str:
    if answer.passages is None:
        return ", ".join(answer.sources) + " (texts are not kept)" if answer.sources else _NOT_KEPT
    return "; ".join(f"{hit.source} v{hit.version} ({hit.score:.4f})" for hit in answer.passages) or "none"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … {len(text) - _SHOWN:,} more characters"
