"""Find answers that repeat the system prompt: runs of words that both have."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
        system = exchange.texts("system")
        if not system:
            return None
        others = {
            run
            for each in exchange.texts("user", "passage", "tool")
            for run in _runs(_words(each), self.words)
        }
        texts = [(text, None), *((decoded, span) for decoded, span in encoded_texts(text))]
        told = [(_placed(each), span) for each, span in texts]
        spans, share = [], 0.0
        for prompt in map(_words, system):
            least = min(self.words, len(prompt))
            if least < _SHORTEST:
                continue
            for words, outer in told:
                taken, found = _shared(prompt, words, least, others)
                share = max(share, len(taken) / len(prompt))
                spans += [outer or span for span in found]
        return CheckResult(score=round(share, 4), spans=tuple(spans)) if spans else None


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text).text)


def _placed(text: str) -> list[tuple[str, tuple[int, int]]]:
    plain = folded(text)
    return [(found[0], plain.origin(*found.span())) for found in _WORD.finditer(plain.text)]


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def _shared(
    prompt: Sequence[str],
    told: Sequence[tuple[str, tuple[int, int]]],
    least: int,
    others: set[tuple[str, ...]],
) -> tuple[set[int], list[tuple[int, int]]]:
    """Return the places of the prompt that runs of `least` words repeat, and the ranges of the runs."""
    places: dict[tuple[str, ...], list[int]] = {}
    for at in range(len(prompt) - least + 1):
        places.setdefault(tuple(prompt[at : at + least]), []).append(at)
    words = [word for word, _ in told]
    taken: set[int] = set()
    spans: list[tuple[int, int]] = []
    for at in range(len(words) - least + 1):
        run = tuple(words[at : at + least])
        if run in places and run not in others:
            taken.update(place + n for place in places[run] for n in range(least))
            spans.append((told[at][1][0], told[at + least - 1][1][1]))
    return taken, spans
