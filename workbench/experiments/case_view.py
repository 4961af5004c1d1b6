"""One case as nodes of a panel: answers with what differs, passages with what was sought, and reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workbench.experiments.case_detail import ArmAnswer, CaseDetail, expected_texts
from workbench.types import Hit
from workbench.widgets.nodes import Details, Group, MarkedWords, Node, Words
from workbench.widgets.word_marks import differing, matching

#: Passages that are shown of one answer.
_PASSAGES = 20
#: Words of questions that say nothing of what is sought.
_COMMON = frozenset(
    [
        "about",
        "also",
        "and",
        "any",
        "are",
        "been",
        "before",
        "but",
        "can",
        "could",
        "did",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "into",
        "its",
        "many",
        "may",
        "more",
        "most",
        "much",
        "must",
        "not",
        "other",
        "our",
        "over",
        "shall",
        "should",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "under",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
_LEAST = 3


def case_nodes(detail: CaseDetail) -> list[Node]:
    """Return the nodes of a case: question, expected values, answers, why they failed, passages."""
    question = [Words(text="question", tone="muted"), Words(text=detail.question)]
    expected = [Words(text="expected", tone="muted"), Words(text=detail.expected)]
    noted = [Words(text=text, tone="warn") for text in detail.noted()]
    reasons = detail.reasons()
    failed = [Words(text="why it failed", tone="muted"), Words(text="\n".join(reasons))]
    return [
        Group(row=True, nodes=(Group(nodes=question), Group(nodes=expected))),
        *noted,
        _answers(detail.answers),
        *(failed if reasons else []),
        *(_passages(answer, detail) for answer in detail.answers),
    ]


def _answers(answers: Sequence[ArmAnswer]) -> Node:
    marked: Sequence[Node]
    if len(answers) == 2 and all(answer.text for answer in answers):
        marked = differing(answers[0].text, answers[1].text)
    else:
        marked = [MarkedWords(parts=((answer.text or "no answer", ""),)) for answer in answers]
    columns = [
        Group(
            label=f"answer of {answer.arm}",
            nodes=(
                Words(text=answer.arm, heading=4),
                Words(text=answer.score_text(), tone="bad" if answer.failed else "good"),
                node,
            ),
        )
        for answer, node in zip(answers, marked, strict=True)
    ]
    return Group(row=True, nodes=columns)


def _passages(answer: ArmAnswer, detail: CaseDetail) -> Node:
    hits = answer.passages
    if hits is None:
        known = (
            f"only their sources are: {', '.join(answer.sources)}" if answer.sources else "nor their sources"
        )
        text = f"the texts are not kept with a run, {known}; the process that made the run shows them"
        return Details(summary=f"passages of {answer.arm}: not kept", nodes=(Words(text=text, tone="muted"),))
    phrases = (
        [text for texts in expected_texts(detail.case).values() for text in texts] if detail.case else []
    )
    words = _sought(detail.question) if detail.case else set()
    nodes: list[Node] = []
    for rank, hit in enumerate(hits[:_PASSAGES], start=1):
        nodes += [Words(text=_about(rank, hit), tone="muted"), matching(hit.text, words, phrases)]
    if len(hits) > _PASSAGES:
        nodes.append(Words(text=f"{len(hits) - _PASSAGES} more passages", tone="muted"))
    sources = ", ".join(dict.fromkeys(hit.source for hit in hits))
    summary = f"passages of {answer.arm}: {sources or 'none'}"
    return Details(summary=summary, nodes=nodes, open=answer.failed and bool(nodes))


def _about(rank: int, hit: Hit) -> str:
    stale = " · stale" if hit.stale else ""
    return f"{rank} · {hit.source} v{hit.version} · score {hit.score:.4f} · as of {hit.as_of}{stale}"


def _sought(question: str) -> set[str]:
    """Return the words of a question that say what is sought."""
    words = re.findall(r"[\w\u0300-\u036f]+", question.casefold()[:2_000])
    return {word for word in words if (len(word) >= _LEAST or word.isdigit()) and word not in _COMMON}
