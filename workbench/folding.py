"""Fold a text into plain letters and digits, with a map back to the places of the original.

Identifiers and instructions are hidden by full-width digits, letters that look like others, and characters
without a width. Detectors and checks read the folded text; what they find is reported in the places of the
original text.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A folded text and the places that its characters have in the original.

    `origin` is None when both texts have the same places. Otherwise it holds the original place of each
    folded character, and last the length of the original.
    """

    text: str
    origin: array[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the half-open range in the original text of a range in the folded text.

        Characters without a width that follow the last character belong to the range.
        """
        if self.origin is None:
            return start, end
        first = self.origin[start]
        return first, max(self.origin[end], first + (end > start))


def fold(text: str) -> Folded:
    """Return the text with plain letters, digits, dashes and spaces.

    Letters lose their accents, digits of all scripts become ASCII digits, and characters without a width are
    left out. Letters that look like Latin ones become those only inside a word that has Latin letters or
    digits, so that words in Cyrillic and Greek keep their form.
    """
    if text.isascii():
        return Folded(text=text)
    kept = _OTHER.sub(lambda match: match[0].translate(_CHARACTERS), text)
    if _LOOK_ALIKE.search(kept):
        kept = _WORD.sub(_latin, kept)
    if _GONE not in kept:
        return Folded(text=kept)
    origin = array("L" if array("L").itemsize == 8 else "Q")
    parts = []
    for match in _KEPT.finditer(kept):
        parts.append(match[0])
        origin.extend(range(match.start(), match.end()))
    origin.append(len(text))
    return Folded(text="".join(parts), origin=origin)


#: Stands for a character that is left out, so that the places stay comparable; a noncharacter of Unicode.
_GONE: Final = "\uffff"
_OTHER: Final = re.compile(r"[^\x00-\x7f]+")
_KEPT: Final = re.compile(f"[^{_GONE}]+")
#: Letters of Greek and Cyrillic that look like Latin ones, and those.
_SIMILAR: Final = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһӏԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυ",  # noqa: RUF001
    "ABESIJKMHOPCTYXaesijopcyxdhlqwABEZHIKMNOPTYXaivopu",
)
_LOOK_ALIKE: Final = re.compile(f"[{''.join(map(chr, _SIMILAR))}]")
_WORD: Final = re.compile(f"(?<![0-9A-Za-z\u0370-\u052f{_GONE}])[0-9A-Za-z\u0370-\u052f{_GONE}]+")
_LATIN: Final = re.compile(r"[0-9A-Za-z]")
#: Letters without a decomposition, dashes, quotation marks and the full stops of other scripts.
_PLAIN: Final[Mapping[str, str]] = {
    other: plain
    for plain, others in {
        "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043", ".": "\u3002\uff61",
        "'": "\u2018\u2019\u02bc", '"': "\u201c\u201d", "o": "øœ", "O": "ØŒ", "l": "ł", "L": "Ł",
        "d": "đð", "s": "ß", "S": "ẞ", "t": "þ", "T": "Þ",
        "D": "ĐÐ", "h": "ħ", "i": "\u0131", "a": "æ", "A": "Æ",
    }.items()
    for other in others
}  # fmt: skip
#: Letters without ink that are not of a category of their own.
_BLANK: Final = "\u115f\u1160\u3164\uffa0"
#: Most folded characters that are remembered.
_MOST: Final = 20_000


class _Characters(dict[int, str]):
    """The folded form of each character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        if len(self) < _MOST:
            self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    """Return one character: a plain one, `_GONE`, or the same."""
    category = unicodedata.category(character)
    if category in {"Cf", "Mn", "Me"} or character in _BLANK or character == _GONE:
        return _GONE
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category in {"Zs", "Zl", "Zp"}:
        return " " if category == "Zs" else "\n"
    plain = unicodedata.normalize("NFKD", character)
    if all(unicodedata.combining(mark) for mark in plain[1:]) and plain[0].isascii():
        return plain[0]
    return _PLAIN.get(character, character)


def _latin(match: re.Match[str]) -> str:
    word = match[0]
    return word.translate(_SIMILAR) if _LATIN.search(word) else word


_CHARACTERS: Final = _Characters()
