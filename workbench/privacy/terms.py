"""Find the terms of a user's list in a text, whatever the length of the list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from workbench.privacy.shapes import Span


class Terms:
    """The terms of a list in the folded form, each with its kind, found by their first words."""

    __slots__ = ("_by_word", "_patterns")

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._by_word: dict[str, list[tuple[str, str]]] = {}
        for term, kind in sorted(kinds.items(), key=lambda item: (-len(item[0]), item[0])):
            self._by_word.setdefault(_WORD.findall(term.lower())[0], []).append((term.lower(), kind))
        self._patterns: dict[str, re.Pattern[str]] = {}

    def found(self, lower: str) -> Iterator[Span]:
        """Yield the terms of a folded text in lower case, the longest at each place."""
        if self._by_word.keys().isdisjoint(_WORD.findall(lower)):
            return
        for word in _WORD.finditer(lower):
            for term, kind in self._by_word.get(word[0], ()):
                match = self._pattern(term).match(lower, word.start())
                if match is not None:
                    yield match.start(), match.end(), kind
                    break

    def _pattern(self, term: str) -> re.Pattern[str]:
        if term not in self._patterns:
            written = r"\s+".join(map(re.escape, term.split()))
            self._patterns[term] = re.compile(rf"{written}(?!\w)")
        return self._patterns[term]


_WORD: Final = re.compile(r"\w+")
