"""Find values again in other texts, and replace parts of a text."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

_WORD: Final = re.compile(r"\w+")
#: A shorter value is not searched for in other texts.
_SHORTEST: Final = 3
#: Values that are counted one by one before the words of a text are read.
_FEW: Final = 16


class Range(Protocol):
    """A half-open range of characters in a text."""

    @property
    def start(self) -> int:
        """The first character."""

    @property
    def end(self) -> int:
        """The character after the last."""


R = TypeVar("R", bound=Range)
#: Returns what stands for a value, or None to leave it.
Replacement = Callable[[str, R], "str | None"]
#: Start, end, value, and what was found where the value was met first.
Occurrence = tuple[int, int, str, R]


def occurrences(text: str, own: Iterable[R], values: Mapping[str, R]) -> Sequence[Occurrence[R]]:
    """Return where values are in a text, sorted and without overlap: the ranges `own`, then known values.

    A known value counts where no letter or digit continues it.
    """
    found: list[Occurrence[R]] = [(item.start, item.end, text[item.start : item.end], item) for item in own]
    if values and _has_more(text, found, values):
        starts, ends = [place[0] for place in found], [place[1] for place in found]
        for place in _met(text, values):
            before = bisect.bisect_left(starts, place[1])  # own ranges that begin before the place ends
            if before == 0 or ends[before - 1] <= place[0]:
                found.append(place)
    return sorted(found, key=lambda place: place[0])


def replaced(text: str, places: Sequence[Occurrence[R]], replacement: Replacement[R]) -> str:
    """Return a text with the places replaced; the same object if every replacement is None."""
    parts, at = list[str](), 0
    for start, end, value, item in places:
        new = replacement(value, item)
        if new is not None:
            parts += (text[at:start], new)
            at = end
    return "".join((*parts, text[at:])) if parts else text


def _has_more(text: str, found: Sequence[Occurrence[R]], values: Mapping[str, R]) -> bool:
    """Return whether a text may hold a value outside of what was found; true for many values."""
    if len(values) > _FEW:
        return True
    own = [value for _, _, value, _ in found]
    return any(text.count(value) > own.count(value) for value in values if len(value) >= _SHORTEST)


def _met(text: str, values: Mapping[str, R]) -> Iterator[Occurrence[R]]:
    """Yield each known value in a text, the longest first where two begin with one word."""
    first_words: dict[str, list[tuple[int, str]]] = {}
    for value in values:
        word = _WORD.search(value)
        if word is not None and len(value) >= _SHORTEST:
            first_words.setdefault(word[0], []).append((word.start(), value))
    for group in first_words.values():
        group.sort(key=lambda pair: -len(pair[1]))
    end = 0
    for word in _WORD.finditer(text):
        for offset, value in first_words.get(word[0], ()):
            start = word.start() - offset
            stop = start + len(value)
            if start >= end and text.startswith(value, start) and not _continues(text, stop):
                yield start, stop, value, values[value]
                end = stop
                break


def _continues(text: str, at: int) -> bool:
    return at < len(text) and text[at].isalnum() and text[at - 1].isalnum()
