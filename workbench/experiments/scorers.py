"""Scorers: one number per case, from what the task returned and what the boundary saw.

A scorer returns None where it does not apply (recall without a search): such a case has no score,
which is not a score of zero.
"""

from __future__ import annotations

import math
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
    """Share of the pages that answer which are among the first `k` hits of the first search.

    With one such page, 1 or 0. None without a search, and where no page answers.
    """

    def score(outcome: Outcome) -> float | None:
        found = _relevant(outcome, k, page)
        return None if found is None else sum(found[0]) / found[1]

    return Scorer(name=f"recall_at_{k}", function=score)


def ndcg_at(k: int, *, page: str = "page") -> Scorer:
    """How near the top the pages that answer stand among the first `k` hits of the first search, 0 to 1.

    Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen, ACM TOIS
    20(4), 2002; discount log2(1 + rank), as Burges et al., ICML 2005). Only a page's first hit counts. 1 when
    the pages come first. None without a search, and where no page answers.
    """

    def score(outcome: Outcome) -> float | None:
        found = _relevant(outcome, k, page)
        if found is None:
            return None
        ideal = [True] * min(k, found[1])
        return _discounted(found[0]) / _discounted(ideal)

    return Scorer(name=f"ndcg_at_{k}", function=score)


def _relevant(outcome: Outcome, k: int, page: str) -> tuple[list[bool], int] | None:
    """For each of the first `k` hits, whether it is the first of a page that answers; how many such pages."""
    if not outcome.searches:
        return None
    expected = outcome.case.expected[page]
    pages = {expected} if isinstance(expected, str) else set(expected)
    if not pages:
        return None
    sources = [hit["source"] for hit in outcome.searches[0][:k]]
    return [s in pages and s not in sources[:rank] for rank, s in enumerate(sources)], len(pages)


def _discounted(gains: Sequence[bool]) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


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
