"""The model handle that `ws.model()` returns; it calls the boundary, never an adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from workbench import _sync, arguments, wire
from workbench.context import current_invocation
from workbench.errors import ConfigError, InvalidOutputError, UnavailableError
from workbench.models.card import ModelCard
from workbench.ports import Call, Handler, PromptInputs
from workbench.ports.privacy import DeclaredData
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

        `parameters` are wire parameters that override those of the card and of the prompt; `timeout` among
        them is not sent, but limits the whole call in seconds. Raises DeadlineError, UnavailableError,
        RefusedError, InvalidOutputError, and NoAnswerError when the answer has no text.
        """
        call = self._call(asked, parameters)
        passages: tuple[Hit, ...] = getattr(asked, "passages", ())
        if passages and (around := current_invocation()) is not None:
            around.passages.extend(passages)
        raw = await self._whole(call)
        facts, text, reason = call.span.facts, self._speaks.text_of(raw), self._speaks.check_text(raw)
        return Reply(
            text=text,
            data=_data(text, self._speaks.output_format(call.payload)[0]),
            model=str(raw.get("model") or self.card.model),
            finish_reason=self._speaks.finish_of(raw),
            reason=reason,
            usage=self._speaks.usage_of(raw),
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

    @property
    def _speaks(self) -> wire.Dialect:
        return wire.dialect("respond" if self.card.dialect == "responses" else "chat")

    @property
    def limit_name(self) -> str:
        """The name of the parameter that limits the tokens of an answer."""
        return self._speaks.foreign.get("max_tokens", "max_tokens")

    def _call(self, asked: Asked, parameters: Mapping[str, Any], *, operation: str = "") -> Call:
        speaks, labels = self._speaks, dict[str, Any]()
        schema, given = None, {**parameters}
        seconds = _seconds(given.pop("timeout", None))
        if isinstance(asked, str):
            turns = [Message(role="user", content=asked).wire()]
        elif isinstance(asked, Sequence) and _are_turns(asked):
            turns = wire_messages(cast("Sequence[Message]", asked))
        elif isinstance(asked, Sequence) or not hasattr(asked, "messages"):
            raise ConfigError(
                f"a model is asked {type(asked).__name__}, not a text, chat turns or a rendered prompt",
                hint='chat("…"), chat([{"role": "user", "content": "…"}]) or chat(prompt.render(…))',
            )
        else:
            turns, schema, given = wire_messages(asked.messages), asked.output, {**asked.parameters, **given}
            labels = {
                "prompt": asked.prompt,
                "prompt_digest": asked.digest,
                "passages": [hit.id for hit in asked.passages],
            }
        defaults = self.card.wire_defaults()
        payload = {"model": self.card.model, **defaults, **given}
        for name, value in speaks.request(turns, schema).items():
            payload[name] = _joined(value, payload.get(name), parameters.get(name, value))
        self._check_names(payload)
        call = self.make_call(operation or speaks.operation, payload, labels)
        classes, identifiers = getattr(asked, "data_classes", ()), getattr(asked, "identifiers", ())
        if classes or identifiers:
            declared = DeclaredData(classes=classes, identifiers=identifiers)
            call = dataclasses.replace(call, declared=declared)
        if passages := getattr(asked, "passages", ()):
            call = dataclasses.replace(call, passages=tuple(passages))
        if inputs := getattr(asked, "inputs", None):
            call = dataclasses.replace(call, prompt=PromptInputs(reference=labels["prompt"], inputs=inputs))
        return call.within(seconds).with_defaults(name for name in defaults if name not in given)

    def _check_names(self, payload: JSON) -> None:
        """Raise ConfigError for a parameter of the other dialect, which the endpoint would refuse or drop."""
        for name, here in self._speaks.foreign.items():
            if name in payload:
                raise ConfigError(
                    f"the model {self.card.name!r} speaks the dialect {self.card.dialect!r}, which has no "
                    f"parameter {name!r}",
                    hint=f"write {here} in its place, or dialect: chat on the model's card",
                )

    async def _whole(self, call: Call) -> JSON:
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            return wire.dialect(call.operation).fold([event async for event in events])

    async def _texts(self, asked: Asked, parameters: Mapping[str, Any]) -> AsyncIterator[str]:
        speaks, call = self._speaks, self._call(asked, {**parameters, "stream": True})
        before: list[Event] | None = []  # events before the first text
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            async for event in events:
                if before is not None:
                    before.append(event)
                if piece := speaks.piece_of(event.data):
                    before = None
                    yield piece
        if before is not None:
            calls = bool(call.payload.get("tools") or call.payload.get("functions"))
            speaks.check_text(speaks.fold(before), calls=calls)


def _seconds(timeout: object) -> float | None:
    """Return the timeout of a call; raise ConfigError for one that is none."""
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is None or (number and timeout > 0):  # type: ignore[operator]  # a number
        return timeout  # type: ignore[return-value]
    raise ConfigError(
        f"timeout must be seconds above 0 or None, found {timeout!r}", hint='chat("…", timeout=30)'
    )


def _are_turns(asked: Sequence[object]) -> bool:
    return not isinstance(asked, bytes) and all(isinstance(turn, Message | Mapping) for turn in asked)


def _joined(made: Any, before: Any, own: Any) -> Any:
    """Return a field that is made of the asked; the caller's own value replaces or extends it."""
    if isinstance(made, Mapping) and "format" in made and isinstance(own, Mapping):
        # `text` of a response has other fields too
        return {**(before if isinstance(before, Mapping) else {}), **made, **own}
    return own


def _data(text: str, output_format: str) -> Any:
    """Return the parsed answer if the request demands JSON, which the output control checks."""
    if output_format not in {"json_schema", "json_object"}:
        return None
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidOutputError(
            "the answer is not JSON",
            hint="call without a schema to get the text",
            violations=("$: not JSON",),
        ) from None
