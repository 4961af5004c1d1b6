"""Scorers: functions from a case's outcome to a number.

A scorer returns None for a case outside its scope, such as recall without a search. The case then has
no score, as opposed to a score of zero.
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
    """A scorer's input: the case, the task's output, the observation records and the prompts' passages."""

    case: Case
    output: Any
    records: Sequence[Mapping[str, Any]] = ()
    passages: Sequence[Hit] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The output's `text` attribute, or the output as a string."""
        return str(getattr(self.output, "text", self.output))

    @property
    def searches(self) -> list[list[Mapping[str, Any]]]:
        """The hits of each memory search, in order: `id`, `source`, `tenant`, `score`; never content."""
        return [list(r.get("hits") or ()) for r in self.records if r.get("operation") == "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A named function from an outcome to a score."""

    name: str
    function: Callable[[Outcome], float | None]

    def __call__(self, outcome: Outcome) -> float | None:
        """Return the case's score; None when the scorer does not apply."""
        value = self.function(outcome)
        return None if value is None else float(value)


def scorer(function: Callable[[Outcome], float | None]) -> Scorer:
    """Return a scorer with the name of `function`."""
    return Scorer(name=function.__name__, function=function)


def normalise(text: str) -> str:
    """Return `text` in NFKC and lower case, without punctuation at word edges, with single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(word for word in (w.strip(".,;:!?\"'()[]") for w in folded.split()) if word)


def exact(*, name: str = "exact", answers: str = "answers") -> Scorer:
    """Return a scorer: 1 when the answer equals an accepted string after `normalise`, else 0."""

    def score(outcome: Outcome) -> float:
        answer = normalise(outcome.text)
        return float(any(normalise(a) == answer for a in outcome.case.expected[answers]))

    return Scorer(name=name, function=score)


def contains(*, name: str = "contains", answers: str = "answers") -> Scorer:
    """Return a scorer: 1 when the answer contains an accepted string as whole words, else 0.

    `normalise` applies to both sides.
    """

    def score(outcome: Outcome) -> float:
        answer = f" {normalise(outcome.text)} "
        return float(any(f" {normalise(a)} " in answer for a in outcome.case.expected[answers]))

    return Scorer(name=name, function=score)


def recall_at(k: int, *, page: str = "page") -> Scorer:
    """Return a scorer: the share of relevant pages among the first `k` hits of the first search.

    The score is None without a search and for a case without a relevant page.
    """

    def score(outcome: Outcome) -> float | None:
        found = _relevant(outcome, k, page)
        return None if found is None else sum(found[0]) / found[1]

    return Scorer(name=f"recall_at_{k}", function=score)


def ndcg_at(k: int, *, page: str = "page") -> Scorer:
    """Return a scorer: NDCG of the first `k` hits of the first search, from 0 to 1.

    Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen, ACM TOIS
    20(4), 2002; discount log2(1 + rank), as Burges et al., ICML 2005). Only a page's first hit counts.
    The score is None without a search and for a case without a relevant page.
    """

    def score(outcome: Outcome) -> float | None:
        found = _relevant(outcome, k, page)
        if found is None:
            return None
        ideal = [True] * min(k, found[1])
        return _discounted(found[0]) / _discounted(ideal)

    return Scorer(name=f"ndcg_at_{k}", function=score)


def _relevant(outcome: Outcome, k: int, page: str) -> tuple[list[bool], int] | None:
    """Return a flag per hit (first hit of a relevant page) and the number of relevant pages, or None."""
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
    """Return a scorer: the share of the answer's words in the prompt's passages; None without passages."""

    def score(outcome: Outcome) -> float | None:
        if not outcome.passages:
            return None
        words = re.findall(r"\w+", normalise(outcome.text))
        if not words:
            return 0.0
        supported = set(re.findall(r"\w+", normalise(" ".join(hit.text for hit in outcome.passages))))
        return sum(word in supported for word in words) / len(words)

    return Scorer(name=name, function=score)


def cross_tenant_hits(*, name: str = "cross_tenant_hits") -> Scorer:
    """Return a scorer: the number of recorded hits that belong to another tenant than the case's."""

    def score(outcome: Outcome) -> float:
        hits = [hit for search in outcome.searches for hit in search]
        return float(sum(hit["tenant"] != outcome.case.tenant for hit in hits))

    return Scorer(name=name, function=score)
