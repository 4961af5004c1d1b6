"""Mark the words of a text that a question has too, as the ranking by words compares them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from workbench.widgets.cutting import LONGEST
from workbench.widgets.nodes import Mark, MarkedWords

_WORD = re.compile(r"\w+")
_Stems = Callable[[Sequence[str]], list[str]]


def marked(text: str, question: str, *, stems: _Stems | None) -> MarkedWords:
    """Return the text with the words marked whose stems are stems of the question's words.

    Short words in lower case, such as "is" and "the", are not marked. Nor is what a panel does not show of a
    long text. Without `stems`, words match that are equal but for upper case.
    """
    shown, rest = text[:LONGEST], text[LONGEST:]
    asked = [word for word in _WORD.findall(question) if _is_telling(word)]
    words = list(dict.fromkeys(_WORD.findall(shown))) if asked else []
    stemmed = (stems or _folded)([*asked, *words])
    wanted = {stem for text in stemmed[: len(asked)] for stem in text.split()}
    found = {
        word for word, text in zip(words, stemmed[len(asked) :], strict=True) if wanted & {*text.split()}
    }
    parts: list[tuple[str, Mark]] = []
    end = 0
    for match in _WORD.finditer(shown) if found else ():
        if match[0] in found:
            parts += [(shown[end : match.start()], ""), (match[0], "match")]
            end = match.end()
    parts.append((shown[end:] + rest, ""))
    return MarkedWords(parts=tuple(part for part in parts if part[0]))


def _is_telling(word: str) -> bool:
    """Return whether a match of the word says something: it is long, or a name, a number or not Latin."""
    return len(word) > 3 or not word.isascii() or (len(word) > 1 and word.isupper()) or word.isdigit()


def _folded(texts: Sequence[str]) -> list[str]:
    return [text.casefold() for text in texts]
