"""The parsed form of a document (title, text, page numbers), and the error of an unreadable file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: The most characters of one document's text: what a packed file may unpack to.
MOST_CHARS = 20_000_000
#: Control characters other than tab and line feed, and halves of surrogate pairs: no store keeps them.
_UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
#: Possessive, because a text of blank lines only would otherwise take a gigabyte.
_BLANK_LINES = re.compile(r"\n(?:[ \t]*+\n){2,}+")
_ATX = re.compile(r" {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*")


class UnreadableError(Exception):
    """A file is no readable document; the message is the reason, without the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageText:
    """The text of one page of a document; `page` counts from 1, and is None for a format without pages."""

    text: str
    page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed file. `title` is "" when the file states none; `blank` are the pages without text.

    `front` is the front matter of a Markdown file, and `lines` are its lines as far as the front matter goes.
    """

    title: str
    parts: tuple[PageText, ...]
    blank: tuple[int, ...] = ()
    front: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


def whole(title: str, text: str) -> Document:
    """Return a document without pages; UnreadableError when it has no text."""
    return Document(title=one_line(title), parts=(PageText(text=stored(text)),))


def stored(text: str) -> str:
    """Return the text as stores keep it: line feeds, no control characters, at most one blank line in a row.

    Raise UnreadableError for a text that is empty or too long.
    """
    if len(text) > MOST_CHARS:
        raise UnreadableError(f"it has more than {MOST_CHARS:,} characters of text")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = _BLANK_LINES.sub("\n\n", _UNSTORABLE.sub("", text)).strip()
    if not text:
        raise UnreadableError("it has no text")
    return text


def one_line(text: str) -> str:
    """Return the text in one line of at most 200 characters, as titles and table cells are."""
    line = " ".join(_UNSTORABLE.sub(" ", text).split())
    return line if len(line) <= 200 else line[:199] + "…"


def row(cells: Iterable[str]) -> str:
    """Return a table row as text, `a | b`; "" when every cell is empty."""
    texts = [" ".join(cell.split()) for cell in cells]
    return " | ".join(texts) if any(texts) else ""


def first_heading(text: str) -> str:
    """Return the first heading of a Markdown text, without its signs, or ""; code blocks have none."""
    fence, before = "", ""
    for line in text.split("\n"):
        bare = line.strip()
        mark = bare[:3]
        if mark in {"```", "~~~"} and (not fence or mark == fence):
            fence = "" if fence else mark
        if fence:
            continue
        heading = _ATX.fullmatch(line)
        if heading is not None:
            return one_line(heading[1].strip("*_` "))
        if before and bare and set(bare) in ({"="}, {"-"}):
            return one_line(before.strip("*_` "))
        before = bare
    return ""
