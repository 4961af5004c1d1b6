"""What an answer lacks to be a text, and counts of tokens of any form."""

from __future__ import annotations

import openai
import pytest
from calls import behind, chat

from workbench import wire
from workbench.errors import NoAnswerError
from workbench.models.client_requests import Caller
from workbench.models.clients import openai_client
from workbench.models.handle import ModelHandle
from workbench.testing.fakes import FakeModel
from workbench.types import Event, Usage

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(content, finish="stop", **message) -> dict:
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    return {"object": "chat.completion", "model": "m", "choices": [choice]}


#: The finish reasons of servers that translate those of Gemini, Bedrock, Mistral and GLM.
WITHHELD = (
    "SAFETY", "safety", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "content_filtered",
    "guardrail_intervened", "sensitive",
)  # fmt: skip
LIMITED = ("MAX_TOKENS", "max_tokens", "max_output_tokens", "max_length", "model_length", "LENGTH")


@pytest.mark.parametrize(
    ("given", "reason", "raises"),
    [
        (answer("Hi"), "", False),
        (answer("Hi", None), "", False),
        (answer("Hi", "eos"), "", False),
        (answer("Hi", tool_calls=[CALL]), "", False),
        (answer("Hi", "length"), "truncated", False),
        (answer("Hi", "content_filter"), "filtered", False),
        (answer("Hi", refusal="no"), "refusal", False),
        (answer(None, refusal="no"), "refusal", True),
        (answer("", refusal="no"), "refusal", True),
        (answer(None, "length"), "truncated", True),
        (answer("", "length"), "truncated", False),
        (answer("", "content_filter"), "filtered", True),
        *((answer("", word), "filtered", True) for word in WITHHELD),
        *((answer("Hi", word), "filtered", False) for word in WITHHELD),
        *((answer("Hi", word), "truncated", False) for word in LIMITED),
        (answer(None, "MAX_TOKENS"), "truncated", True),
        (answer("", "refusal"), "refusal", True),
        (answer("Hi", 12), "", False),
        (answer("Hi", {"type": "length"}), "", False),
        (answer(None, "tool_calls", tool_calls=[CALL]), "tool_call", False),
        (answer(None, "function_call", function_call=CALL["function"]), "tool_call", False),
        (answer(None, audio={"id": "a"}), "", False),
        (answer(""), "empty", False),
        (answer(None), "empty", True),
        (answer(None, reasoning="First"), "empty", True),
        # Recorded before answers were validated:
        ({"choices": []}, "empty", True),
        ({"choices": None}, "empty", True),
        ({"choices": [None]}, "empty", True),
        ({"choices": 4}, "empty", True),
        ({"choices": "Hi"}, "empty", True),
        ({"choices": [{"message": "Hi"}]}, "empty", True),
        ({"choices": [{"message": {"content": ["Hi"]}}]}, "empty", False),
    ],
)
def test_the_reason_why_an_answer_is_no_complete_text(given, reason, raises):
    assert wire.reason_of(given) == reason
    if not raises:
        assert wire.check_text(given) == reason
        return
    with pytest.raises(NoAnswerError, match="no text") as caught:
        wire.check_text(given)
    assert caught.value.reason == reason
    assert caught.value.hint
    assert not caught.value.retryable


def handle(*script) -> ModelHandle:
    class Card:
        name, model, dialect = "small", "small", "chat"

        def wire_defaults(self):
            return {}

        def cost_usd(self, usage):
            return None

    def make_call(operation, payload, labels):
        return chat("?", labels=labels, **{**payload, "messages": payload["messages"]})

    return ModelHandle(card=Card(), handler=behind(FakeModel(list(script))), make_call=make_call)


@pytest.mark.parametrize(
    ("given", "reason"), [(answer("Hi"), ""), (answer("Hi", "length"), "truncated"), (answer(""), "empty")]
)
def test_a_reply_is_flagged(given, reason):
    reply = handle(given).chat("?")
    assert (reply.text, reply.reason) == (wire.text_of(given), reason)


@pytest.mark.parametrize(
    "given", [answer(None, refusal="no"), answer("", "content_filter"), answer(None, "length")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_text_is_an_error(given, stream):
    asked = handle(given)
    with pytest.raises(NoAnswerError) as caught:
        list(asked.stream("?")) if stream else asked.chat("?")
    assert caught.value.reason == wire.reason_of(given)


def test_a_tool_call_is_a_reply_and_a_stream_of_text_only_where_a_tool_was_offered():
    called = answer(None, "tool_calls", tool_calls=[CALL])
    reply = handle(called).chat("?")
    assert (reply.text, reply.reason) == ("", "tool_call")
    assert reply.raw["choices"][0]["message"]["tool_calls"] == [CALL]
    assert list(handle(called).stream("?", tools=[{"type": "function"}])) == []
    with pytest.raises(NoAnswerError, match="called a tool"):
        list(handle(called).stream("?"))


def test_a_stream_yields_the_text_of_an_answer_that_came_whole():
    async def whole(call):
        yield Event(data=answer("Hi"))

    asked = handle()
    assert list(ModelHandle(card=asked.card, handler=whole, make_call=asked.make_call).stream("?")) == ["Hi"]


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(input_tokens=3, output_tokens=2)),
        ({"prompt_tokens": 3.0, "completion_tokens": None}, Usage(input_tokens=3)),
        (
            {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
            Usage(input_tokens=3, cached_tokens=1),
        ),
        ({"prompt_tokens": 3, "prompt_tokens_details": [1]}, Usage(input_tokens=3)),
        ({"prompt_tokens": "3", "completion_tokens": [2]}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": 1e20, "completion_tokens": 2**60}, Usage()),
        ({"prompt_tokens": 2.5, "completion_tokens": {}}, Usage()),
        ([], Usage()),
        ([3], Usage()),
        ("ten", Usage()),
        (10, Usage()),
        (None, Usage()),
    ],
)
def test_counts_of_tokens(usage, wanted):
    assert wire.usage_of({"usage": usage}) == wanted


@pytest.mark.parametrize(
    ("tokens", "wanted"), [(7, 7), (7.0, 7), ("7", None), (True, None), (-1, None), (None, None)]
)
def test_a_count_of_input_tokens(tokens, wanted):
    assert wire.tokens_of({"input_tokens": tokens}) == wanted


def test_folding_does_not_change_what_it_folds():
    deltas = [
        {"content": "a", "x": [1], "audio": {"data": "A"}, "tool_calls": [{"index": 0, **CALL}]},
        {"x": [2], "audio": {"data": "B"}},
    ]
    events = [
        Event(data={"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})
        for delta in deltas
    ]
    before = repr(events)
    assert wire.fold(events) == wire.fold(events)
    assert repr(events) == before


def test_an_endpoint_s_fault_is_a_502_of_an_openai_client_and_asked_once():
    asked = []

    async def faulty(call):
        asked.append(call)
        raise NoAnswerError("no choices", reason="no_choices", status=200)
        yield

    client = openai_client(Caller(handler=faulty, make_call=lambda operation, payload: chat("?")))
    with pytest.raises(openai.InternalServerError, match="no choices") as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert caught.value.status_code == 502
    assert len(asked) == 1


def test_a_refusal_is_read_by_an_openai_client_as_it_came():
    async def refusing(call):
        yield Event(data=answer(None, refusal="I can't"))

    client = openai_client(Caller(handler=refusing, make_call=lambda operation, payload: chat("?")))
    found = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert found.choices[0].message.refusal == "I can't"
