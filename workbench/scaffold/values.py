"""The values that the templates of a new use case are rendered with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench import files
from workbench.context import SystemClock
from workbench.errors import ConfigError
from workbench.scaffold import gate_defaults, rendering, sources
from workbench.scaffold.order import InitOrder
from workbench.scaffold.sources import Cases, SourceDocuments

REASON = "The template of `workbench init`."
#: The model of a new use case: the embedded one.
MODEL = "smollm2-135m"
#: Words of a text that the template `write` accepts.
_LEAST_WORDS, _MOST_WORDS = 5, 150
_TITLES = {
    "answer": "Answers from", "classify": "Labels of", "extract": "Fields of", "write": "Texts of",
}  # fmt: skip
_PURPOSES = {
    "answer": "Questions are answered from the documents, with the source of each answer.",
    "classify": "Each text gets one label of a closed set.",
    "extract": "The fields of a record are filled in from each text.",
    "write": "A text is written for each request.",
}
_DESCRIBED = {
    "answer": "Answer a question from the best passage of the documents.",
    "classify": "Give a text one label of a closed set.",
    "extract": "Fill in the fields of a record from a text.",
    "write": "Write a short text.",
}


def of_order(
    order: InitOrder, documents: SourceDocuments | None, cases: Cases, author: str
) -> dict[str, Any]:
    """Return the values of every template of the order's kind; `author` is the default owner."""
    name, data = order.name, f"data/{order.name}"
    title = rendering.one_line(order.title) or f"{_TITLES[order.kind]} {name}"
    return {
        **_of_kind(order, documents, cases),
        "name": name,
        "title": title,
        "heading": title,
        "purpose": rendering.one_line(order.purpose) or _PURPOSES[order.kind],
        "owner": rendering.one_line(order.owner) or author,
        "reason": REASON,
        "describes": _DESCRIBED[order.kind],
        "notebook": f"notebooks/{name}.ipynb",
        "served": sorted({*cases.tenants, *(documents.tenants if documents is not None else ())}),
        "groups": _groups(documents),
        "data": data,
        "handles": ["internal", "personal"],  # what people write may name people
        "as_of": SystemClock().now().date().isoformat(),
        "memory": name if documents is not None else None,
        "memory_version": 1,
        "prompt": name,
        "prompt_version": 1,
        "parent": None,
        "model": MODEL,
        "report": f"reports/{name}",
        "parameters": {"corpus": name} if documents is not None else {},
        "dataset": f"{data}/questions.jsonl",
        "quality": f"pipelines/quality/{name}.yaml",
        "sample": f"{data}/sample.jsonl",
        "input": f"data/inbox/{name}-{{date}}.jsonl",
        "scorer": f"pipelines/scorers/{name}.py",
        "minute": "0",
        "mlvp": False,
    }


def _groups(documents: SourceDocuments | None) -> list[str]:
    """Return every group that a page names: the pipeline answers from all of them."""
    pages = documents.pages if documents is not None else ()
    return ["everyone", *sorted({group for page in pages for group in page.access} - {"everyone"})]


def _of_kind(order: InitOrder, documents: SourceDocuments | None, cases: Cases) -> Mapping[str, Any]:
    """Return the values that the templates of one kind have of their own."""
    memory, gate = _of_memory(order, documents), gate_defaults.bounds(len(cases.rows))
    if order.kind == "answer":
        questions = f"data/{order.name}/questions.jsonl" if cases.page else ""
        recall = gate_defaults.bounds(cases.with_page)["recall"] if cases.page else ""
        every = cases.with_page == len(cases.rows)
        own = {"page": cases.page, "every_page": every, "recall": recall, "questions": questions}
        return {**gate, **memory, **_ANSWER, **own}
    if order.kind == "classify":
        rows = [*cases.rows, *(documents.rows if documents is not None else ())]
        assert order.questions is not None  # noqa: S101
        labels = sources.labels(rows, order.questions)
        return {**memory, **_of_labels(labels, cases), "baseline": "zero_shot" if documents else ""}
    if order.kind == "extract":
        return {**gate, "fields": list(cases.rows[0]["fields"])}
    return {**gate, **memory, "least_words": _LEAST_WORDS, "most_words": _MOST_WORDS}


def _of_memory(order: InitOrder, documents: SourceDocuments | None) -> dict[str, Any]:
    if documents is None:
        return {}
    of_rows = bool(documents.rows)
    what = "Solved examples" if of_rows else "The documents"
    place = "solved.jsonl" if of_rows else "documents"
    return {
        "contents": f"{what} of {rendering.one_line(documents.label)}.",
        "source": f"data/{order.name}/{place}",
        "tenants_from": documents.tenants_from,
        "access": f"data/{order.name}/access.yaml" if order.access is not None else "",
        "chunking": "{kind: paragraphs, min_chars: 200, max_chars: 800}",
        "questions": "",
    }


def _of_labels(labels: Sequence[str], cases: Cases) -> dict[str, Any]:
    for label in labels:
        if any(sign in label for sign in ("{{", "{%", "{#")):
            raise ConfigError(
                f"the label {label!r} has a sign of the templates of prompts",
                hint="rename it without {{, {% and {#",
            )
    quoted = [files.canonical(label).decode() for label in labels]
    counts = Counter(row["label"] for row in cases.rows)
    commonest = max(counts.values()) / len(cases.rows)
    return {
        **gate_defaults.bounds(len(cases.rows), above=commonest),
        "commonest": f"{commonest:.2f}",
        "by_chance": f"{1 / len(labels):.2f}",
        "approach": "",
        "worst_slice": "",
        "labels": list(labels),
        "grammar": f"root ::= {' | '.join(quoted)}",
        "most_tokens": max(8, 2 + max(map(len, labels))),
        "thing": "text",
        "things": "texts",
        "sorted_things": "texts",
    }


#: The values of the template `answer` that are the same for every new use case.
_ANSWER: Mapping[str, Any] = {
    "asks": "Can a small embedded model answer questions from these documents, well enough to go on?",
    "documents": "the documents",
    "role": "You answer questions.",
    "system": "You answer questions about documents.",
    "baseline": "closed_book",
    "approach": "",
    "brief": False,
    "corpus_note": "",
    "few_shot": "",
    "fenced": True,
}
