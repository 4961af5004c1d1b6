"""The form of a model's impact assessment: every question with a comment, and the facts of the card."""

from __future__ import annotations

import json
import textwrap
from urllib.parse import urlsplit

from workbench.models.assessment import MOST_DAYS, QUESTIONS
from workbench.models.card import ModelCard

_WIDTH = 110


def form(card: ModelCard, *, owner: str, by: str) -> str:
    """Return the text of an unanswered assessment of a card; `by` is the person who fills it in."""
    lines = [
        f"# Impact assessment of the model {card.name}. docs/assessments.md explains every key.",
        *_comment(f"The card says: {_facts(card)}."),
        "# Fill in what is empty, then: workbench assess " + card.name,
        f"model: {card.name}",
        "# Who answers for the use of this model.",
        f"owner: {_text(owner)}",
        "# Who filled in this form. Another person approves it.",
        f"assessed_by: {_text(by)}",
        "# The classes of data that the model may get, such as [public, internal].",
        "data_classes: []",
        "# The first day on which this assessment no longer holds, such as 2027-06-30:",
        f"# at most {MOST_DAYS} days after the oldest answer.",
        "expires: null",
        "answers:",
    ]
    for key, question in QUESTIONS.items():
        lines += [f"  # {question}", f"  {key}:", "    answered: null", '    answer: ""']
    return "\n".join(lines) + "\n"


def _facts(card: ModelCard) -> str:
    place = urlsplit(card.base_url).hostname if card.base_url else "this machine"
    facts = [card.purpose.strip().rstrip("."), f"kind {card.kind}", f"endpoint {place}"]
    return "; ".join([*facts, f"region {card.region}", f"licence {card.licence}"])


def _comment(text: str) -> list[str]:
    plain = " ".join(text.split())
    return [f"# {line}" for line in textwrap.wrap(plain, _WIDTH, break_long_words=False)]


def _text(value: str) -> str:
    """Return a text as a quoted scalar, which YAML and JSON read alike."""
    return json.dumps(value, ensure_ascii=True)
