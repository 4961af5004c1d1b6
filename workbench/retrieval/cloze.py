"""Draft cases from passages: a sentence with a gap, and the words that stood in it as the answer."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from workbench import files
from workbench.types import Item

GENERATOR, GENERATOR_VERSION = "cloze", 1
GAP = "___"
#: Words of a sentence that is worth a gap.
_LEAST_WORDS, _MOST_WORDS = 6, 40
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
#: A number with the word after it, or a name inside of a sentence.
_ANSWER = re.compile(
    r"(?<![\w.,])\d+(?:[.,:]\d+)*(?:\s?%|\s?€|\s[a-z]{3,})?(?!\w)"
    r"|(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*(?!\w)"
)
#: Signs of a heading, a table or a list that make no sentence.
_MARKUP = ("#", "|", ">", "```", "![")


def drafts(items: Iterable[Item], n: int, *, tenant: str, seed: int) -> list[dict[str, Any]]:
    """Return up to `n` drafted cases of the items' texts, as rows of a dataset.

    The sources take turns, each in an order drawn by `seed`; the same items, number and seed give the same
    rows. Each row names its generator, version and seed and says that it is synthetic.
    """
    by_source: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in items:
        by_source[item.source] += _gaps(item.text)
    drawn = random.Random(seed)  # noqa: S311
    for source in sorted(by_source):
        by_source[source] = sorted(set(by_source[source]))
        drawn.shuffle(by_source[source])
    rows = [_row(pair, source, tenant, seed) for source, pair in _in_turns(by_source)]
    first = {row["id"]: row for row in reversed(rows)}  # one sentence may stand in two sources
    return [row for row in rows if first[row["id"]] is row][:n]


def _gaps(text: str) -> Iterator[tuple[str, str]]:
    """Yield the first gap of each sentence: the question, and the words in the gap."""
    for part in _SENTENCE.split(text):
        sentence = " ".join(part.split()).lstrip("-*+ ")
        if sentence.startswith(_MARKUP) or not _LEAST_WORDS <= len(sentence.split()) <= _MOST_WORDS:
            continue
        for match in _ANSWER.finditer(sentence):
            if sentence.count(match[0]) == 1 and match[0].strip() != sentence:
                gap = f"{sentence[: match.start()]}{GAP}{sentence[match.end() :]}"
                yield f'What belongs in the gap? "{gap}"', match[0]
                break


def _in_turns(by_source: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[tuple[str, tuple[str, str]]]:
    for turn in range(max(map(len, by_source.values()), default=0)):
        for source in sorted(by_source):
            if turn < len(by_source[source]):
                yield source, by_source[source][turn]


def _row(pair: tuple[str, str], source: str, tenant: str, seed: int) -> dict[str, Any]:
    question, answer = pair
    return {
        "id": f"{GENERATOR}-{files.digest([tenant, question])[:10]}",
        "tenant": tenant,
        "question": question,
        "page": source,
        "answers": [answer],
        "synthetic": True,
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
    }
