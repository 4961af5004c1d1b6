"""One suite for every model adapter. The embedded model runs it in tests/integration."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from endpoint import begin_stream, endpoint, speaking

from workbench import _sync, wire
from workbench.context import Context
from workbench.controls.stack import fold
from workbench.errors import RefusedError
from workbench.identity import Principal
from workbench.models import load_card, open_model
from workbench.models.openai import OpenAIModel
from workbench.ports import Call, Model
from workbench.records.keys import refusal
from workbench.testing.fakes import FakeModel
from workbench.testing.model_contract import ModelContract

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = Context(use_case="answers", tenant="acme", principal=Principal(name="ada"), purpose="test")


class TestFakeModel(ModelContract):
    def make(self) -> Model:
        return FakeModel()


class TestOpenAIModel(ModelContract):
    @pytest.fixture(autouse=True)
    def _endpoint(self):
        self.behind = FakeModel()
        with endpoint(speaking(self.behind)) as self.url:
            yield

    def make(self) -> Model:
        return OpenAIModel(self.url, "a key")

    def test_a_stream_closed_early_stops_the_server_s_work(self):
        words = 50_000

        async def use(model):
            async with aclosing(model.chat(self.ask("word " * words, stream=True))) as events:
                await anext(events)
            while self.behind.unclosed:  # the test's own timeout bounds this
                await CONTEXT.clock.sleep(0.01)

        self.with_model(use)
        assert self.behind.events < words

    @pytest.mark.parametrize(("stateful", "store"), [(False, False), (True, None)])
    def test_an_endpoint_keeps_nothing_unless_its_card_says_so(self, stateful, store):
        async def use():
            model = OpenAIModel(self.url, "a key", stateful=stateful)
            try:
                async with aclosing(model.respond(self.ask_response("a"))) as events:
                    return [event async for event in events]
            finally:
                await model.aclose()

        _sync.run(use())
        assert self.behind.calls[-1].get("store") is store

    def test_a_streamed_response_leaves_its_connection_for_the_next(self):
        async def use(model):
            for _ in range(3):
                async with aclosing(model.respond(self.ask_response("a", stream=True))) as events:
                    assert [event async for event in events]
            return sum(map(len, model._session.connector._conns.values()))

        assert self.with_model(use) == 1


@pytest.mark.parametrize("after", ["holds", "breaks", "floods"])
def test_a_response_is_complete_with_its_last_event_whatever_its_connection_does(after):
    whole = {"id": "r", "status": "completed", "output": [{"type": "message", "content": []}]}
    events = wire.dialect("respond").unfold(whole)

    async def answer(asked):
        response = await begin_stream(asked)
        for event in events:
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        if after == "breaks":
            asked.transport.abort()
        elif after == "holds":
            await asyncio.sleep(30)
        else:
            await asyncio.sleep(0.05)  # the events have arrived by themselves
            await response.write(b": " + b"x" * 100_000)
        return response

    async def use():
        model = OpenAIModel(url, max_bytes=50_000)
        try:
            async with aclosing(model.respond({"input": "a", "stream": True})) as found:
                return [event.data async for event in found]
        finally:
            await model.aclose()

    began = time.monotonic()
    with endpoint(answer) as url:
        assert _sync.run(use()) == events
    assert time.monotonic() - began < 5


class TestAnEndpointThatDoesNotCount(ModelContract):
    """It has every route but that one, and says so in one of the ways endpoints do."""

    counts = False

    @pytest.fixture(
        autouse=True,
        params=["404", "405", "501", '200 {"choices":[]}', '200 {"input_tokens":"7"}', "200 <p>a page</p>"],
    )
    def _endpoint(self, request):
        self.how, knows = request.param, speaking(FakeModel())

        async def answer(asked):
            if not asked.path.endswith("/input_tokens"):
                return await knows(asked)
            status, _, body = self.how.partition(" ")
            return web.Response(status=int(status), text=body)

        with endpoint(answer) as self.url:
            yield

    def make(self) -> Model:
        return OpenAIModel(self.url, "a key")

    def test_the_refusal_says_so_and_can_be_recorded(self):
        async def use(model):
            async with aclosing(model.count(self.ask("a"))) as events:
                return [event async for event in events]

        error = self._refused(use)
        said = f"does not count the tokens of a request (it answered {self.how[:3]})"
        assert error.message == f"{self.url} {said}"
        assert refusal(error)["refused"]["status"] == 405


def test_a_refusal_to_count_for_this_key_stays_that():
    async def answer(_asked):
        return web.json_response({"error": {"message": "who are you"}}, status=401)

    async def use():
        model = OpenAIModel(url, "a key", key_name="SOME_KEY")
        try:
            async with aclosing(model.count({"messages": [{"role": "user", "content": "a"}]})) as events:
                return [event async for event in events]
        finally:
            await model.aclose()

    with endpoint(answer) as url, pytest.raises(RefusedError, match="who are you") as caught:
        _sync.run(use())
    assert caught.value.status == 401


class TestAnEndpointOfChatAlone(ModelContract):
    """It lacks the routes of responses and moderations, as most servers do."""

    responds = moderates = False

    @pytest.fixture(autouse=True, params=[404, 405, 501])
    def _endpoint(self, request):
        knows = speaking(FakeModel())

        async def answer(asked):
            if asked.path.endswith(("/responses", "/moderations")):
                return web.json_response({"error": {"message": "no such route"}}, status=request.param)
            return await knows(asked)

        with endpoint(answer) as self.url:
            yield

    def make(self) -> Model:
        return OpenAIModel(self.url, "a key")

    @pytest.mark.parametrize(
        ("verb", "advice"), [("respond", "dialect: chat"), ("moderate", "kind moderation")]
    )
    def test_the_refusal_names_the_route_and_what_to_use_instead(self, verb, advice):
        async def use(model):
            async with aclosing(getattr(model, verb)({"model": "m", "input": "a"})) as events:
                return [event async for event in events]

        error = self._refused(use)
        assert f"/{'responses' if verb == 'respond' else 'moderations'}" in error.message
        assert advice in error.hint and refusal(error) is None, "another endpoint may have the route"


class TestWordLlama(ModelContract):
    chats = responds = moderates = False

    def make(self) -> Model:
        return open_model(load_card(ROOT, "wordllama-256"), ROOT)

    def test_a_number_of_dimensions_that_it_lacks_is_refused_by_name(self):
        def asking(dimensions):
            async def use(model):
                asked = {"model": self.model, "input": "a", "dimensions": dimensions}
                async with aclosing(model.embed(asked)) as events:
                    return [event async for event in events]

            return use

        assert "64" in self._refused(asking(64)).message
        assert len(self.with_model(asking(256))) == 1


def test_the_embedded_model_refuses_a_tool_that_must_be_called():
    model = open_model(load_card(ROOT, "smollm2-135m"), ROOT)
    tools = [{"type": "function", "function": {"name": "f"}}]
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        with pytest.raises(RefusedError, match="tool_choice") as caught:
            model.chat({"messages": [], "tools": tools, "tool_choice": choice})
        assert caught.value.status == 400
    for verb, advice in (("respond", "chat.completions"), ("moderate", "kind moderation")):
        with pytest.raises(RefusedError, match="embedded model") as caught:
            getattr(model, verb)({"input": "a"})
        assert advice in caught.value.hint


class _Folded:
    """A model seen through the boundary's fold, as callers see it."""

    def __init__(self, model: Model) -> None:
        async def leaf(call: Call):
            async with aclosing(getattr(model, call.operation)(call.payload)) as events:
                async for event in events:
                    yield event

        self.model, self.handler = model, fold({"observe": _through, "retry": _through}, leaf)

    def chat(self, payload, *, timeout_s=None):
        return self._call("chat", payload)

    def respond(self, payload, *, timeout_s=None):
        return self._call("respond", payload)

    def moderate(self, payload, *, timeout_s=None):
        return self._call("moderate", payload)

    def embed(self, payload, *, timeout_s=None):
        return self._call("embed", payload)

    def count(self, payload, *, timeout_s=None):
        return self._call("count", payload)

    def _call(self, operation, payload):
        call = Call(port="model", operation=operation, target="fake", payload=payload, context=CONTEXT)
        return _sync.iterate_async(self.handler(call))

    async def aclose(self):
        await self.model.aclose()


async def _through(call, proceed):
    async for event in proceed(call):
        yield event


class TestInsideTheFold(ModelContract):
    def make(self) -> Model:
        return _Folded(FakeModel())
