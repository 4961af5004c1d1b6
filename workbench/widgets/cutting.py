"""Cut long texts for a browser or a terminal, with the number of characters that are left out."""

from __future__ import annotations

from workbench.display import harmless

#: Characters of one text that are sent to a browser and printed; the rest stays in the kernel and is counted.
LONGEST = 20_000


def cut(text: str) -> str:
    """Return at most `LONGEST` characters of a text, with the number of those left out."""
    return text if len(text) <= LONGEST else text[:LONGEST] + more_than(len(text) - LONGEST)


def printed(text: str) -> list[str]:
    """Return the lines of a text for a terminal, cut, with nothing that a terminal obeys."""
    return harmless(cut(text)).splitlines()


def more_than(n: int) -> str:
    """Return the note for `n` characters that are left out; empty for none."""
    return f" … {n:,} more characters" if n > 0 else ""
