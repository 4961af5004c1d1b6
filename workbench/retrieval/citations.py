"""Check an answer's citations: cited passages, unknown citations and uncited sentences.

A citation is `[1]` (the number of a passage, from 1), `[travel]` (its source), or several of them:
`[1, 3]`, `[1-3]`, `[1][travel]`. It belongs to the sentence around it or directly before it. A bracket
around several words that are not a source is no citation, and neither is a link, `[text](address)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workbench.types import Hit

_BRACKET = r"\[[^\[\]\n]+\](?!\()"
_MARK = re.compile(_BRACKET)
#: Ends at a line end, or at a full stop not followed by a lower-case word, with the citations after it.
_SENTENCE = re.compile(rf"\S.*?(?:[.!?]+[\"')”]*(?:\s*{_BRACKET})*(?=\s+[^\sa-z]|\s*$)|$)", re.MULTILINE)
_RANGE = re.compile(r"(\d{1,4})\s*[-–]\s*(\d{1,4})")  # noqa: RUF001 - people type both dashes
#: A source: one word, such as `travel`, or a page of a PDF, `report.pdf#page=3`.
_ONE_WORD = re.compile(r"\w[\w./:#@-]*(?:#page=\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citations:
    """The citations of an answer.

    `marks` are the citations in their order, with lists and ranges expanded; `unknown` are those that match
    no passage. `cited` are the passages, in the order of their first citation. `uncited` are the sentences
    that cite no passage; `sentences` is the number of all sentences.
    """

    marks: tuple[str, ...]
    unknown: tuple[str, ...]
    cited: tuple[Hit, ...] = field(repr=False)
    uncited: tuple[str, ...] = field(repr=False)
    sentences: int

    @property
    def precision(self) -> float | None:
        """Share of the citations that match a passage; None without citations."""
        return 1 - len(self.unknown) / len(self.marks) if self.marks else None

    @property
    def coverage(self) -> float | None:
        """Share of the sentences that cite a passage; None without sentences."""
        return 1 - len(self.uncited) / self.sentences if self.sentences else None

    @property
    def ok(self) -> bool:
        """Whether the answer has sentences, each cites a passage, and no citation is unknown."""
        return self.sentences > 0 and not self.unknown and not self.uncited


class Answered(Protocol):
    """The part of an experiment's outcome that `citation_precision` reads."""

    @property
    def text(self) -> str:
        """The answer."""

    @property
    def passages(self) -> Sequence[Hit]:
        """The passages its prompt carried, in the order of their numbers."""


def check(answer: str, passages: Sequence[Hit]) -> Citations:
    """Match the answer's citations with the passages of its prompt, numbered from 1.

    A number always means the passage of that number, even if a source has that name. A source's exact name
    means all its passages.
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
    """Return the share of the answer's citations that match a passage of its prompt; None without citations.

    Use it as a scorer: `scorer(citation_precision)`.
    """
    return check(outcome.text, outcome.passages).precision


def _sentences(answer: str) -> list[str]:
    """Return the sentences that contain a word; citations alone belong to the sentence before."""
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
    """Expand an ascending range into its numbers; return any other part unchanged."""
    ends = _RANGE.fullmatch(part)
    if ends is None or int(ends[1]) > int(ends[2]):
        return [part]
    return [str(number) for number in range(int(ends[1]), int(ends[2]) + 1)]


def _meant(mark: str, passages: Sequence[Hit]) -> dict[int, Hit]:
    """Return the passages that a citation means, by position from 0."""
    if mark.isascii() and mark.isdigit():
        place = int(mark) - 1 if len(mark) < 5 else -1
        return {place: passages[place]} if 0 <= place < len(passages) else {}
    return {place: hit for place, hit in enumerate(passages) if hit.source == mark}
