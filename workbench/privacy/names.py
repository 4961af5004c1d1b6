"""Find names of people and postal addresses by lists of names and by the words around them.

This is weak by nature: a name that no list has and no word announces is missed. docs/benchmarks.md says how
weak; a list of one's own customers and employees is better.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final

from workbench.privacy import lexicon

Span = tuple[int, int, str]


@functools.cache
def signals() -> frozenset[str]:
    """Return the capitalised words that may begin or announce a name or an address."""
    first = lexicon.names("first")
    shouted = {word.upper() for word in first if len(word) > 3}
    listed = ("weak", "titles", "greetings", "streets")
    return first.union(shouted, *map(lexicon.names, listed))


def in_names(text: str) -> Iterator[Span]:
    """Yield the names of people that are written with capitals."""
    for run in _RUN.finditer(text):
        yield from _in_run(text, run)


def in_introductions(text: str) -> Iterator[Span]:
    """Yield the names that a sentence such as "my name is" introduces, with capitals or without."""
    for match in _INTRODUCED.finditer(text):
        yield *match.span("name"), "person"


_WORD: Final = r"[A-Z](?:[A-Za-z]|(?<=[A-Za-z])['-](?=[A-Za-z])){1,29}|[A-Z]\.(?:-?[A-Z]\.){0,2}|[A-Z]"
_PARTICLE: Final = (
    r"(?:van der|van den|van de|van|von der|von|zu|de la|de los|del|della|dela|de|da|dos|du|di|bin|ibn|al"
    r"|el|ter|ten|y|e)"
)
_RUN: Final = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{_WORD})\.?(?:,?[ \t\n](?:{_PARTICLE}[ ]){{0,1}}(?:{_WORD})\.?(?![0-9_@])){{0,7}}"
)
_PART: Final = re.compile(r"[A-Z][A-Za-z'-]*")
_INTRODUCED: Final = re.compile(
    r"(?i:\b(?:my name is|my name's|i am called|name is|ich heisse|ich heiße|mein name ist|je m'appelle"
    r"|mon nom est|me llamo"
    r"|mi nombre es|mi chiamo|ik heet|mijn naam is|jag heter|jeg heter|jeg hedder|nazywam sie|mam na imie"
    r"|meu nome e"
    r"|me chamo|chamo-me|benim adim)\s+)(?P<name>[A-Za-z][A-Za-z'-]{1,29}(?:\s[A-Z][A-Za-z'.-]{0,29}){0,3}"
    r"(?:\s(?!(?:and|from|but|i|is|my|und|et|y|e|en|the|at|with|of|who)\b)[a-z][a-z'-]{2,29}"
    r"(?=\s*(?:[.,;:!?]|$)))?)"
)


def _in_run(text: str, run: re.Match[str]) -> Iterator[Span]:
    parts = [(part[0], part.start(), part.end()) for part in _PART.finditer(text, *run.span())]
    at = 0
    while at < len(parts):
        count = _length(text, parts[at:])
        if count:
            skipped = _announced(parts[at][0])
            yield parts[at + skipped][1], parts[at + count - 1][2], "person"
        at += max(count, 1)


def _announced(word: str) -> int:
    return int(word in lexicon.names("titles") or word in lexicon.names("greetings"))


def _length(text: str, parts: list[tuple[str, int, int]]) -> int:
    """Return how many words a name at the first part takes, its title or greeting included; 0 for none."""
    words = [word for word, _, _ in parts]
    if _announced(words[0]) and len(words) > 1 and not _is_other(words[1]):
        near = _near(text, parts, 1, titled=words[0] in lexicon.names("titles"))
        return near if near > 1 else 0
    return _listed(text, parts, words)


def _listed(text: str, parts: list[tuple[str, int, int]], words: list[str]) -> int:
    """Return how many words a name has that begins with a name of the lists, or ends with one."""
    word = _plain(words[0])
    strong, weak = word in lexicon.names("first"), word in lexicon.names("weak")
    last = lexicon.names("last")
    upto = _near(text, parts, 0, titled=True)
    if strong:
        return upto
    if weak and any(_plain(other) in last for other in words[1:upto]):
        return upto
    if len(words[0]) == 1 and 1 < upto <= 4 and _plain(words[upto - 1]) in last:
        return upto
    if word in last and upto == 1 and len(words) > 1 and text[parts[0][2] : parts[1][1]] == ", ":
        return 2 if _plain(words[1]) in lexicon.names("first") else 0
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
        if _is_other(parts[end][0]) or _announced(parts[end][0]):
            break
        end += 1
    return end


def _is_other(word: str) -> bool:
    return word in lexicon.names("others")


def _plain(word: str) -> str:
    """Return a word as the lists have it: of a double name the first, with one capital."""
    word = word.partition("-")[0].removesuffix("'s")
    return word.title() if word.isupper() and len(word) > 3 else word
