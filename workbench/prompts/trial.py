"""A trial of a draft: the same cases by today's version and by the draft, and what flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.display import Card, Shown
from workbench.experiments.compare import ComparedMetric, Comparison
from workbench.experiments.dataset import Dataset
from workbench.files import parse_json
from workbench.prompts.prompt import Prompt

#: The arms of a trial.
TODAY, DRAFT = "today", "draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedCase:
    """A case whose first score differs: both answers, and whether the draft's is better."""

    case: str
    better: bool
    today: str
    draft: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrial(Shown):
    """The comparison of a draft with the version that it was begun from, over some cases."""

    prompt: Prompt
    base: str
    comparison: Comparison
    cases: Dataset = field(repr=False)
    flips: tuple[FlippedCase, ...] = field(repr=False)

    @classmethod
    def of(cls, prompt: Prompt, *, base: str, comparison: Comparison, cases: Dataset) -> PromptTrial:
        """Return the trial of a draft, with the cases whose first score differs, worse ones first."""
        first = comparison.lines[0]
        better = dict.fromkeys(first.worsened, False) | dict.fromkeys(first.improved, True)
        today, draft = (_answers(run.cases, [*better]) for run in (comparison.baseline, comparison.run))
        flips = tuple(
            FlippedCase(case=case, better=side, today=today.get(case, ""), draft=draft.get(case, ""))
            for case, side in better.items()
        )
        return cls(prompt=prompt, base=base, comparison=comparison, cases=cases, flips=flips)

    @property
    def first(self) -> ComparedMetric:
        """The primary metric."""
        return self.comparison.lines[0]

    @property
    def verdict(self) -> str:
        """What the trial says, in one line."""
        first, n = self.first, self.first.n
        if self.comparison.verdict in {"better", "worse"}:
            return f"{first.metric}: the draft is {self.comparison.verdict} than {self.base} on {n} cases"
        if not first.improved and not first.worsened:
            return f"{first.metric}: the same on all {n} cases; other cases may differ"
        more = f"; about {first.needed:,} more cases like these would decide" if first.needed else ""
        return f"{first.metric}: undecided, {n} cases are too few to decide{more}"

    def is_of_another_text(self, turns: Sequence[tuple[str, str]]) -> bool:
        """Return whether these turns differ from those that were run."""
        return [(role, text.strip("\n")) for role, text in turns] != list(self.prompt.turns)

    def card(self) -> Card:
        """Return the comparison's card, with what the trial says as its first note."""
        card = self.comparison.card()
        return Card(
            title=card.title, verdict=card.verdict, head=card.head, rows=card.rows,
            notes=(self.verdict, *card.notes), command='editor.save(reason="…")',
        )  # fmt: skip


def _answers(rows: Any, chosen: list[str]) -> dict[str, str]:
    """Return the answers of these cases as texts: the field `text` of one, or its JSON."""
    kept = rows.filter(rows["case"].is_in(chosen)).select("case", "output", "error")
    return {row["case"]: _text(row["output"], row["error"]) for row in kept.to_dicts()}


def _text(output: str | None, error: str | None) -> str:
    if output is None:
        return error or ""
    value = parse_json(output, where="the answer")
    if isinstance(value, dict):
        value = value.get("text", value)
    return value if isinstance(value, str) else output
