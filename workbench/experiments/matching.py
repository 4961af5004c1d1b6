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
#: Formulas of LaTeX and escapes of Markdown, in a text with one of `_SIGNS`.
_FORMULAS = (
    (re.compile(r"&nbsp;|\\[()\[\]]"), " "),
    (re.compile(r"\\boxed\{([^{}]{0,200})\}"), r" \1 "),
    (re.compile(r"\\([%_$#&])"), r"\1"),
    (re.compile(r"\$([^$\s](?:[^$\n]{0,200}?[^$\s])?)\$(?!\d)"), r" \1 "),
)
_SIGNS = re.compile(r"[\\$&]")
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
_EMOJI = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]")
_DECIMAL = re.compile(r"(?<![\w.])\.(?=\d)")
_RANGE = re.compile(r"(?<=\d)(?:\s*[–—]\s*|\s+-\s+)(?=\d)")
_MINUS = re.compile(r"(?<!\w)–(?=\d)")
#: Separators of thousands, as in 1,000 and 1'000; a point may be a decimal point.
_THOUSANDS = re.compile(r"(?<![\d.,'])\d{1,3}(?:[,']\d{3})+(?![\d'])")
#: One form for what people write with and without a space or a plus.
_FORMS = (
    (re.compile(r"(?<=\d)\s+(?=[%‰])"), lambda _: ""),
    (re.compile(r"(?<=\d)(?=[$€£¥₹₩])|(?<![-\w][$€£¥₹₩])(?<=[$€£¥₹₩])(?=\d)"), lambda _: " "),
    (re.compile(r"(?<![\w+])\+(?=\d)"), lambda _: ""),
    (re.compile(r"\.{2,}|-{2,}|(?<=\w)=(?![=>])|(?<=[^\W\d]):(?=\d)"), lambda _: " "),
)
#: Punctuation that is part of a word: 5 % is not 5, and C# is not C.
_KEPT = frozenset("%‰&@#/\\§")


def normalise(text: str) -> str:
    """Return the words of `text` in lower case, with single spaces, without markup and outer punctuation.

    The text is folded by NFKC and case, with one form for quotes, dashes, ligatures and the Turkish i. In
    scripts without spaces, each character is a word. A sign before a number stays.
    """
    return _words(_dashed(text).replace("–", "-"))


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
    two digits it makes a range, and before a digit it is a minus. Separators of thousands do not count.
    """
    dashed = _THOUSANDS.sub(lambda found: re.sub("[,']", "", found[0]), _dashed(text))
    return _words(dashed.replace("–", "-")), _words(dashed.replace("–", " "))


def _dashed(text: str) -> str:
    """Return the folded text, in which a dash that is left joins the parts of a name or separates phrases."""
    return _MINUS.sub("-", _RANGE.sub("-", _folded(text))).replace("—", " ")


def _folded(text: str) -> str:
    for pattern, replacement in (*_FORMULAS, *_MARKUP) if _SIGNS.search(text) else _MARKUP:
        text = pattern.sub(replacement, text)
    text = _RAISED.sub(" ", text.translate(_CHARACTERS))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    for letter, plain in _LETTERS:
        text = text.replace(letter, plain)
    if not text.isascii():
        text = re.sub(r"\d", lambda digit: str(unicodedata.digit(digit[0])), text)
        text = _EMOJI.sub(r" \g<0> ", text)
    for pattern, form in _FORMS:
        text = pattern.sub(form, text)
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
