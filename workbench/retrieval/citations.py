"""Which passages an answer cites, which of its citations point at nothing, and which sentences have none.

A citation is `[1]` (the number of a passage, from 1), `[travel]` (its source), or several of them:
`[1, 3]`, `[1-3]`, `[1][travel]`. It belongs to the sentence it stands in, or right behind. A bracket
around several words that are no source is no citation, nor is a link, `[text](address)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workbench.types import Hit

_BRACKET = r"\[[^\[\]\n]+\](?!\()"
_MARK = re.compile(_BRACKET)
#: To the end of a line, or to a full stop that no lower-case word follows; citations behind it belong to it.
_SENTENCE = re.compile(rf"\S.*?(?:[.!?]+[\"')”]*(?:\s*{_BRACKET})*(?=\s+[^\sa-z]|\s*$)|$)", re.MULTILINE)
_RANGE = re.compile(r"(\d{1,4})\s*[-–]\s*(\d{1,4})")  # noqa: RUF001 - people type both dashes
_ONE_WORD = re.compile(r"\w[\w./:#@-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citations:
    """What an answer's citations point at.

    `marks` are the citations in the order they stand there, a list or a range taken apart; `unknown`
    are those that point at no passage. `cited` are passages, in the order of their first citation.
    `uncited` are sentences without a citation of a passage, out of `sentences` in all.
    """

    marks: tuple[str, ...]
    unknown: tuple[str, ...]
    cited: tuple[Hit, ...] = field(repr=False)
    uncited: tuple[str, ...] = field(repr=False)
    sentences: int

    @property
    def precision(self) -> float | None:
        """Share of the citations that point at a passage; None without any."""
        return 1 - len(self.unknown) / len(self.marks) if self.marks else None

    @property
    def coverage(self) -> float | None:
        """Share of the sentences that cite a passage; None without any."""
        return 1 - len(self.uncited) / self.sentences if self.sentences else None

    @property
    def ok(self) -> bool:
        """Whether there is something said, every sentence cites, and no citation points at nothing."""
        return self.sentences > 0 and not self.unknown and not self.uncited


class Answered(Protocol):
    """What `citation_precision` reads of an experiment's outcome."""

    @property
    def text(self) -> str:
        """The answer."""

    @property
    def passages(self) -> Sequence[Hit]:
        """The passages its prompt carried, in the order of their numbers."""


def check(answer: str, passages: Sequence[Hit]) -> Citations:
    """The answer's citations against the passages that its prompt carried, numbered from 1.

    A number means the passage of that number, whatever a source is called; a source's name, exactly
    as written, means every passage of it.
    """
    marks: list[str] = []
    unknown: list[str] = []
    cited: dict[int, Hit] = {}
    uncited: list[str] = []
    sentences = _sentences(answer)
    for sentence in sentences:
        found: dict[int, Hit] = {}
        for mark in _marks(sentence, {hit.source for hit in passages}):
            meant = _meant(mark, passages)
            marks.append(mark)
            found |= meant
            if not meant:
                unknown.append(mark)
        if not found:
            uncited.append(sentence)
        cited |= {place: hit for place, hit in found.items() if place not in cited}
    return Citations(
        marks=tuple(marks),
        unknown=tuple(unknown),
        cited=tuple(cited.values()),
        uncited=tuple(uncited),
        sentences=len(sentences),
    )


def citation_precision(outcome: Answered) -> float | None:
    """Share of the answer's citations that point at a passage its prompt carried; None without any.

    A scorer as `scorer(citation_precision)`.
    """
    return check(outcome.text, outcome.passages).precision


def _sentences(answer: str) -> list[str]:
    """Sentences that say something; what is only citations belongs to the one before."""
    found: list[str] = []
    for match in _SENTENCE.finditer(answer):
        text = match[0].strip()
        if re.search(r"\w", _MARK.sub("", text)):
            found.append(text)
        elif found and _MARK.search(text):
            found[-1] = f"{found[-1]} {text}"
    return found


def _marks(sentence: str, sources: set[str]) -> Iterator[str]:
    for match in _MARK.finditer(sentence):
        inside = match[0][1:-1].strip()
        parts = [inside] if inside in sources else [part.strip() for part in re.split(r"[,;]", inside)]
        if all(part in sources or _RANGE.fullmatch(part) or _ONE_WORD.fullmatch(part) for part in parts):
            for part in parts:
                yield from [part] if part in sources else _each(part)


def _each(part: str) -> list[str]:
    """The numbers of a range that goes up; anything else as it is."""
    ends = _RANGE.fullmatch(part)
    if ends is None or int(ends[1]) > int(ends[2]):
        return [part]
    return [str(number) for number in range(int(ends[1]), int(ends[2]) + 1)]


def _meant(mark: str, passages: Sequence[Hit]) -> dict[int, Hit]:
    """The passages that a citation means, by their places from 0."""
    if mark.isascii() and mark.isdigit():
        place = int(mark) - 1 if len(mark) < 5 else -1
        return {place: passages[place]} if 0 <= place < len(passages) else {}
    return {place: hit for place, hit in enumerate(passages) if hit.source == mark}
