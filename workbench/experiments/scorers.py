"""Scorers: one number per case, from what the task returned and what the boundary saw.

A scorer returns None where it does not apply (recall without a search): such a case has no score,
which is not a score of zero.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.experiments.dataset import Case
from workbench.types import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What there is to score: the case, the task's output, the observations, the passages prompts carried."""

    case: Case
    output: Any
    records: Sequence[Mapping[str, Any]] = ()
    passages: Sequence[Hit] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The answer's text, however the task typed it."""
        return str(getattr(self.output, "text", self.output))

    @property
    def searches(self) -> list[list[Mapping[str, Any]]]:
        """The hits of each memory search, in order: `id`, `source`, `tenant`, `score`; never content."""
        return [list(r.get("hits") or ()) for r in self.records if r.get("operation") == "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A name and a function of an outcome."""

    name: str
    function: Callable[[Outcome], float | None]

    def __call__(self, outcome: Outcome) -> float | None:
        """The case's score; None where this scorer does not apply."""
        value = self.function(outcome)
        return None if value is None else float(value)


def scorer(function: Callable[[Outcome], float | None]) -> Scorer:
    """Make a function of an outcome a scorer of the same name."""
    return Scorer(name=function.__name__, function=function)


def normalise(text: str) -> str:
    """Lower case, NFKC, no punctuation at word edges, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(word for word in (w.strip(".,;:!?\"'()[]") for w in folded.split()) if word)


def exact(*, name: str = "exact", answers: str = "answers") -> Scorer:
    """1 when the whole answer is one of the accepted strings, after `normalise`."""

    def score(outcome: Outcome) -> float:
        said = normalise(outcome.text)
        return float(any(normalise(a) == said for a in outcome.case.expected[answers]))

    return Scorer(name=name, function=score)


def contains(*, name: str = "contains", answers: str = "answers") -> Scorer:
    """1 when an accepted string stands in the answer as whole words, after `normalise`."""

    def score(outcome: Outcome) -> float:
        said = f" {normalise(outcome.text)} "
        return float(any(f" {normalise(a)} " in said for a in outcome.case.expected[answers]))

    return Scorer(name=name, function=score)


def recall_at(k: int, *, page: str = "page") -> Scorer:
    """1 when the page that answers is among the first `k` hits of the first search; None without a search."""

    def score(outcome: Outcome) -> float | None:
        if not outcome.searches:
            return None
        found = [hit["source"] for hit in outcome.searches[0][:k]]
        return float(outcome.case.expected[page] in found)

    return Scorer(name=f"recall_at_{k}", function=score)


def grounded(*, name: str = "grounded") -> Scorer:
    """Share of the answer's words that stand in the passages the prompt carried; None without passages."""

    def score(outcome: Outcome) -> float | None:
        if not outcome.passages:
            return None
        words = re.findall(r"\w+", normalise(outcome.text))
        if not words:
            return 0.0
        there = set(re.findall(r"\w+", normalise(" ".join(hit.text for hit in outcome.passages))))
        return sum(word in there for word in words) / len(words)

    return Scorer(name=name, function=score)


def cross_tenant_hits(*, name: str = "cross_tenant_hits") -> Scorer:
    """How many hits of all searches belong to another tenant than the case's, as the boundary saw them."""

    def score(outcome: Outcome) -> float:
        hits = [hit for search in outcome.searches for hit in search]
        return float(sum(hit["tenant"] != outcome.case.tenant for hit in hits))

    return Scorer(name=name, function=score)
