"""One suite for every model adapter. The embedded model runs it in tests/integration."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
from endpoint import endpoint, speaking

from workbench import _sync
from workbench.context import Context
from workbench.controls.onion import fold
from workbench.identity import Principal
from workbench.models import load_card, open_model
from workbench.models.openai import OpenAIModel
from workbench.ports import Call, Model
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


class TestWordLlama(ModelContract):
    chats = False

    def make(self) -> Model:
        return open_model(load_card(ROOT, "wordllama-256"), ROOT)


class _Folded:
    """A model seen through the boundary's fold, as callers see it."""

    def __init__(self, model: Model) -> None:
        async def leaf(call: Call):
            verb = model.chat if call.operation == "chat" else model.embed
            async with aclosing(verb(call.payload)) as events:
                async for event in events:
                    yield event

        self.model, self.handler = model, fold({"observe": _through, "budget": _through}, leaf)

    def chat(self, payload, *, timeout_s=None):
        return self._call("chat", payload)

    def embed(self, payload, *, timeout_s=None):
        return self._call("embed", payload)

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
