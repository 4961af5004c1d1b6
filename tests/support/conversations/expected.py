"""The conversations of suite.json: what each driver is given, and what is wrong with what it told."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from workbench.testing import wire_answers

SUITE = Path(__file__).with_name("suite.json")
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather of a city.", "parameters": PARAMETERS}
TEXTS = ["größer", "東京 🚕"]
#: What stands in the suite for values that would be long there.
NAMED = {
    "$TEXT": wire_answers.TEXT,
    "$LONG": "x" * 70_000,
    "$weather": {"type": "function", "function": {**WEATHER, "strict": True}},
    "$weather_item": {"type": "function", **WEATHER, "strict": True},
    "$VECTORS": [
        [round(number, 5) for number in row["embedding"]]
        for row in wire_answers.whole("embeddings", {"input": TEXTS}, "")["data"]
    ],
}
#: The same class of error in the JavaScript client and in Python's.
CLASSES = {"APIConnectionTimeoutError": "APITimeoutError", "APIStatusError": "APIError"}


def suite(driver):
    """Return the conversations for one driver: each has a session of its own."""
    read = json.loads(SUITE.read_text(encoding="utf-8"))
    found = [_named(item, session=f"{driver}-{number}") for number, item in enumerate(read)]
    for number, item in enumerate(found):
        item["session"] = f"{driver}-{number}"
        item["headers"] = {"Workbench-Session": item["session"], **item.get("headers", {})}
    return found


def _named(value, *, session):
    """Return a value of the suite with what stands for its names; `$SESSION` is that of the conversation."""
    if isinstance(value, str):
        return session if value == "$SESSION" else NAMED.get(value, value)
    if isinstance(value, list):
        return [_named(item, session=session) for item in value]
    if isinstance(value, dict):
        return {name: _named(item, session=session) for name, item in value.items()}
    return value


NAMES = [item["name"] for item in suite("")]


def facts_of(told):
    """Return what a conversation came to, whichever client told it; a list has a value for each answer."""
    facts = {}
    for answer in told["answers"]:
        for name, value in _facts(answer).items():
            facts.setdefault(name, []).append(value)
    if error := told.get("error"):
        facts["error"] = {name: value for name, value in error.items() if value not in (None, "")}
        facts["error"]["class"] = CLASSES.get(error["class"], error["class"])
    if texts := facts.get("text"):
        facts["is_same"] = len(texts) > 1 and bool(texts[0]) and all(a == b for a, b in pairwise(texts))
    return facts


def _facts(answer):
    if "body" in answer and "status" in answer:
        return {"status": answer["status"], "said": _said(answer["body"])}
    if "input_tokens" in answer:
        return {"tokens": answer["input_tokens"]}
    readers = {
        "events": _events, "choices": _completion, "output": _response, "data": _rows, "results": _results,
        "owned_by": lambda answer: {"models": [answer["id"]]},
    }  # fmt: skip
    return next(read for name, read in readers.items() if name in answer)(answer)


def _events(answer):
    events = answer["events"]
    return _response_events(events) if events and "type" in events[0] else _chunks(events)


def _completion(answer):
    (choice,) = answer["choices"]
    calls = [item["function"] for item in choice["message"].get("tool_calls") or ()]
    return {
        "text": choice["message"].get("content") or "",
        "calls": [[item["name"], json.loads(item["arguments"])] for item in calls],
        "finish": choice["finish_reason"],
        "tokens": (answer.get("usage") or {}).get("total_tokens"),
        "model": answer["model"],
    }


def _results(answer):
    return {"flagged": [item["flagged"] for item in answer["results"]]}


def _said(body):
    """Return what a verb of a memory answered, without what differs from run to run."""
    if "error" in body:
        return body["error"]["type"]
    if "data" in body:
        return sorted(row["id"] for row in body["data"])
    if "ids" in body:
        return len(body["ids"])
    for name in ("hits", "items"):
        if name in body:
            return [row["text"] for row in body[name]]
    return body.get("count", body.get("new"))


def _rows(answer):
    rows = answer["data"]
    if "embedding" not in rows[0]:
        return {"models": sorted(row["id"] for row in rows)}
    vectors = [[round(number, 5) for number in row["embedding"]] for row in rows]
    return {"vectors": vectors, "dimensions": len(vectors[0])}


def _chunks(events):
    choices = [choice for event in events for choice in event["choices"]]
    pieces = [text for choice in choices if (text := choice["delta"].get("content"))]
    usage = [event["usage"]["total_tokens"] for event in events if event.get("usage")]
    finish = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return {
        "text": "".join(pieces),
        "pieces": len(pieces),
        "finish": "".join(finish),
        "tokens": usage[-1] if usage else None,
    }


def _response(answer):
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    return {
        "text": answer["output_text"],
        "calls": [[item["name"], json.loads(item["arguments"])] for item in calls],
        "finish": answer["status"],
        "tokens": answer["usage"]["total_tokens"],
    }


def _response_events(events):
    pieces = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    last = events[-1].get("response") or {}
    return {
        "text": "".join(pieces),
        "pieces": len(pieces),
        "finish": last.get("status"),
        "tokens": (last.get("usage") or {}).get("total_tokens"),
        "events": list(dict.fromkeys(event["type"] for event in events)),
    }


def faults_of(conversation, facts):
    """Return what is wrong with the facts of a conversation; empty if nothing is."""
    expected = dict(conversation["expect"])
    error, found = dict(expected.pop("error", {})), facts.get("error", {})
    faults = [
        f"{name} is {facts.get(name)!r}, not {value!r}"
        for name, value in expected.items()
        if facts.get(name) != value
    ]
    if bool(error) != bool(found):
        faults.append(f"the error is {found}, not {error}")
    says = error.pop("says", "")
    if says not in found.get("message", ""):
        faults.append(f"{says!r} is not in the error {found.get('message')!r}")
    faults += [
        f"the error's {name} is {found.get(name)!r}, not {value!r}"
        for name, value in error.items()
        if found and found.get(name) != value
    ]
    return faults


def comparable(facts):
    """Return the facts that are the same for every client: texts of errors begin with words of the client."""
    if "error" not in facts:
        return facts
    kept = {name: value for name, value in facts["error"].items() if name in {"class", "status", "type"}}
    return facts | {"error": kept}
