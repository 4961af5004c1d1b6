"""Find cases whose text stands in what answers are made from: examples in prompts, and solved examples.

A right answer to such a case may be copied, so it shows nothing. A text stands in another one when both are
equal after `normalise`, when five of its words or more are a part of it, or when their sets of three-word
shingles have a Jaccard similarity of `NEAR` or more.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Case
from workbench.experiments.matching import normalise

#: The file beside the prepared cases.
FILE = "contamination.json"
#: The Jaccard similarity from which two texts count as nearly the same.
NEAR = 0.8
_WORDS = 3
#: The words of a case that are no coincidence inside a longer text.
_LEAST_PART = 5
#: What rounding adds to a product of floats.
_NOISE = 1e-9
#: The cases that a sentence names.
_NAMED = 3
#: The places of a template that inputs fill.
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

Shingle = tuple[str, ...]
Shingles = frozenset[Shingle]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text that an answer may be copied from. `where` names its place, `tenant` is "" for every tenant."""

    where: str
    text: str
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminatedCase:
    """A case, the place of the example in which its text stands, and their similarity from 0 to 1."""

    case: str
    where: str
    similarity: float

    def __str__(self) -> str:
        return f"{self.case} ({self.where}, {self.similarity:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """The contaminated cases of a dataset, sorted by id, each with its most similar example.

    `n_cases` is the number of cases that were compared, and `n_examples` that of the examples.
    """

    cases: tuple[ContaminatedCase, ...] = field(repr=False)
    n_cases: int
    n_examples: int
    threshold: float = NEAR

    def of_cases(self, ids: Collection[str]) -> Contamination:
        """Return the contamination of the cases with these ids alone."""
        known = frozenset(ids)
        kept = tuple(item for item in self.cases if item.case in known)
        return Contamination(
            cases=kept, n_cases=len(known), n_examples=self.n_examples, threshold=self.threshold
        )

    @property
    def text(self) -> str:
        """The sentence for cards, pages and warnings, with the first cases; "" when there are none."""
        if not self.cases:
            return ""
        named = "; ".join(str(item) for item in self.cases[:_NAMED])
        more = f"; {len(self.cases) - _NAMED} more" * (len(self.cases) > _NAMED)
        counted = f"{len(self.cases)} of {self.n_cases} cases"
        return f"{counted} stand in examples that answers are made from: {named}{more}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with similarities rounded to 4 decimals."""
        rows = [
            {"case": item.case, "where": item.where, "similarity": round(item.similarity, 4)}
            for item in self.cases
        ]
        counts = {"n_cases": self.n_cases, "n_examples": self.n_examples, "threshold": self.threshold}
        return {"contaminated": rows, **counts}

    @classmethod
    def of_file(cls, path: Path) -> Contamination | None:
        """Return what the stage `prepare` wrote to `path`; None when the file does not exist."""
        try:
            text = files.read_text(path)
        except NotFoundError:
            return None
        return cls.from_json(files.parse_json(text, where=str(path)), where=str(path))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, where: str) -> Contamination:
        """Return what `to_json` wrote; ConfigError, which names `where`, for anything else."""
        try:
            cases = tuple(ContaminatedCase(**row) for row in raw["contaminated"])
            counts = {name: raw[name] for name in ("n_cases", "n_examples", "threshold")}
            return cls(cases=cases, **counts)
        except (KeyError, TypeError):
            raise ConfigError(f"{where} is not a list of contaminated cases", hint="dvc repro") from None


def of_turn(where: str, text: str) -> list[Example]:
    """Return a turn of a prompt as examples: the turn without its filled places, its lines, and their texts.

    A line such as `Question: Who pays?` counts with and without its label.
    """
    plain = _FILLED.sub("\n", text)
    lines = [line.strip() for line in plain.splitlines()]
    parts = [plain, *lines, *(line.partition(":")[2] for line in lines)]
    return [Example(where=where, text=part) for part in dict.fromkeys(map(str.strip, parts)) if part]


def find(cases: Iterable[Case], examples: Sequence[Example], *, threshold: float = NEAR) -> Contamination:
    """Return the cases whose text stands in one of the examples of their tenant.

    The text of a case is the longest of its inputs. A case is compared with the examples that have one of its
    rarest shingles among their own rarest (the prefix filter of similarity joins), so that thousands of cases
    and of examples take seconds.
    """
    index = _ExampleIndex.of(examples, threshold)
    given = list(cases)
    found = []
    for case in given:
        words = normalise(_text(case))
        best = index.best(words, case.tenant) if words else None
        if best is not None:
            found.append(ContaminatedCase(case=case.id, where=best[0].where, similarity=best[1]))
    ordered = tuple(sorted(found, key=lambda item: item.case))
    return Contamination(cases=ordered, n_cases=len(given), n_examples=len(examples), threshold=threshold)


def _text(case: Case) -> str:
    texts = [value for value in case.inputs.values() if isinstance(value, str)]
    return max(texts, key=len, default="")


def _shingles(words: str) -> Shingles:
    """Return the runs of three words of a normalised text; a shorter text is one run."""
    parts = words.split()
    if len(parts) <= _WORDS:
        return frozenset([tuple(parts)])
    return frozenset(zip(*(parts[start:] for start in range(_WORDS)), strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExampleIndex:
    """Examples by their normalised text, by each shingle, and by each of their own rarest shingles."""

    examples: Sequence[Example]
    threshold: float
    words: Sequence[str]
    sets: Sequence[Shingles]
    equal: Mapping[str, Sequence[int]]
    having: Mapping[Shingle, Sequence[int]]
    led_by: Mapping[Shingle, Sequence[tuple[int, int]]]

    @classmethod
    def of(cls, examples: Sequence[Example], threshold: float) -> _ExampleIndex:
        """Build the index."""
        words = [normalise(example.text) for example in examples]
        sets = [_shingles(text) if text else frozenset[Shingle]() for text in words]
        equal: dict[str, list[int]] = defaultdict(list)
        having: dict[Shingle, list[int]] = defaultdict(list)
        led_by: dict[Shingle, list[tuple[int, int]]] = defaultdict(list)
        for number, (text, shingles) in enumerate(zip(words, sets, strict=True)):
            equal[text].append(number)
            for shingle in shingles:
                having[shingle].append(number)
        for number, shingles in enumerate(sets):
            prefix = _rarest(shingles, having)[: _prefix(len(shingles), threshold)]
            for position, shingle in enumerate(prefix):
                led_by[shingle].append((number, position))
        return cls(
            examples=examples, threshold=threshold, words=words, sets=sets, equal=equal, having=having,
            led_by=led_by,
        )  # fmt: skip

    def best(self, words: str, tenant: str) -> tuple[Example, float] | None:
        """Return the example in which a normalised text stands, with their similarity; None without one."""
        same = next(self._own(self.equal.get(words, ()), tenant), None)
        if same is not None:
            return self.examples[same], 1.0
        shingles = _shingles(words)
        rarest = _rarest(shingles, self.having)
        if words.count(" ") >= _LEAST_PART - 1:
            around = self._own(self.having.get(rarest[0], ()), tenant)
            part = next((number for number in around if f" {words} " in f" {self.words[number]} "), None)
            if part is not None:
                return self.examples[part], 1.0
        return self._nearest(shingles, rarest, tenant)

    def _nearest(
        self, shingles: Shingles, rarest: Sequence[Shingle], tenant: str
    ) -> tuple[Example, float] | None:
        """Return the most similar example at the threshold or above, the first of equal ones."""
        size, best, found = len(shingles), self.threshold - _NOISE, None
        for number in self._own(self._candidates(rarest), tenant):
            other = self.sets[number]
            common = len(shingles & other)
            similarity = common / (size + len(other) - common)
            if similarity > best:
                best, found = similarity, number
        return None if found is None else (self.examples[found], best)

    def _candidates(self, rarest: Sequence[Shingle]) -> list[int]:
        """Return the examples that may be similar enough to a set with these shingles, in order.

        The shingles behind the first common one bound how many are common (the positional filter).
        """
        size, tried, found = len(rarest), set[int](), []
        for place, shingle in enumerate(rarest[: _prefix(size, self.threshold)]):
            for number, position in self.led_by.get(shingle, ()):
                if number in tried:
                    continue
                tried.add(number)
                other = len(self.sets[number])
                most = min(size - place, other - position)
                if most * (1 + self.threshold) >= self.threshold * (size + other) - _NOISE:
                    found.append(number)
        return sorted(found)

    def _own(self, numbers: Iterable[int], tenant: str) -> Iterator[int]:
        return (number for number in numbers if self.examples[number].tenant in {"", tenant})


def _rarest(shingles: Shingles, having: Mapping[Shingle, Sequence[int]]) -> list[Shingle]:
    """Return shingles in the order of the number of examples that have them, fewest first."""
    return sorted(shingles, key=lambda shingle: (len(having.get(shingle, ())), shingle))


def _prefix(size: int, threshold: float) -> int:
    """Return how many of a set's first shingles hold one of every set that is similar enough.

    Of `size` shingles such a set has `ceil(threshold * size)`, so it lacks fewer than the number returned.
    """
    return size - math.ceil(threshold * size - _NOISE) + 1
