"""The model handle that `ws.model()` returns; it calls the boundary, never an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from workbench import _sync, arguments, wire
from workbench.context import current_invocation
from workbench.errors import ConfigError, InvalidOutputError, UnavailableError
from workbench.models.card import ModelCard
from workbench.ports import Call, Handler
from workbench.types import JSON, Event, Hit, Message, Reply, wire_messages


class Turns(Protocol):
    """A rendered prompt: chat turns, and the prompt and passages they come from."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat turns."""

    @property
    def prompt(self) -> str:
        """The prompt's reference, such as `answer@2`."""

    @property
    def digest(self) -> str:
        """The prompt's digest."""

    @property
    def passages(self) -> tuple[Hit, ...]:
        """The passages in the turns."""

    @property
    def output(self) -> Mapping[str, Any] | None:
        """The JSON schema of the answer, or None for free text."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Wire parameters that override the card's."""


Asked = str | Sequence[Message | Mapping[str, Any]] | Turns
MakeCall = Callable[[str, JSON, Mapping[str, Any]], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHandle:
    """One model for one tenant and principal. Every verb crosses the boundary."""

    card: ModelCard
    handler: Handler = field(repr=False)
    make_call: MakeCall = field(repr=False)

    async def _chat(self, /, asked: Asked, **parameters: Any) -> Reply:
        """Return the model's complete answer to a rendered prompt, a text or chat turns.

        `parameters` are wire parameters that override those of the card and of the prompt. Raises
        UnavailableError, RefusedError, InvalidOutputError, and NoAnswerError when the answer has no text.
        """
        call = self._call(asked, parameters)
        passages: tuple[Hit, ...] = getattr(asked, "passages", ())
        if passages and (around := current_invocation()) is not None:
            around.passages.extend(passages)
        raw = await self._whole(call)
        facts, text, reason = call.span.facts, wire.text_of(raw), wire.check_text(raw)
        return Reply(
            text=text,
            data=_data(text, call.payload),
            model=str(raw.get("model") or self.card.model),
            finish_reason=wire.finish_of(raw),
            reason=reason,
            usage=wire.usage_of(raw),
            cost_usd=facts.get("cost_usd"),
            latency_s=facts.get("recorded_latency_s"),
            replayed=bool(facts.get("replayed")),
            fallback=str(facts.get("fallback", "")),
            fallback_reason=str(facts.get("fallback_reason", "")),
            trace_id=str(facts.get("trace_id", "")),
            prompt=call.labels.get("prompt"),
            passages=passages,
            raw=raw,
        )

    chat, chat_async = _sync.twins(_chat)

    def stream(self, asked: Asked, **parameters: Any) -> Iterator[str]:
        """Yield the answer's text piece by piece; leaving the loop closes the stream."""
        yield from _sync.iterate(self._texts(asked, parameters))

    async def stream_async(self, asked: Asked, **parameters: Any) -> AsyncIterator[str]:
        """Yield the answer's text piece by piece, as `stream` does, on any event loop."""
        texts = _sync.iterate_async(self._texts(asked, parameters))
        async with aclosing(texts) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order."""
        payload = {"model": self.card.model, "input": list(arguments.texts(texts, "texts"))}
        raw = await self._whole(self.make_call("embed", payload, {}))
        rows = sorted(raw["data"], key=lambda row: row["index"])
        return [list(row["embedding"]) for row in rows]

    embed, embed_async = _sync.twins(_embed)

    async def _count_tokens(self, /, asked: Asked, **parameters: Any) -> int:
        """Return the number of input tokens of the same `chat` call, counted by the endpoint.

        Raises RefusedError with status 405 if the endpoint does not count, and UnavailableError.
        """
        tokens = wire.tokens_of(await self._whole(self._call(asked, parameters, operation="count")))
        if tokens is None:
            raise UnavailableError(f"{self.card.name!r} returned no token count", hint="repeat the call")
        return tokens

    count_tokens, count_tokens_async = _sync.twins(_count_tokens)

    def _call(self, asked: Asked, parameters: Mapping[str, Any], *, operation: str = "chat") -> Call:
        payload: dict[str, Any] = {"model": self.card.model, **self.card.wire_defaults()}
        labels: dict[str, Any] = {}
        if isinstance(asked, str):
            payload["messages"] = [Message(role="user", content=asked).wire()]
        elif isinstance(asked, Sequence) and _are_turns(asked):
            payload["messages"] = wire_messages(cast("Sequence[Message]", asked))
        elif isinstance(asked, Sequence) or not hasattr(asked, "messages"):
            raise ConfigError(
                f"a model is asked {type(asked).__name__}, not a text, chat turns or a rendered prompt",
                hint='chat("…"), chat([{"role": "user", "content": "…"}]) or chat(prompt.render(…))',
            )
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
        set_by_caller = {**getattr(asked, "parameters", {}), **parameters}
        call = self.make_call(operation, payload, labels)
        return call.with_defaults(name for name in self.card.wire_defaults() if name not in set_by_caller)

    async def _whole(self, call: Call) -> JSON:
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            return wire.fold([event async for event in events])

    async def _texts(self, asked: Asked, parameters: Mapping[str, Any]) -> AsyncIterator[str]:
        call = self._call(asked, {**parameters, "stream": True})
        before: list[Event] | None = []  # events before the first text
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            async for event in events:
                if before is not None:
                    before.append(event)
                for choice in event.data.get("choices") or ():
                    if piece := (choice.get("delta") or choice.get("message") or {}).get("content"):
                        before = None
                        yield piece
        if before is not None:
            calls = bool(call.payload.get("tools") or call.payload.get("functions"))
            wire.check_text(wire.fold(before), calls=calls)


def _are_turns(asked: Sequence[object]) -> bool:
    return not isinstance(asked, bytes) and all(isinstance(turn, Message | Mapping) for turn in asked)


def _data(text: str, payload: JSON) -> Any:
    """Return the parsed answer if the request has a `response_format`, which the output control checks."""
    if (payload.get("response_format") or {}).get("type") not in {"json_schema", "json_object"}:
        return None
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidOutputError(
            "the answer is not JSON",
            hint="call without response_format to get the text",
            violations=("$: not JSON",),
        ) from None
