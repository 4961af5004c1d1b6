"""Split a page into chunks, deterministically."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])|\n\s*\n")
_PARAGRAPH_END = re.compile(r"\n(?:[ \t]*\n)+")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How a memory splits its pages.

    `whole` keeps a page as one chunk. `sentences` makes chunks of `size` sentences. `paragraphs` joins short
    paragraphs up to `min_chars` and splits long ones at lines, sentences or words to at most `max_chars`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    kind: Literal["whole", "sentences", "paragraphs"]
    size: int | None = None
    min_chars: int | None = None
    max_chars: int | None = None

    def check(self, where: str) -> None:
        """Raise ConfigError unless exactly the numbers that `kind` needs are given, and are valid."""
        wanted = {"whole": set(), "sentences": {"size"}, "paragraphs": {"min_chars", "max_chars"}}[self.kind]
        numbers = {name: getattr(self, name) for name in ("size", "min_chars", "max_chars")}
        given = {name for name, number in numbers.items() if number is not None}
        if given != wanted:
            needs = " and ".join(sorted(wanted)) or "no number"
            raise ConfigError(f"{where}: chunking {self.kind!r} takes {needs}, found {sorted(given)}")
        if any(number < 1 for number in numbers.values() if number is not None):
            raise ConfigError(f"{where}: chunking needs numbers of 1 or more")
        if self.min_chars and self.max_chars and self.min_chars > self.max_chars:
            raise ConfigError(f"{where}: chunking has min_chars above max_chars")


def chunks(text: str, chunking: Chunking) -> list[str]:
    """Return the chunks of `text` in order, none of them empty, without a lost or repeated word."""
    if chunking.size is not None:
        sentences = [s.strip() for s in _SENTENCE_END.split(text) if s.strip()]
        windows = range(0, len(sentences), chunking.size)
        return [" ".join(sentences[start : start + chunking.size]) for start in windows]
    if chunking.max_chars is not None:
        paragraphs = (p.strip("\n").rstrip() for p in _PARAGRAPH_END.split(text) if p.strip())
        pieces = (piece for p in paragraphs for piece in _cut(p, chunking.max_chars))
        return list(_joined(pieces, least=chunking.min_chars or 1, most=chunking.max_chars))
    return [text.strip()] if text.strip() else []


def _joined(pieces: Iterable[str], *, least: int, most: int) -> Iterator[str]:
    held = ""
    for piece in pieces:
        both = f"{held}\n\n{piece}" if held else piece
        if len(both) > most:
            yield held
            both = piece
        held = both
        if len(held) >= least:
            yield held
            held = ""
    if held:
        yield held


def _cut(text: str, most: int) -> Iterator[str]:
    """Split `text` into pieces of at most `most` characters, after the last line, sentence or word that fits.

    A line or sentence end in the first half of a piece is skipped for a later word end. Only words longer
    than a piece are split themselves.
    """
    while len(text) > most:
        head, indent = text[: most + 1], len(text) - len(text.lstrip())
        word = max((found.start() for found in _SPACE.finditer(head)), default=0)
        ends = (head.rfind("\n"), head.rfind(". ") + 1, head.rfind(" "), word)
        cut = next((end for end in ends if end > most // 2), word)
        if cut <= indent and indent:  # the piece would be white space only
            text = text.lstrip()
            continue
        cut = cut or most
        yield text[:cut].rstrip()
        text = text[cut:].strip("\n") if text[cut : cut + 1] == "\n" else text[cut:].lstrip(" ")
    if text.strip():
        yield text
