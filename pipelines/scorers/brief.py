"""Score 1 when an answer has at most 20 words, else 0: the prompts ask for few words."""

from __future__ import annotations

import workbench as wb

MOST_WORDS = 20


def score(outcome: wb.Outcome) -> float:
    """Return 1.0 for an answer of at most 20 words, and 0.0 for a longer one."""
    return float(len(outcome.text.split()) <= MOST_WORDS)
