"""Find answers that repeat the system prompt: runs of words that both have."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workbench.moderation.exchange import CheckResult, Exchange
from workbench.moderation.folding import encoded_texts, folded

#: A word, or one character of a script that writes none apart.
_WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
#: The words of the shortest prompt that can leak.
_SHORTEST: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLeak:
    """Fires on an answer with `words` consecutive words of the system prompt, or with all of a shorter one.

    Words that the user or a passage has too, in the same order, do not count. The score is the share of the
    system prompt's words that the answer repeats.
    """

    words: int = 12

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:
        """Return the share and the ranges of the repeated runs, or None."""
        told = [(text, None), *((decoded, span) for decoded, span in encoded_texts(text))]
        spans, share = [], 0.0
        for prompt in exchange.texts("system"):
            runs = _places(prompt, self.words)
            for each, outer in told if runs.at else ():
                found = _shared(runs, _placed(each), exchange)
                taken = {place + n for at, _ in found for place in runs.at[at] for n in range(runs.least)}
                share = max(share, len(taken) / runs.words)
                spans += [outer or span for _, span in found]
        return CheckResult(score=round(share, 4), spans=tuple(spans)) if spans else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The runs of `least` words of a prompt, with their places; a prompt that is too short has none."""

    words: int
    least: int
    at: Mapping[tuple[str, ...], Sequence[int]]
    firsts: frozenset[str]


@functools.lru_cache(maxsize=64)
def _places(prompt: str, longest: int) -> _Runs:
    words = _words(prompt)
    least = min(longest, len(words))
    at: dict[tuple[str, ...], list[int]] = {}
    for place in range(len(words) - least + 1) if least >= _SHORTEST else ():
        at.setdefault(tuple(words[place : place + least]), []).append(place)
    return _Runs(words=max(1, len(words)), least=least, at=at, firsts=frozenset(run[0] for run in at))


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text).text)


def _placed(text: str) -> list[tuple[str, tuple[int, int]]]:
    plain = folded(text)
    return [(found[0], plain.span(*found.span())) for found in _WORD.finditer(plain.text)]


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def _shared(
    runs: _Runs, told: Sequence[tuple[str, tuple[int, int]]], exchange: Exchange
) -> list[tuple[tuple[str, ...], tuple[int, int]]]:
    """Return the runs of a prompt that a text repeats, with their ranges; not those that others wrote too."""
    words, length = [word for word, _ in told], runs.least
    found = [
        (run, (told[at][1][0], told[at + length - 1][1][1]))
        for at in range(len(words) - length + 1)
        if words[at] in runs.firsts and (run := tuple(words[at : at + length])) in runs.at
    ]
    if not found:
        return []
    others = {
        run for each in exchange.texts("user", "passage", "tool") for run in _runs(_words(each), length)
    }
    return [(run, span) for run, span in found if run not in others]
