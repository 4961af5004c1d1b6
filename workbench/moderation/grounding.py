"""Compare an answer with the passages that it was given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from workbench.moderation.exchange import CheckResult, Exchange
from workbench.moderation.folding import folded

_WORD: Final = re.compile(r"[^\W_]+(?:[.,:/][0-9]+)*")
_NUMBER: Final = re.compile(r"[0-9]")
#: A citation of a passage is no number of the answer.
_CITATION: Final = re.compile(r"\[\d{1,3}(?:\s?[,-]\s?\d{1,3})*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounded:
    """Fires on an answer of which less than `least` of the words are in the passages or in the question.

    The results of tools count as passages. With `numbers`, a number that is in neither fires too. An answer
    without passages is not judged. The score is the share of the words.
    """

    least: float = 0.6
    numbers: bool = True

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:
        """Return the share of the answer's words that the passages support, or None."""
        passages = exchange.texts("passage", "tool")
        words = _WORD.findall(folded(_CITATION.sub(" ", text)).text)
        if not passages or not words:
            return None
        known = set(_WORD.findall(folded("\n".join([*passages, *exchange.texts("user")])).text))
        known |= {part for word in known for part in re.split(r"[.,:/]", word)}
        supported = [word in known for word in words]
        share = round(sum(supported) / len(words), 4)
        made_up = self.numbers and any(
            _NUMBER.search(word) and not there for word, there in zip(words, supported, strict=True)
        )
        return CheckResult(score=share) if share < self.least or made_up else None
