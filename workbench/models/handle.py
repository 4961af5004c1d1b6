"""The model handle that `ws.model()` returns; it calls the boundary, never an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from workbench import _sync, wire
from workbench.context import current_invocation
from workbench.errors import InvalidOutputError, UnavailableError
from workbench.ports import Call, Handler
from workbench.types import JSON, Event, Hit, Message, Reply, Usage, wire_messages


class ModelFacts(Protocol):
    """The part of a model card that a handle uses."""

    @property
    def name(self) -> str:
        """The card's name."""

    @property
    def model(self) -> str:
        """The model's name on the wire."""

    def wire_defaults(self) -> dict[str, Any]:
        """Return the default wire parameters of every request."""

    def cost_usd(self, usage: Usage) -> float | None:
        """The price of one answer in US dollars; None when unknown."""


class Turns(Protocol):
    """A rendered prompt: chat turns and their origin."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """Chat turns."""

    @property
    def prompt(self) -> str:
        """The prompt's reference, as `answer@2`."""

    @property
    def digest(self) -> str:
        """The prompt's digest."""

    @property
    def passages(self) -> tuple[Hit, ...]:
        """Passages the turns carry."""

    @property
    def output(self) -> Mapping[str, Any] | None:
        """The JSON schema of the answer, or None for free text."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Wire parameters over the card's."""


Asked = str | Sequence[Message | Mapping[str, Any]] | Turns
MakeCall = Callable[[str, JSON, Mapping[str, Any]], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHandle:
    """One model for one tenant and principal. Every verb crosses the boundary."""

    card: ModelFacts
    handler: Handler = field(repr=False)
    make_call: MakeCall = field(repr=False)

    def chat(self, asked: Asked, **parameters: Any) -> Reply:
        """Return the model's complete answer to a rendered prompt, a text or chat turns.

        `parameters` are wire parameters over the card's and the prompt's. Raises UnavailableError,
        RefusedError, InvalidOutputError, and NoAnswerError if the answer has no text.
        """
        return _sync.run(self.chat_async(asked, **parameters))

    async def chat_async(self, asked: Asked, **parameters: Any) -> Reply:
        """See `chat`."""
        call = self._call(asked, parameters)
        return await _sync.run_async(self._reply(call, asked))

    def stream(self, asked: Asked, **parameters: Any) -> Iterator[str]:
        """The answer's text piece by piece; leaving the loop closes the stream."""
        yield from _sync.iterate(self._texts(self._call(asked, {**parameters, "stream": True})))

    async def stream_async(self, asked: Asked, **parameters: Any) -> AsyncIterator[str]:
        """See `stream`."""
        texts = self._texts(self._call(asked, {**parameters, "stream": True}))
        async with aclosing(_sync.iterate_async(texts)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order."""
        return _sync.run(self.embed_async(texts))

    async def embed_async(self, texts: Sequence[str]) -> list[list[float]]:
        """See `embed`."""
        payload = {"model": self.card.model, "input": list(texts)}
        return await _sync.run_async(self._vectors(self.make_call("embed", payload, {})))

    def count_tokens(self, asked: Asked, **parameters: Any) -> int:
        """Return the number of input tokens of the same `chat` call, counted by the endpoint.

        Raises RefusedError with status 405 if the endpoint does not count, and UnavailableError.
        """
        return _sync.run(self.count_tokens_async(asked, **parameters))

    async def count_tokens_async(self, asked: Asked, **parameters: Any) -> int:
        """See `count_tokens`."""
        return await _sync.run_async(self._tokens(self._call(asked, parameters, operation="count")))

    def _call(self, asked: Asked, parameters: Mapping[str, Any], *, operation: str = "chat") -> Call:
        payload: dict[str, Any] = {"model": self.card.model, **self.card.wire_defaults()}
        labels: dict[str, Any] = {}
        if isinstance(asked, str):
            payload["messages"] = [Message(role="user", content=asked).wire()]
        elif isinstance(asked, Sequence):
            payload["messages"] = wire_messages(cast("Sequence[Message]", asked))
        else:
            payload["messages"] = wire_messages(asked.messages)
            payload.update(asked.parameters)
            labels = {
                "prompt": asked.prompt,
                "prompt_digest": asked.digest,
                "passages": [hit.id for hit in asked.passages],
            }
            if asked.output is not None:
                payload["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": dict(asked.output)},
                }
        payload.update(parameters)
        return self.make_call(operation, payload, labels)

    async def _reply(self, call: Call, asked: Asked) -> Reply:
        passages = getattr(asked, "passages", ())
        if passages and (around := current_invocation()) is not None:
            around.passages.extend(passages)
        async with aclosing(self.handler(call)) as stream:  # type: ignore[type-var]
            raw = wire.fold([event async for event in stream])
        return self._read(raw, call, passages)

    def _read(self, raw: JSON, call: Call, passages: tuple[Hit, ...]) -> Reply:
        facts, usage, text = call.span.facts, wire.usage_of(raw), wire.text_of(raw)
        reason = wire.check_text(raw)
        return Reply(
            text=text,
            data=_data(text, call.payload),
            model=str(raw.get("model") or self.card.model),
            finish_reason=wire.finish_of(raw),
            reason=reason,
            usage=usage,
            cost_usd=self.card.cost_usd(usage),
            latency_s=facts.get("recorded_latency_s"),
            replayed=bool(facts.get("replayed")),
            trace_id=str(facts.get("trace_id", "")),
            prompt=call.labels.get("prompt"),
            passages=passages,
            raw=raw,
        )

    async def _texts(self, call: Call) -> AsyncIterator[str]:
        before: list[Event] | None = []  # events before the first text
        async with aclosing(self.handler(call)) as stream:  # type: ignore[type-var]
            async for event in stream:
                if before is not None:
                    before.append(event)
                for choice in event.data.get("choices") or ():
                    if piece := (choice.get("delta") or choice.get("message") or {}).get("content"):
                        before = None
                        yield piece
        if before is not None:
            calls = bool(call.payload.get("tools") or call.payload.get("functions"))
            wire.check_text(wire.fold(before), calls=calls)

    async def _vectors(self, call: Call) -> list[list[float]]:
        async with aclosing(self.handler(call)) as stream:  # type: ignore[type-var]
            raw = wire.fold([event async for event in stream])
        rows = sorted(raw["data"], key=lambda row: row["index"])
        return [list(row["embedding"]) for row in rows]

    async def _tokens(self, call: Call) -> int:
        async with aclosing(self.handler(call)) as stream:  # type: ignore[type-var]
            tokens = wire.tokens_of(wire.fold([event async for event in stream]))
        if tokens is None:
            raise UnavailableError(f"{self.card.name!r} returned no token count", hint="ask again")
        return tokens


def _data(text: str, payload: JSON) -> Any:
    """The parsed answer when a format was asked for; the output control has judged it already."""
    if (payload.get("response_format") or {}).get("type") not in {"json_schema", "json_object"}:
        return None
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidOutputError("the answer is not JSON", violations=("$: not JSON",)) from None
