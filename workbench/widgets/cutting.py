"""Cut long texts for a browser or a terminal, with the number of characters that are left out."""

from __future__ import annotations

import json

from workbench.display import beginning, harmless

#: Characters of one text that are sent to a browser and printed; the rest stays in the kernel and is counted.
LONGEST = 20_000

#: Characters of a name: of a button, a field, an option, a column or a group.
_NAME = 300


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
