"""Compare an answer with an accepted text as people read both: markup, case and punctuation do not count."""

# ruff: noqa: RUF001, RUF002  (the look-alike characters are the subject of this file)

from __future__ import annotations

import functools
import re
import unicodedata

#: Emphasis, links and line marks of Markdown, and the tags of HTML that emphasise.
_MARKUP = (
    (re.compile(r"(?m)^(?:[ \t]*(?:[-*+>•]|#{1,6})[ \t]+)+"), ""),
    (re.compile(r"!?\[([^\][]{0,500})\]\([^)\s]{0,2000}\)"), r"\1"),
    (re.compile(r"(?<!\w)\*{2,3}|\*{2,3}(?!\w)|`+|\|"), " "),
    (re.compile(r"</?(?:b|i|u|em|strong|mark|code|br)\s*/?>", re.IGNORECASE), " "),
)
#: Double quotes and CJK punctuation end a word; single quotes and hyphens have one form; wave dashes are
#: en dashes. Soft hyphens, zero-width characters, direction marks and variation selectors vanish.
_CHARACTERS: dict[int, str | None] = {
    **dict.fromkeys(map(ord, '"“”„‟«»‹›″〝〞〟「」『』《》〈〉【】〔〕。、・｡､･'), " "),
    **dict.fromkeys(map(ord, "‘’‚‛′ʼ´＇"), "'"),
    **dict.fromkeys(map(ord, "‐‑⁃−"), "-"),
    **dict.fromkeys(map(ord, "‒〜～"), "–"),
    **dict.fromkeys(map(ord, "―⸺⸻﹘"), "—"),
    **dict.fromkeys((0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))),
    **dict.fromkeys(range(0xFE00, 0xFE10)),
}
#: A superscript, subscript or fraction after a digit begins a number of its own: 10² is not 102.
_RAISED = re.compile(r"(?<=\d)(?=[²³¹¼-¾⁰-⁹₀-₉⅐-⅞↉])")
_LETTERS = (("i\u0307", "i"), ("ı", "i"), ("œ", "oe"), ("æ", "ae"), ("⁄", "/"))
#: Scripts without spaces: each character with its marks is a word, and a number in CJK numerals is one.
_UNSPACED = re.compile(
    "[一二三四五六七八九两兩]{0,30}[〇零十百千万萬亿億兆][〇零一二三四五六七八九十百千万萬亿億兆两兩]*"
    "|[\u2e80-\u2fdf\u3005\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][\u3099\u309a]*"
    "|[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff](?:[\u1039\u17d2].|[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1"
    "\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u1056-\u1059\u17b4-\u17d3])*"
)
_DECIMAL = re.compile(r"(?<![\w.])\.(?=\d)")
_RANGE = re.compile(r"(?<=\d)(?:\s*[–—]\s*|\s+-\s+)(?=\d)")
_MINUS = re.compile(r"(?<!\w)–(?=\d)")
#: Punctuation that is part of a word: 5 % is not 5, and C# is not C.
_KEPT = frozenset("%‰&@#/\\§")


def normalise(text: str) -> str:
    """Return the words of `text` in lower case, with single spaces, without markup and outer punctuation.

    The text is folded by NFKC and case, with one form for quotes, dashes, ligatures and the Turkish i. In
    scripts without spaces, each character is a word. A sign before a number stays.
    """
    return _forms(text)[0]


def equals(text: str, answer: str) -> bool:
    """Return whether `text` has the same words as `answer`."""
    return any(ours == theirs for ours, theirs in zip(_forms(text), _forms(answer), strict=True))


def mentions(text: str, answer: str) -> bool:
    """Return whether `text` contains `answer` as whole words."""
    forms = zip(_forms(text), _forms(answer), strict=True)
    return any(f" {theirs} " in f" {ours} " for ours, theirs in forms)


@functools.lru_cache(maxsize=1024)
def _forms(text: str) -> tuple[str, str]:
    """Return the words of `text` twice: with an en dash as a hyphen, and as a space.

    An en dash joins the parts of a name (Paris–London) or separates phrases (18 euros–20 euros); between
    two digits it makes a range, and before a digit it is a minus.
    """
    folded = _MINUS.sub("-", _RANGE.sub("-", _folded(text))).replace("—", " ")
    return _words(folded.replace("–", "-")), _words(folded.replace("–", " "))


def _folded(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = _RAISED.sub(" ", text.translate(_CHARACTERS))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    for letter, plain in _LETTERS:
        text = text.replace(letter, plain)
    return _DECIMAL.sub("0.", _UNSPACED.sub(r" \g<0> ", text))


def _words(text: str) -> str:
    return " ".join(word for word in map(_bare, text.split()) if word)


def _bare(word: str) -> str:
    """Return the word without punctuation at its edges; a minus before a number or an amount stays."""
    start, end = 0, len(word)
    while start < end and _is_edge(word[start]):
        start += 1
    while end > start and _is_edge(word[end - 1]):
        end -= 1
    signed = start < end and word[:start].endswith("-")
    if signed and (word[start].isdigit() or unicodedata.category(word[start]) == "Sc"):
        start -= 1
    return word[start:end]


@functools.cache
def _is_edge(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in _KEPT
