"""Find names of people and postal addresses by lists of names and by the words around them.

This is weak by nature: a name that no list has and no word announces is missed. docs/benchmarks.md says how
weak; a list of one's own customers and employees is better.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Final

from workbench.privacy import lexicon
from workbench.privacy.shapes import Span


@functools.cache
def signals() -> frozenset[str]:
    """Return the capitalised words that may begin or announce a name or an address."""
    first = lexicon.names("first")
    shouted = {word.upper() for word in first if len(word) > 3}
    listed = ("weak", "surnames", "titles", "greetings", "streets")
    return first.union(shouted, _INITIALS, *map(lexicon.names, listed))


def in_names(text: str, words: Iterable[str]) -> Iterator[Span]:
    """Yield the names of people in a folded text, of which these are the capitalised words."""
    upto = 0
    for start in sorted(_places(text, signals().intersection(words))):
        if start >= upto and not text[max(0, start - 6) : start].endswith(_BEFORE_PLACES):
            begin, end = _name_at(text, start)
            if end > max(upto, begin) and begin >= upto:
                yield begin, end, "person"
                upto = end


def _name_at(text: str, start: int) -> tuple[int, int]:
    """Return the range of the name that has its first name, its surname or its title here; empty for none."""
    run = _RUN.match(text, start)
    if run is None:
        return start, start
    parts = [(part[0], part.start(), part.end()) for part in _PART.finditer(text, *run.span())]
    if count := _length(text, parts):
        first = next(part for part in parts if not _announced(part[0]))[1]
        return _with_surname(text, first), parts[count - 1][2]
    if _plain(parts[0][0]) in lexicon.names("surnames"):
        first = _with_first_name(text, start)
        return first, parts[0][2] if first < start else first
    return start, start


def _places(text: str, words: Iterable[str]) -> Iterator[int]:
    """Yield the places where a word begins that is one of these."""
    for word in words:
        at = text.find(word)
        while at >= 0:
            end = at + len(word)
            if not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()):
                yield at
            at = text.find(word, end)


def _with_surname(text: str, start: int) -> int:
    """Return where a name begins that stands after its surname: `Smith, John`."""
    match = _SURNAME.search(text, max(0, start - 34), start)
    return match.start() if match is not None and _is_surname(match[1]) else start


def _with_first_name(text: str, start: int) -> int:
    """Return where a name begins whose surname begins here: at a capitalised word before it."""
    match = _FIRST_NAME.search(text, max(0, start - 50), start)
    return start if match is None or _is_other(match[1]) or _announced(match[1]) else match.start()


def _is_surname(word: str) -> bool:
    plain = _plain(word)
    return plain in lexicon.names("surnames") or plain in lexicon.names("last")


def introduces(lower: str) -> bool:
    """Return whether a text in lower case may hold a sentence that introduces a name."""
    return "name" in lower or "amo " in lower or "ppelle" in lower or "ich hei" in lower


def in_introductions(text: str, lower: str) -> Iterator[Span]:
    """Yield the names that a sentence such as "my name is" introduces.

    After "my name is" and its like a name needs no capital.
    """
    for words in _INTRODUCTIONS:
        at = lower.find(words)
        while at >= 0:
            match = _INTRODUCED.match(text, at)
            if match is not None and (
                match["name"][0].isupper() or words != "name" or lower[max(0, at - 3) : at] == "my "
            ):
                yield *match.span("name"), "person"
            at = lower.find(words, at + len(words))


_BEFORE_PLACES: Final = ("San ", "Santa ", "Sao ", "St ", "St. ", "Port ", "Lake ", "Mount ")
_INITIALS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_INTRODUCTIONS: Final = ("name", "ppelle", "llamo", "chiamo", "chamo", "ich hei")
_WORD: Final = r"[A-Z](?:[A-Za-z]|(?<=[A-Za-z])['-](?=[A-Za-z])){1,29}|[A-Z]\.(?:-?[A-Z]\.){0,2}|[A-Z]"
_PARTICLE: Final = (
    r"(?:van der|van den|van de|van|von der|von|zu|de la|de los|del|della|dela|de|da|dos|du|di|bin|ibn|al"
    r"|el|ter|ten|y|e)"
)
_RUN: Final = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{_WORD})\.?"
    rf"(?:,?[ \t\n](?:{_PARTICLE}[ ]|(?:al|el)-)?(?:{_WORD})\.?(?![0-9_@])){{0,7}}"
)
#: What shows that a word began a sentence: a subject after it, or a further word.
_ASKED: Final = re.compile(r"\s(?:I|you|we|he|she|it|they|the|my)\b")
_GOES_ON: Final = re.compile(r"'|[ \t]+[A-Za-z0-9]")
_PART: Final = re.compile(r"[A-Z][A-Za-z'-]*")
_SURNAME: Final = re.compile(r"(?<![A-Za-z])([A-Z][A-Za-z'-]{1,29}), $")
_FIRST_NAME: Final = re.compile(rf"(?<![A-Za-z])([A-Z][a-z'-]{{1,29}}) (?:[A-Z]\. )?(?:{_PARTICLE} )?$")
_INTRODUCED: Final = re.compile(
    r"(?i:name(?: is|'s| ist)|ppelle|llamo|chiamo|chamo|ich heiss?e)\s+"
    r"(?P<name>[A-Za-z][A-Za-z'-]{1,29}(?:\s[A-Z][A-Za-z'.-]{0,29}){0,3}"
    r"(?:\s(?!(?:and|from|but|i|is|my|und|et|y|e|en|the|at|with|of|who)\b)[a-z][a-z'-]{2,29}"
    r"(?=\s*(?:[.,;:!?]|$)))?)"
)


def _announced(word: str) -> int:
    return int(word in lexicon.names("titles") or word in lexicon.names("greetings"))


def _length(text: str, parts: list[tuple[str, int, int]]) -> int:
    """Return how many words a name at the first part takes, its title or greeting included; 0 for none."""
    words = [word for word, _, _ in parts]
    begin = next((at for at, word in enumerate(words) if not _announced(word)), len(words))
    if begin:
        if begin == len(words) or _is_other(words[begin]) or words[begin] == "I":
            return 0
        titled = words[begin - 1] in lexicon.names("titles")
        upto = _near(text, parts, begin, titled=titled)
        return upto if titled or _is_greeted(text, parts[begin - 1 : begin + 1], parts[upto - 1][2]) else 0
    return _listed(text, parts, words)


def _is_greeted(text: str, parts: list[tuple[str, int, int]], end: int) -> bool:
    """Return whether words after a greeting are a name, and not a sentence that goes on.

    `parts` are the greeting and the first of the words, which end at `end`. A word of no list is a name
    where the line or the clause ends; so is one that is also a verb, such as "Can", after a comma.
    """
    (_, _, before), (word, start, _) = parts
    plain = _plain(word)
    if plain in lexicon.names("first"):
        return True
    if plain in lexicon.names("weak") and "," not in text[before:start]:
        return not _ASKED.match(text, end)
    return not _GOES_ON.match(text, end)


def _listed(text: str, parts: list[tuple[str, int, int]], words: list[str]) -> int:
    """Return how many words a name has that begins with a name of the lists, or ends with one."""
    word = _plain(words[0])
    strong, weak = word in lexicon.names("first"), word in lexicon.names("weak")
    upto = _near(text, parts, 0, titled=True)
    if strong:
        return upto
    second = 2 if len(words) > 2 and len(words[1]) == 1 else 1  # after an initial
    if weak and second < upto and (_is_surname(words[second]) or words[second] in lexicon.names("first")):
        return upto
    if len(words[0]) == 1 and 1 < upto <= 4 and _is_surname(words[upto - 1]):
        return upto
    return 0


def _near(text: str, parts: list[tuple[str, int, int]], begin: int, *, titled: bool) -> int:
    """Return the end of the words that stand together after `begin`: at most four, no other word between."""
    end = begin + 1
    most = begin + (4 if titled else 3)
    while end < min(len(parts), most):
        between = text[parts[end - 1][2] : parts[end][1]]
        if (
            "," in between
            or "\n" in between
            or (". " in between and parts[end - 1][2] - parts[end - 1][1] > 2)
        ):
            break
        word = parts[end][0]
        if _announced(word) or (_is_other(word) and not (end == 1 and _is_surname(word))):
            break
        end += 1
    return end


def _is_other(word: str) -> bool:
    return word in lexicon.names("others")


def _plain(word: str) -> str:
    """Return a word as the lists have it: of a double name the first, with one capital."""
    word = word.partition("-")[0].removesuffix("'s")
    return word.title() if word.isupper() and len(word) > 3 else word
