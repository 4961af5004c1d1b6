"""Find texts that give a model instructions: passages and results of tools should hold none."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workbench.moderation.exchange import CheckResult, Exchange, merged
from workbench.moderation.folding import disguised, folded
from workbench.moderation.instruction_patterns import PATTERNS

#: A sentence around a match is at most so long on either side.
_SENTENCE: Final = 300
#: Characters of a text whose result is kept.
_KEPT: Final = 8_000
_ENDS: Final = re.compile(r"[.!?\n。！？]")  # noqa: RUF001 - full-width signs end sentences too
#: Before a match, what turns it into its opposite.
_NEGATED: Final = re.compile(
    r"(?:\b(?:never|not|no one|nobody|cannot|avoid|without|niemals?|nicht|jamais|ne|nunca|no|mai|non|nao"
    r"|nooit|niet)|n['’]t|не)\s+(?:\w+\s+){0,2}$"  # noqa: RUF001 - apostrophes and Russian
)
_NEGATION: Final = 0.3
_STEMS: Final = tuple({stem for pattern in PATTERNS for stem in pattern.stems})
_ASCII_STEMS: Final = tuple(stem for stem in _STEMS if stem.isascii())


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionOverride:
    """Fires on a text with instructions to a model whose score is `least` or more.

    The score grows with the weight of each kind of pattern that the text matches. Spaced letters, digits for
    letters, look-alikes, invisible characters and Base64 are read as what they stand for.
    """

    least: float = 0.5

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:  # noqa: ARG002 - as every check
        """Return the score and the sentences of the instructions, or None."""
        score, spans = _known(text) if len(text) <= _KEPT else _found(text)
        return CheckResult(score=score, spans=spans) if score >= self.least else None


def _found(text: str) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Return the score of a text, and the sentences of its instructions."""
    plain = folded(text)
    weights, spans = _matched(plain.text)
    found = [_sentence(text, plain.span(*span)) for span in spans]
    for hidden, span in disguised(text, plain):
        more, inside = _matched(hidden)
        if any(weight > weights.get(kind, 0.0) for kind, weight in more.items()):
            weights = {kind: max(weights.get(kind, 0.0), more.get(kind, 0.0)) for kind in {*weights, *more}}
            placed = span == (0, len(text)) and len(hidden) == len(plain.text)
            found.append(_sentence(text, plain.span(*inside[0])) if placed else span)
    missing = 1.0
    for weight in weights.values():
        missing *= 1 - weight
    score = round(1 - missing, 4)
    return score, tuple(merged(found))


#: The same passages are sent with many requests; their results stay in the memory of this process.
_known: Final = functools.lru_cache(maxsize=512)(_found)


def _matched(text: str) -> tuple[dict[str, float], Sequence[tuple[int, int]]]:
    """Return the weight of each kind of pattern that a folded text matches, and the ranges."""
    weights: dict[str, float] = {}
    spans: list[tuple[int, int]] = []
    line = f" {text.replace(chr(10), ' ')}"
    stems = {stem for stem in (_ASCII_STEMS if line.isascii() else _STEMS) if stem in line}
    for pattern in PATTERNS if stems else ():
        if stems.isdisjoint(pattern.stems):
            continue
        for found in pattern.form.finditer(text):
            weight = pattern.weight
            if pattern.negatable and _NEGATED.search(text[max(0, found.start() - 40) : found.start()]):
                weight = _NEGATION * weight
            kind = pattern.name.partition("_")[0]
            weights[kind] = max(weight, weights.get(kind, 0.0))
            spans.append(found.span())
    return weights, spans


def _sentence(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Return the range of the sentences around a range, at most so far on either side."""
    before = text[max(0, span[0] - _SENTENCE) : span[0]]
    starts = [found.end() for found in _ENDS.finditer(before)]
    start = span[0] - len(before) + (starts[-1] if starts else 0)
    start += len(text[start : span[0]]) - len(text[start : span[0]].lstrip())
    after = _ENDS.search(text, span[1] - 1 if span[1] and _ENDS.match(text[span[1] - 1]) else span[1])
    end = min(after.end() if after else len(text), span[1] + _SENTENCE)
    return start, max(end, span[1])
