"""The forms of patterns of instructions: stems that are looked for first, and a pattern of folded text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from workbench.moderation.folding import folded

#: So many characters are between two parts of an instruction.
GAP: Final = r".{0,40}?"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionPattern:
    """A pattern of an instruction: its weight, and texts one of which is in every text that it matches."""

    name: str
    weight: float
    stems: tuple[str, ...]
    form: re.Pattern[str] = field(repr=False)
    negatable: bool = True


def pattern(name: str, weight: float, stems: str, form: str, *, negatable: bool = True) -> InstructionPattern:
    """Return a pattern of folded text; a space in `form` is any space, and ` ?` also none."""
    plain = (folded(letter).text if ord(letter) > 127 else letter for letter in form)
    spaced = "".join(plain).replace(" ?", r"\s*").replace(" ", r"\s+")
    return InstructionPattern(
        name=name,
        weight=weight,
        stems=tuple(folded(stem).text for stem in stems.split("|")),
        form=re.compile(spaced, re.DOTALL),
        negatable=negatable,
    )


def dropping(name: str, stems: str, verbs: str, orders: str, which: str) -> Iterator[InstructionPattern]:
    """Yield a language's patterns of "ignore the previous instructions", in both orders of its words."""
    yield pattern(name, 0.9, stems, rf"\b(?:{verbs}){GAP}\b(?:{which}){GAP}\b(?:{orders})")
    yield pattern(name, 0.9, stems, rf"\b(?:{verbs}){GAP}\b(?:{orders}){GAP}\b(?:{which})")
