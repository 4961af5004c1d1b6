"""Journals with recordings that hold a text, for the tests of forgetting."""

from __future__ import annotations

from workbench.records.journal import Journal
from workbench.records.keys import Entry, RecordedRequest

TEXT = 'Ann said "ü\\x" twice.\nIn Berlin.'


def entry(name, *, said="", events=(), stream=False, content=""):
    """A recording: `content` is in the request, `said` in the answer."""
    request = {"messages": [{"role": "user", "content": f"{name}: {content} ."}]}
    request |= {"stream": True} if stream else {}
    question = RecordedRequest(operation="model.chat", identity={}, request=request, case=name)
    answer = {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": "stop"}]}
    result = {"events": list(events) or [answer]}
    return Entry(
        key=question.key, question=question, target="m", result=result, latency_s=1.0, first_event_s=1.0,
        processor={},
    )  # fmt: skip


def journal_of(path, *entries):
    journal = Journal(path)
    for item in entries:
        journal.append(item.key, item.line())
    return journal


def piece(text):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
