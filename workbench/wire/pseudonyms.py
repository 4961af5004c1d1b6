"""Pseudonyms of one request, such as `<PERSON_1>`: give them, and put the values back into an answer."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

#: How a kind is written in a pseudonym.
_NOT_IN_NAME: Final = re.compile(r"[^A-Z]+")
#: What a model may make of a pseudonym: another case, other brackets, no brackets, another separator.
_LIKE: Final = r"[<\[({{«]?\s?(?<![A-Za-z0-9])({kinds})\\?[ _-]?(\d{{1,6}})(?!\d)\s?[>\])}}»]?"
#: Spellings of `<` and `>` within JSON, and a pseudonym in any of them.
_OPEN: Final = ("<", "\\u003c", "\\u003C")
_CLOSE: Final = (">", "\\u003e", "\\u003E")
_PSEUDONYM: Final = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z_]{0,62}_\d{1,9})(?:>|\\u003[eE])")
_DIGIT: Final = re.compile(r"\d")
_BODY: Final = re.compile(r"[A-Z_0-9]*")
#: Hexadecimal digits as letters that make no word.
_LETTERS: Final = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
#: How JSON begins, also in a fence of Markdown; a quotation mark and the backslashes before it; an escape.
_JSON: Final = re.compile(r'\s*(?:```\w*\s*)?(?:\{\s*["}]|\[\s*["{\[\]])')
_QUOTE: Final = re.compile(r'(?<!\\)(\\*)"')
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
#: JSON within a text of JSON is read so deep.
_DEEPEST: Final = 4
#: No spelling of a pseudonym is longer.
_LONGEST: Final = 90


def mask(kind: str) -> str:
    """Return what stands for a masked value of a kind, such as `[EMAIL]`."""
    return f"[{_name(kind)}]"


def json_depth(before: str, *, as_json: bool = False) -> int:
    """Return in how many texts of JSON, each within the other, the end of a text stands.

    With `as_json` the text is JSON whatever it begins with, and its end is in at least one.
    """
    depth = 0
    while depth < _DEEPEST and (as_json or _JSON.match(before)):
        quotes = [found.start() for found in _QUOTE.finditer(before) if len(found[1]) % 2 == 0]
        if len(quotes) % 2 == 0:  # outside of texts
            break
        depth += 1
        within = before[_QUOTE.match(before, quotes[-1]).end() :]  # type: ignore[union-attr]  # it was found there
        before, as_json = _ESCAPED.sub(r"\1", within), False
    return max(depth, 1) if as_json else depth


def keyed_pseudonym(kind: str, digest: str) -> str:
    """Return what stands for a value of a kind: its keyed digest, in letters that look like no identifier."""
    return f"[{_name(kind)}_{digest.translate(_LETTERS)}]"


class PseudonymCounts:
    """What an answer did with pseudonyms: given back, never given, or written in another way."""

    __slots__ = ("altered", "invented", "restored")

    def __init__(self) -> None:
        self.restored = self.invented = self.altered = 0

    def facts(self) -> dict[str, int]:
        """Return the counts by their names."""
        return {"restored": self.restored, "invented": self.invented, "altered": self.altered}


class RequestPseudonyms:
    """The pseudonyms of the values of one request, numbered by kind in the order of `name`.

    `texts` are those of the request: a pseudonym that one of them already contains is not given, and one that
    the answer repeats from there is not restored.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)
        self._by_value: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._taken: dict[str, frozenset[int]] = {}
        self._sorted: list[str] | None = None
        self._like: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def values(self) -> Mapping[str, str]:
        """The values by their pseudonyms."""
        return self._values

    def name(self, value: str, kind: str) -> str:
        """Return the pseudonym of a value; the same value has the same one."""
        known = self._by_value.get(value)
        if known is not None:
            return known
        word = _name(kind)
        taken = self._taken.get(word)
        if taken is None:
            taken = self._taken[word] = self._numbers(word)
        number = self._last.get(word, 0) + 1
        while number in taken:
            number += 1
        self._last[word] = number
        made = self._by_value[value] = f"<{word}_{number}>"
        self._values[made] = value
        self._sorted = self._like = None
        return made

    def known(self, value: str) -> str | None:
        """Return the pseudonym that a value has, or None."""
        return self._by_value.get(value)

    def unnamed(self, text: str) -> str:
        """Return a text with a mask in place of each pseudonym, for one that only looks like it."""
        if "_" not in text or not self._values:
            return text
        return _PSEUDONYM.sub(
            lambda found: f"[{found[1]}]" if f"<{found[1]}>" in self._values else found[0], text
        )

    def restored(self, text: str, *, as_json: bool = False, before: Callable[[], str] = str) -> str:
        """Return a text with values in place of their pseudonyms; in JSON they are escaped as JSON is.

        `before` returns what stands before the text. A text that begins as JSON does is JSON too, and so is
        JSON within a text of it.
        """
        if "_" not in text or not self._values:
            return text

        def value_of(found: re.Match[str]) -> str:
            value = self._values.get(f"<{found[1]}>")
            if value is None:
                return found[0]
            if json.dumps(value, ensure_ascii=False)[1:-1] == value:
                return value
            depth = json_depth(before() + text[: found.start()], as_json=as_json)
            for _ in range(depth):
                value = json.dumps(value, ensure_ascii=False)[1:-1]
            return value

        return _PSEUDONYM.sub(value_of, text)

    def held(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a pseudonym."""
        for mark in range(max(0, len(text) - _LONGEST), len(text)):
            if text[mark] in "<\\" and self._may_begin(text[mark:]):
                return len(text) - mark
        return 0

    def count(self, text: str, counts: PseudonymCounts) -> None:
        """Add to `counts` what an answer, before its values are put back, did with the pseudonyms."""
        if not self._values or not _DIGIT.search(text):
            return
        for spelling in (*_OPEN[1:], *_CLOSE[1:]):
            text = text.replace(spelling, "<" if spelling in _OPEN else ">")
        for found in self._likeness().finditer(text):
            written, plain = found[0].strip(), f"<{found[1]}_{found[2]}>"
            if plain in self._values and plain in written:
                counts.restored += 1
            elif any(written in given for given in self._texts):
                continue  # the request had these characters itself
            elif plain == written and plain.isupper():
                counts.invented += 1
            else:
                counts.altered += 1

    def _may_begin(self, tail: str) -> bool:
        """Return whether a text is a proper beginning of a spelling of one of the pseudonyms."""
        if any(mark.startswith(tail) for mark in _OPEN):
            return True
        mark = next((mark for mark in _OPEN if tail.startswith(mark)), None)
        if mark is None:
            return False
        begun = _BODY.match(tail, len(mark))
        name, rest = begun[0], tail[begun.end() :]  # type: ignore[index, union-attr]  # it matches nothing too
        if rest:
            closing = any(end.startswith(rest) and end != rest for end in _CLOSE)
            return closing and f"<{name}>" in self._values
        if self._sorted is None:
            self._sorted = sorted(known[1:-1] for known in self._values)
        place = bisect.bisect_left(self._sorted, name)
        return place < len(self._sorted) and self._sorted[place].startswith(name)

    def _likeness(self) -> re.Pattern[str]:
        if self._like is None:
            kinds = "|".join(re.escape(word).replace("_", "[ _-]?") for word in self._last)
            self._like = re.compile(_LIKE.format(kinds=kinds), re.IGNORECASE)
        return self._like

    def _numbers(self, word: str) -> frozenset[int]:
        """Return the numbers that texts of the request write behind a word of a pseudonym."""
        begins = word.partition("_")[0].lower()
        texts = [text for text in self._texts if begins in text.casefold()]
        if not texts:
            return frozenset()
        written = re.compile(word.replace("_", "[ _-]?") + r"[ _-]?(\d{1,9})", re.IGNORECASE)
        return frozenset(int(found[1]) for text in texts for found in written.finditer(text))


def _name(kind: str) -> str:
    return _NOT_IN_NAME.sub("_", kind.upper()).strip("_") or "VALUE"
