"""Find cases whose text stands in what answers are made from: examples in prompts, and solved examples.

A right answer to such a case may be copied, so it shows nothing. A text stands in another one when both are
equal after `normalise`, when five of its words or more are a part of it, or when their sets of three-word
shingles have a Jaccard similarity of `NEAR` or more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import files
from workbench.data.shingles import Shingle, SimilarityIndex, shingles_of
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Case
from workbench.experiments.matching import normalise

#: The file beside the prepared cases.
FILE = "contamination.json"
#: The Jaccard similarity from which two texts count as nearly the same.
NEAR = 0.8
#: The words of a case that are no coincidence inside a longer text.
_LEAST_PART = 5
#: The cases that a sentence names.
_NAMED = 3
#: The places of a template that inputs fill.
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

#: Letters that are seen as nothing; accents, without the marks that are vowels of other scripts; and letters
#: of other scripts that are seen as Latin ones.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_ACCENTS = frozenset(map(chr, range(0x300, 0x370)))
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405"
    "\u03bf\u03b1\u03bd\u03c1\u03b9\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d"
    "\u039f\u03a1\u03a4\u03a5\u03a7\u0131\u0251\u0261",
    "aeopcyxijsdhqwABEKMHOPCTXIJSoavpiABEZHIKMNOPTYXiag",
)


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
    rarest shingles among their own rarest, so that thousands of cases and of examples take seconds.
    """
    index = _ExampleIndex.of(examples, threshold)
    given = list(cases)
    found = []
    for case in given:
        words = _words_of(_text(case))
        best = index.best(words, case.tenant) if words else None
        if best is not None:
            found.append(ContaminatedCase(case=case.id, where=best[0].where, similarity=best[1]))
    ordered = tuple(sorted(found, key=lambda item: item.case))
    return Contamination(cases=ordered, n_cases=len(given), n_examples=len(examples), threshold=threshold)


def _text(case: Case) -> str:
    return max(_texts(list(case.inputs.values())), key=len, default="")


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of an input, which may be a list or an object, such as the turns of a chat."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _words_of(text: str) -> str:
    """Return the words of a text as people see them: no invisible signs, no accents, no look-alikes.

    The answers of a gate are compared more strictly, because an accent or another letter makes them wrong.
    """
    if text.isascii():
        return normalise(text)
    seen = (
        sign
        for sign in unicodedata.normalize("NFKD", text)
        if unicodedata.category(sign) != "Cf" and sign not in _INVISIBLE and sign not in _ACCENTS
    )
    return normalise("".join(seen).translate(_LOOKALIKES))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExampleIndex:
    """Examples by their normalised text, by each of their shingles, and by their similarity."""

    examples: Sequence[Example]
    words: Sequence[str]
    equal: Mapping[str, Sequence[int]]
    having: Mapping[Shingle, Sequence[int]]
    similar: SimilarityIndex[Shingle]

    @classmethod
    def of(cls, examples: Sequence[Example], threshold: float) -> _ExampleIndex:
        """Build the index."""
        words = [_words_of(example.text) for example in examples]
        sets = [shingles_of(text.split()) for text in words]
        equal: dict[str, list[int]] = defaultdict(list)
        having: dict[Shingle, list[int]] = defaultdict(list)
        for number, (text, shingles) in enumerate(zip(words, sets, strict=True)):
            equal[text].append(number)
            for shingle in shingles:
                having[shingle].append(number)
        similar: SimilarityIndex[Shingle] = SimilarityIndex(threshold)
        for number, shingles in enumerate(sets):
            similar.add(number, _rarest(shingles, having))
        return cls(examples=examples, words=words, equal=equal, having=having, similar=similar)

    def best(self, words: str, tenant: str) -> tuple[Example, float] | None:
        """Return the example in which a normalised text stands, with their similarity; None without one.

        Of several similar ones it is the most similar, and of equal ones the first.
        """
        same = next(self._own(self.equal.get(words, ()), tenant), None)
        if same is not None:
            return self.examples[same], 1.0
        rarest = _rarest(shingles_of(words.split()), self.having)
        if words.count(" ") >= _LEAST_PART - 1:
            around = self._own(self.having.get(rarest[0], ()), tenant)
            part = next((number for number in around if f" {words} " in f" {self.words[number]} "), None)
            if part is not None:
                return self.examples[part], 1.0
        found = dict(self.similar.similar(rarest))
        nearest = min(self._own(found, tenant), key=lambda number: (-found[number], number), default=None)
        return None if nearest is None else (self.examples[nearest], found[nearest])

    def _own(self, numbers: Iterable[int], tenant: str) -> Iterator[int]:
        return (number for number in numbers if self.examples[number].tenant in {"", tenant})


def _rarest(shingles: Collection[Shingle], having: Mapping[Shingle, Sequence[int]]) -> list[Shingle]:
    """Return shingles in the order of the number of examples that have them, fewest first."""
    return sorted(shingles, key=lambda shingle: (len(having.get(shingle, ())), shingle))
