"""Read Markdown, with or without front matter."""

from __future__ import annotations

from typing import Any

from workbench import files
from workbench.retrieval.formats.document import Document, PageText, first_heading, one_line, stored
from workbench.retrieval.formats.text import decoded


def read(data: bytes, *, where: str) -> Document:
    """Return the text as it is, without its front matter; the title is the first heading.

    ConfigError names the line of front matter that is no YAML; `where` is the file's name in it.
    """
    text = decoded(data).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    front, end = front_matter(lines, where=where)
    body = stored("\n".join(lines[end:]))
    title = one_line(str(front.get("title") or "")) or first_heading(body)
    return Document(title=title, parts=(PageText(text=body),), front=front, lines=tuple(lines[:end]))


def front_matter(lines: list[str], *, where: str) -> tuple[dict[str, Any], int]:
    """Return the front matter and the number of its lines; ({}, 0) without one.

    A rule `---` on top that opens no mapping is text.
    """
    bare = [line.rstrip() for line in lines]
    if bare[0] != "---" or "---" not in bare[1:]:
        return {}, 0
    end = bare.index("---", 1)
    inner = "\n".join(["", *lines[1:end]]) + "\n"
    if not any(_is_key(line) for line in bare[1:end]):
        return {}, 0 if inner.strip() else end + 1
    return files.parse_yaml(inner, where=where), end + 1


def _is_key(line: str) -> bool:
    name, colon, _ = line.partition(":")
    return bool(colon) and name.strip("\"'").isidentifier() and not name[:1].isspace()
