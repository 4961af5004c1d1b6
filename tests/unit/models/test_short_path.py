"""A plain request of an `openai` client: the short path and the HTTP request give the same."""

import asyncio
import math

import openai
import pytest
from calls import chat
from pydantic import BaseModel

from workbench.errors import NoAnswerError, RateLimitedError, RefusedError, UnavailableError
from workbench.models import short_path
from workbench.models.client_requests import Caller
from workbench.models.clients import openai_async_client, openai_client
from workbench.testing.fakes import FakeModel
from workbench.types import Event

MESSAGES = [{"role": "user", "content": "How much is a taxi?"}]
ERRORS = [
    RateLimitedError("answered 429", hint="later", retry_after_s=7),
    UnavailableError("answered 500", status=500),
    NoAnswerError("no choices", reason="no_choices", status=200),
    RefusedError("no such model", status=404, body={"error": {"message": "no such model"}}),
]
#: Each way of asking, and whether it needs no HTTP request.
WAYS = {
    "plain": ({}, True),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, True),
    "headers": ({"extra_headers": {"x-a": "b"}}, False),
    "query": ({"extra_query": {"a": "b"}}, False),
    "body": ({"extra_body": {"top_k": 4}}, False),
    "timeout": ({"timeout": 5}, False),
    "null": ({"metadata": {"a": None}}, False),
}


class Seen:
    """A handler that notes what it is asked, and whether an HTTP request carried it."""

    def __init__(self, monkeypatch, answer="12 euros"):
        self.payloads, self.deadlines, self.built, self.model = [], [], 0, FakeModel(lambda _: answer)
        for kind in (openai.OpenAI, openai.AsyncOpenAI):
            self.count(monkeypatch, kind)

    def count(self, monkeypatch, kind):
        built = kind._build_request

        def counted(*args, **options):
            self.built += 1
            return built(*args, **options)

        monkeypatch.setattr(kind, "_build_request", counted)

    async def handler(self, call):
        self.payloads.append(call.payload)
        self.deadlines.append(call.deadline)
        async for event in self.model.chat(call.payload):
            yield event

    def make(self, _operation, payload):
        call = chat()
        return type(call)(
            port=call.port, operation="chat", target=call.target, payload=payload, context=call.context
        )


def both(seen, how):
    """The answers of a client and of its async twin."""

    async def main():
        client = openai_async_client(Caller(handler=seen.handler, make_call=seen.make))
        return await client.chat.completions.create(model="m", messages=MESSAGES, **how)

    client = openai_client(Caller(handler=seen.handler, make_call=seen.make))
    return client.chat.completions.create(model="m", messages=MESSAGES, **how), asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_a_request_is_carried_as_it_needs_and_answered_alike(way, monkeypatch):
    how, short = WAYS[way]
    seen = Seen(monkeypatch)
    answers = both(seen, how)
    assert seen.built == (0 if short else 2)
    monkeypatch.setattr(short_path, "_PATHS", frozenset())
    ordinary = both(seen, how)
    assert seen.payloads[:2] == seen.payloads[2:]
    for answer in (*answers, *ordinary):
        assert type(answer) is type(ordinary[0])
        assert {**answer.model_dump(), "id": ""} == {**ordinary[0].model_dump(), "id": ""}
        assert answer.choices[0].message.content == "12 euros"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_client_s_own_in_both_ways(error, monkeypatch):
    seen, caught = Seen(monkeypatch, error), []
    for paths in (short_path._PATHS, frozenset()):
        monkeypatch.setattr(short_path, "_PATHS", paths)
        with pytest.raises(openai.APIStatusError) as raised:
            both(seen, {})
        caught.append(raised.value)
    assert seen.built == 1
    short, ordinary = caught
    assert (type(short), short.status_code, str(short)) == (
        type(ordinary),
        ordinary.status_code,
        str(ordinary),
    )
    assert short.body == ordinary.body
    assert short.response.headers.get("retry-after") == ordinary.response.headers.get("retry-after")
    assert short.request.url == ordinary.request.url


def test_a_raw_response_a_stream_and_a_parsed_answer_take_the_ordinary_way(monkeypatch):
    class Fare(BaseModel):
        euros: int

    seen = Seen(monkeypatch, '{"euros": 12}')
    completions = openai_client(Caller(handler=seen.handler, make_call=seen.make)).chat.completions
    raw = completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.parse().choices[0].message.content == '{"euros": 12}'
    stream = completions.create(model="m", messages=MESSAGES, stream=True)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == '{"euros": 12}'
    )
    parsed = completions.parse(model="m", messages=MESSAGES, response_format=Fare)
    assert parsed.choices[0].message.parsed == Fare(euros=12)
    assert seen.built == 3


def test_another_transport_timeout_or_closed_client_is_honoured(monkeypatch):
    seen = Seen(monkeypatch)
    client = openai_client(Caller(handler=seen.handler, make_call=seen.make))
    assert isinstance(client, openai.OpenAI)
    assert (type(client).__module__, type(client).__name__) == ("openai", "OpenAI")
    client.with_options(timeout=3).chat.completions.create(model="m", messages=MESSAGES)
    client.with_options(timeout=openai.Timeout(3)).chat.completions.create(model="m", messages=MESSAGES)
    client.with_options(timeout=None).chat.completions.create(model="m", messages=MESSAGES)
    assert seen.built == 1
    assert [deadline is None for deadline in seen.deadlines] == [False, False, True]
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.chat.completions.create(model="m", messages=MESSAGES)


def test_a_number_that_is_no_json_is_refused_as_ever(monkeypatch):
    seen = Seen(monkeypatch)
    with pytest.raises(ValueError, match="JSON"):
        both(seen, {"temperature": math.nan})
    assert seen.payloads == []


def test_what_the_client_returns_is_its_own_copy(monkeypatch):
    seen = Seen(monkeypatch)
    held = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]
    }
    held["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "odd": {"a": 1}}

    async def handler(_call):
        yield Event(data=held)

    answer = openai_client(Caller(handler=handler, make_call=seen.make)).chat.completions.create(
        model="m", messages=MESSAGES
    )
    answer.usage.odd["a"] = 2
    assert held["usage"]["odd"] == {"a": 1}


def test_a_client_that_a_tracer_has_changed_takes_the_ordinary_way(monkeypatch):
    """What wraps `request` of `openai`, and what hooks into its HTTP client, sees every request."""
    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        seen, traced = Seen(monkeypatch), []
        request = kind.request

        def wrapped(*args, request=request, traced=traced, **options):
            traced.append(args[2].url)
            return request(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "request", wrapped)
            both(seen, {})
            assert traced == ["/chat/completions"] and seen.built == 1
        both(seen, {})
        assert len(traced) == 1 == seen.built


def test_a_hook_of_the_http_client_sees_every_request(monkeypatch):
    seen, hooked = Seen(monkeypatch), []
    client = openai_client(Caller(handler=seen.handler, make_call=seen.make))
    client.chat.completions.create(model="m", messages=MESSAGES)
    client._client.event_hooks = {"request": [lambda request: hooked.append(request.url.path)]}
    client.chat.completions.create(model="m", messages=MESSAGES)
    assert hooked == ["/v1/chat/completions"] and seen.built == 1


def test_another_version_of_openai_takes_the_ordinary_way(monkeypatch):
    seen = Seen(monkeypatch)
    monkeypatch.setattr(short_path, "_NEEDED", (*short_path._NEEDED, "_made_later"))
    short_path._has_needed.cache_clear()
    both(seen, {})
    assert seen.built == 2
    short_path._has_needed.cache_clear()


def test_an_option_that_is_not_known_takes_the_ordinary_way(monkeypatch):
    seen = Seen(monkeypatch)
    monkeypatch.setattr(short_path, "_KNOWN", short_path._KNOWN - {"synthesize_event_and_data"})
    both(seen, {})
    assert seen.built == 2
