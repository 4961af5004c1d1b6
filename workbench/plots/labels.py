"""Labels of plots: any text of a dataset or a person as one short line that XML can hold."""

from __future__ import annotations

import html
import re
import unicodedata

from workbench.display import harmless

#: What XML 1.0 cannot hold, after the control characters that `harmless` writes as escapes.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: The width of a character in parts of the font size: narrow ones, and those that take two columns.
_NARROW, _WIDE = 0.57, 1.05
#: The characters of a text that are looked at.
_READ = 1_000


def plain(text: str, most: int) -> str:
    """Return a text in one line of at most `most` characters, without what a terminal or XML cannot hold."""
    line = _NO_XML.sub("\ufffd", harmless(" ".join(text[:_READ].split())))
    return line if len(line) <= most else line[: most - 1] + "…"


def width(text: str, size: float) -> float:
    """Return the estimated width of a line, in the unit of the font size `size`; no font is read."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return size * (_WIDE * wide + _NARROW * (len(text) - wide))


def fitting(text: str, size: float, room: float) -> str:
    """Return a text cut to the width `room`, with an ellipsis where it was cut."""
    line = plain(text, _READ)
    if width(line, size) <= room:
        return line
    while line and width(f"{line}…", size) > room:
        line = line[:-1]
    return f"{line}…"


def escaped(text: str) -> str:
    """Return a text escaped for the content and the attributes of XML and HTML."""
    return html.escape(text)
