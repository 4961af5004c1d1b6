# ruff: noqa: PT017, PT018 - a contract is made of assertions, and a name says what it promises
"""Contract of model adapters, as a suite to subclass.

    class TestMyModel(ModelContract):
        def make(self): return MyModel(...)

No test is skipped: a model must refuse what it declares unsupported.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, TypeVar

from workbench import _sync, wire
from workbench.errors import RefusedError, WorkbenchError
from workbench.ports import Model
from workbench.types import JSON, Event

T = TypeVar("T")

_RESPOND = wire.dialect("respond")
#: Keys that differ between two answers to one request.
_INCIDENTAL = frozenset({"id", "created", "created_at", "timings"})


class ModelContract:
    """The promises of a model. Subclass it and write `make`.

    `parameters` are sent with each chat request, `response_parameters` with each request of `/responses`.
    """

    chats: ClassVar[bool] = True
    responds: ClassVar[bool] = True
    moderates: ClassVar[bool] = True
    embeds: ClassVar[bool] = True
    counts: ClassVar[bool] = True
    model: ClassVar[str] = "model"
    parameters: ClassVar[Mapping[str, Any]] = {"temperature": 0, "max_tokens": 12}
    response_parameters: ClassVar[Mapping[str, Any]] = {"temperature": 0, "max_output_tokens": 16}

    def make(self) -> Model:
        """Return a new model; the suite closes it."""
        raise NotImplementedError

    def ask(self, text: str, **parameters: Any) -> JSON:
        """Return a chat request."""
        system = {"role": "system", "content": "You are a helpful assistant."}
        user = {"role": "user", "content": text}
        return {"model": self.model, "messages": [system, user], **self.parameters, **parameters}

    def ask_response(self, text: str, **parameters: Any) -> JSON:
        """Return a request of `/responses`."""
        asked = {"model": self.model, "instructions": "You are a helpful assistant.", "input": text}
        return {**asked, **self.response_parameters, **parameters}

    def with_model(self, use: Callable[[Model], Awaitable[T]]) -> T:
        """Run `use` on the background loop with a new model."""

        async def main() -> T:
            model = self.make()
            try:
                return await use(model)
            finally:
                await model.aclose()

        return _sync.run(main())

    def test_the_model_has_the_verbs_of_the_port(self) -> None:
        assert isinstance(self.make(), Model)

    def test_an_answer_has_text_finish_reason_and_usage(self) -> None:
        async def use(model: Model) -> list[Event]:
            return await _read(model.chat(self.ask("What is the capital of France?")))

        if not self.chats:
            self._refused(use)
            return
        (event,) = self.with_model(use)
        usage = wire.usage_of(event.data)
        assert wire.text_of(event.data)
        assert wire.finish_of(event.data) in {"stop", "length"}
        assert usage.input_tokens and usage.output_tokens

    def test_a_stream_folds_to_the_plain_answer(self) -> None:
        async def use(model: Model) -> tuple[list[Event], list[Event]]:
            asked = self.ask("Name three colours.")
            options = {"stream": True, "stream_options": {"include_usage": True}}
            return await _read(model.chat(asked)), await _read(model.chat({**asked, **options}))

        if not self.chats:
            self._refused(use)
            return
        plain, streamed = self.with_model(use)
        assert len(plain) == 1 and len(streamed) > 2
        assert _essence(wire.fold(streamed)) == _essence(wire.fold(plain))

    def test_a_stream_closed_early_stops_and_leaves_the_model_usable(self) -> None:
        async def use(model: Model) -> tuple[JSON, JSON]:
            stream = model.chat(self.ask("Tell me a long story.", stream=True, max_tokens=200))
            async with aclosing(stream) as events:  # type: ignore[type-var]
                first = await anext(events)
            return first.data, wire.fold(await _read(model.chat(self.ask("Name a colour."))))

        if not self.chats:
            self._refused(use)
            return
        first, after = self.with_model(use)
        assert wire.is_chunk(first)
        assert wire.text_of(after)

    def test_concurrent_callers_get_their_own_answers(self) -> None:
        words = ("red", "seven", "Paris", "water", "Monday", "piano")

        async def answer(model: Model, word: str) -> JSON:
            return _essence(wire.fold(await _read(model.chat(self.ask(f"Say the word {word}.")))))

        async def use(model: Model) -> tuple[list[JSON], list[JSON]]:
            alone = [await answer(model, word) for word in words]
            return alone, await asyncio.gather(*(answer(model, word) for word in words))

        if not self.chats:
            self._refused(use)
            return
        alone, together = self.with_model(use)
        assert alone == together
        assert len({str(answer["choices"]) for answer in alone}) > 1

    def test_a_request_without_messages_is_refused_with_its_status(self) -> None:
        async def use(model: Model) -> None:
            await _read(model.chat({"model": self.model, **self.parameters}))

        error = self._refused(use)
        assert error.status is not None and error.status >= 400

    def test_a_response_has_text_an_end_and_usage(self) -> None:
        async def use(model: Model) -> list[Event]:
            return await _read(model.respond(self.ask_response("What is the capital of France?")))

        if not self.responds:
            self._refused(use)
            return
        (event,) = self.with_model(use)
        usage = _RESPOND.usage_of(event.data)
        assert _RESPOND.text_of(event.data) and not _RESPOND.is_chunk(event.data)
        assert _RESPOND.finish_of(event.data) in {"completed", "max_output_tokens"}
        assert usage.input_tokens and usage.output_tokens

    def test_a_streamed_response_folds_to_the_plain_one(self) -> None:
        async def use(model: Model) -> tuple[list[Event], list[Event]]:
            asked = self.ask_response("Name three colours.")
            return await _read(model.respond(asked)), await _read(model.respond({**asked, "stream": True}))

        if not self.responds:
            self._refused(use)
            return
        plain, streamed = self.with_model(use)
        assert len(plain) == 1 and len(streamed) > 2
        assert all(_RESPOND.is_chunk(event.data) for event in streamed) and _RESPOND.is_complete(streamed)
        pieces = "".join(_RESPOND.piece_of(event.data) for event in streamed)
        assert pieces == _RESPOND.text_of(_RESPOND.fold(streamed)) == _RESPOND.text_of(plain[0].data)
        assert _essence(_RESPOND.fold(streamed)) == _essence(plain[0].data)

    def test_a_streamed_response_closed_early_leaves_the_model_usable(self) -> None:
        async def use(model: Model) -> tuple[JSON, JSON]:
            stream = model.respond(self.ask_response("Tell me a long story.", stream=True))
            async with aclosing(stream) as events:  # type: ignore[type-var]
                first = await anext(events)
            after = await _read(model.respond(self.ask_response("Name a colour.")))
            return first.data, _RESPOND.fold(after)

        if not self.responds:
            self._refused(use)
            return
        first, after = self.with_model(use)
        assert _RESPOND.is_chunk(first) and _RESPOND.text_of(after)

    def test_a_response_without_input_is_refused_with_its_status(self) -> None:
        async def use(model: Model) -> None:
            await _read(model.respond({"model": self.model, **self.response_parameters}))

        error = self._refused(use)
        assert error.status is not None and error.status >= 400

    def test_a_moderation_has_a_verdict_for_one_text_or_each_of_many(self) -> None:
        texts = ["a taxi to the airport", "annual leave"]

        async def use(model: Model) -> list[JSON]:
            asked = [{"model": self.model, "input": each} for each in (texts, texts[0])]
            return [(await _read(model.moderate(each)))[0].data for each in asked]

        if not self.moderates:
            self._refused(use)
            return
        together, alone = self.with_model(use)
        assert [type(each["flagged"]) for each in together["results"]] == [bool, bool]
        assert alone["results"] == together["results"][:1]

    def test_embeddings_are_unit_vectors_in_order_for_one_text_or_many(self) -> None:
        texts = ["a taxi to the airport", "annual leave", "a taxi to the airport", "Überstunden"]

        async def use(model: Model) -> tuple[JSON, list[JSON]]:
            together = await _read(model.embed({"model": self.model, "input": texts}))
            alone = [await _read(model.embed({"model": self.model, "input": text})) for text in texts]
            return wire.fold(together), [wire.fold(each) for each in alone]

        if not self.embeds:
            self._refused(use)
            return
        together, alone = self.with_model(use)
        vectors = [row["embedding"] for row in sorted(together["data"], key=lambda row: row["index"])]
        assert vectors == [each["data"][0]["embedding"] for each in alone]
        assert vectors[0] == vectors[2] != vectors[1]
        assert all(math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-5) for vector in vectors)
        assert wire.usage_of(together).input_tokens

    def test_a_count_equals_the_input_tokens_of_the_answer(self) -> None:
        short = "Name three colours."
        asked = [self.ask(text) for text in (short, f"{short} And a river in Überlingen.", short)]

        async def use(model: Model) -> tuple[list[Event], list[Event]]:
            counted = [event for one in asked for event in await _read(model.count(one))]
            return counted, [event for one in asked for event in await _read(model.chat(one))]

        if not self.chats:
            self._refused(use)
            return
        if not self.counts:
            self._refused(lambda model: _read(model.count(asked[0])))
            return
        counted, answered = self.with_model(use)
        tokens = [event.data["input_tokens"] for event in counted]
        assert tokens == [wire.usage_of(event.data).input_tokens for event in answered]
        assert 0 < tokens[0] == tokens[2] < tokens[1]

    def test_a_model_can_be_closed_twice_and_used_again(self) -> None:
        async def use(model: Model) -> list[Event]:
            await model.aclose()
            await model.aclose()
            if self.chats:
                return await _read(model.chat(self.ask("Name a colour.")))
            return await _read(model.embed({"model": self.model, "input": "a"}))

        assert len(self.with_model(use)) == 1

    def _refused(self, use: Callable[[Model], Awaitable[Any]]) -> RefusedError:
        """Return the WorkbenchError that `use` must raise, which is not retryable."""
        try:
            self.with_model(use)
        except RefusedError as error:
            assert not error.retryable
            return error
        except WorkbenchError as error:
            raise AssertionError(f"expected a refusal, not {type(error).__name__}: {error}") from error
        raise AssertionError("expected a refusal, but it answered")


async def _read(stream: AsyncIterator[Event]) -> list[Event]:
    async with aclosing(stream) as events:  # type: ignore[type-var]
        return [event async for event in events]


def _essence(answer: JSON) -> JSON:
    essence = {key: value for key, value in answer.items() if key not in _INCIDENTAL}
    if "output" in answer:  # each item of a response has an id
        essence["output"] = [_essence(item) for item in answer["output"]]
    return essence
