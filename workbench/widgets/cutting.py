"""Cut long texts for a browser or a terminal, with the number of characters that are left out."""

from __future__ import annotations

import json
import re

from workbench.display import harmless

#: Characters of one text that are sent to a browser and printed; the rest stays in the kernel and is counted.
LONGEST = 20_000

_WORD = re.compile(r"\S+")
#: Characters before a cut in which words are sought, and words of a name that may be left of one.
_TAIL, _NAMES = 200, 3
#: Characters of a name: of a button, a field, an option, a column or a group.
_NAME = 300


def beginning(text: str, most: int) -> str:
    """Return at most `most` characters of a text, cut before words that the cut may divide.

    These are the last word, and up to three before it that begin with no small letter: a part of an address,
    a name or a number is not recognised by what masks it whole. A text without such a place is cut anyhow.
    """
    if len(text) <= most:
        return text
    start = max(0, most - _TAIL)
    # A word that begins before the tail is not one to leave out.
    words = [found for found in _WORD.finditer(text[start:most]) if found.start() or not start]
    end, left = most, _NAMES
    if words and not (text[most - 1].isspace() or text[most].isspace()):
        end = start + words.pop().start()
    while words and left and not words[-1][0][0].islower():
        end, left = start + words.pop().start(), left - 1
    return text[:end] if text[:end].strip() else text[:most]


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters: a longer one ends with `…`, and not within a word."""
    return text if len(text) <= most else beginning(text, most - 1) + "…"


def cut(text: str, most: int = LONGEST) -> str:
    """Return at most `most` characters of a text as UTF-8 holds them, with the number of those left out."""
    shown = beginning(text, most)
    return storable(shown + more_than(len(text) - len(shown)))


def named(text: str) -> str:
    """Return the name of what can be pressed, entered or chosen, cut for a browser."""
    return cut(text, _NAME)


def storable(text: str) -> str:
    """Return a text with `?` for each half of a surrogate pair: no message to a browser can hold one."""
    return text.encode("utf-8", "replace").decode()


def printed(text: str) -> list[str]:
    """Return the lines of a text for a terminal, cut, with nothing that a terminal obeys."""
    return harmless(cut(text)).splitlines()


def more_than(n: int) -> str:
    """Return the note for `n` characters that are left out; empty for none."""
    return f" … {n:,} more characters" if n > 0 else ""


def quoted(text: str) -> str:
    """Return a text as a Python literal in double quotes, for a call that a person copies."""
    return json.dumps(text, ensure_ascii=False)
