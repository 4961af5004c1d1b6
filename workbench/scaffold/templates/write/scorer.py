"""Score the length of the texts of [[ name ]]. It says nothing about their sense: read a sample."""

import workbench as wb

LEAST_WORDS, MOST_WORDS = [[ least_words ]], [[ most_words ]]


def score(outcome: wb.Outcome) -> float:
    """Return 1.0 for a text that is neither too short nor too long, and 0.0 for another."""
    return float(LEAST_WORDS <= len(outcome.text.split()) <= MOST_WORDS)
