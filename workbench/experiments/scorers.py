"""Scorers: functions from a case's outcome to a number.

A scorer returns None for a case outside its scope, such as recall without a search. The case then has
no score, as opposed to a score of zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench import files
from workbench.errors import ConfigError, InvalidOutputError
from workbench.experiments.dataset import Case
from workbench.experiments.matching import equals, mentions, normalise
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
        """The output's `text`, as an attribute or a key, or else the output as a string."""
        if isinstance(self.output, dict):
            return str(self.output.get("text", self.output))
        return str(getattr(self.output, "text", self.output))

    @property
    def searches(self) -> list[list[Mapping[str, Any]]]:
        """The hits of each memory search, in order: `id`, `source`, `tenant`, `score`; never content."""
        return [list(r.get("hits") or ()) for r in self.records if r.get("operation") == "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A named function from an outcome to a score.

    `check` raises ConfigError for a case that cannot be scored; an experiment calls it before the first case.
    """

    name: str
    function: Callable[[Outcome], float | None]
    check: Callable[[Case], object] | None = field(default=None, repr=False)

    def __call__(self, outcome: Outcome) -> float | None:
        """Return the case's score; None when the scorer does not apply.

        Raises InvalidOutputError when the function returns anything but a number or None.
        """
        value: Any = self.function(outcome)
        if value is None:
            return None
        if not isinstance(value, str | bytes):  # float() reads texts, also "nan"
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return float(value)
        raise InvalidOutputError(f"scorer {self.name} returned {type(value).__name__}, not a 64-bit number")


class JudgedObject(Mapping[str, Any]):
    """A read-only JSON object that gives its keys as attributes too, as the task's dataclass does.

    A key takes precedence over a method of the same name: `output.items` is the value of the key "items".
    A key that begins with `_` is no attribute.
    """

    __slots__ = ("_values",)
    _values: Mapping[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._values:
            return self._values[name]
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a judged output is read-only: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a judged output is read-only: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, JudgedObject):
            return self._values == other._values
        return isinstance(other, Mapping) and self._values == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._values)


def judged_output(value: Any) -> Any:
    """Return a value of JSON in the form that scorers read: objects as `JudgedObject`, arrays as tuples."""
    if isinstance(value, Mapping):
        return JudgedObject({key: judged_output(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(judged_output(item) for item in value)
    return value


def scorer(function: Callable[[Outcome], float | None]) -> Scorer:
    """Return a scorer with the name of `function`."""
    return Scorer(name=function.__name__, function=function)


def accepted_texts(case: Case, name: str) -> tuple[str, ...]:
    """Return the texts of the expected value `name`: one text, or a list of texts.

    Raises ConfigError when the case has no such value or it is anything else, such as a number.
    """
    value = case.expected.get(name)
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        found = "missing" if value is None else type(value).__name__
        raise ConfigError(
            f"case {case.id}: expected value {name!r} must be a text or a list of texts, found {found}",
            hint=f'write "{name}": ["a text that is accepted", "another one"] into the case',
        )
    return tuple(texts)


def exact(*, name: str = "exact", answers: str = "answers") -> Scorer:
    """Return a scorer: 1 when the answer equals an accepted text, else 0; `matching.equals` compares them.

    The answer is the field `answers` of a typed output that has it, else the output's text: with
    `answers="label"`, `Route(label="billing")` and the text "billing" are the same answer.
    """
    return _matching(equals, name, answers)


def contains(*, name: str = "contains", answers: str = "answers") -> Scorer:
    """Return a scorer: 1 when the answer contains an accepted text as whole words, else 0.

    `matching.mentions` compares them: markup, case, quotes and outer punctuation do not count. The answer is
    read as by `exact`.
    """
    return _matching(mentions, name, answers)


def _matching(matches: Callable[[str, str], bool], name: str, answers: str) -> Scorer:
    def accepted(case: Case) -> tuple[str, ...]:
        texts = accepted_texts(case, answers)
        for text in texts:
            if not normalise(text):
                raise ConfigError(
                    f"case {case.id}: {answers!r} accepts {text!r}, which has no letter or digit",
                    hint="write the words that an answer must have",
                )
        return texts

    def score(outcome: Outcome) -> float:
        said = _answer(outcome, answers)
        return float(any(matches(said, text) for text in accepted(outcome.case)))

    return Scorer(name=name, function=score, check=accepted)


def _answer(outcome: Outcome, column: str) -> str:
    """Return the output's field of this name, other values than texts as JSON, or else its text."""
    output = outcome.output
    if isinstance(output, Mapping) and column in output:
        value = output[column]
    elif dataclasses.is_dataclass(output) and column in {f.name for f in dataclasses.fields(output)}:
        value = getattr(output, column)
    else:
        return outcome.text
    return value if isinstance(value, str) else files.canonical(value).decode()


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
    pages = set(accepted_texts(outcome.case, page))
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
