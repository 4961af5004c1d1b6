"""Fakes for tests: a model with scripted answers and a clock that moves on command."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from workbench import wire
from workbench.errors import RefusedError, WorkbenchError
from workbench.types import JSON, Event

Answer = str | JSON | WorkbenchError
Script = Iterable[Answer] | Callable[[JSON], Answer]


def echo(payload: JSON) -> str:
    """Return the text of the last message, so that each caller recognizes its answer."""
    asked = payload.get("messages") or payload.get("input")
    return asked if isinstance(asked, str) else str((asked or [{}])[-1].get("content"))


class FakeModel:
    """A model that answers from a script, or by a function of the payload, in every dialect.

    A script is a sequence of texts, complete wire answers and errors to raise, used in order. The texts of
    `flagged` are flagged by a moderation that has one of them in it. The errors
    `fails` are raised first. `calls` are the received payloads, `events` is the number of events read,
    `unclosed` the number of replies neither finished nor closed.
    """

    def __init__(
        self,
        script: Script = echo,
        *,
        fails: Iterable[WorkbenchError] = (),
        dimensions: int = 8,
        flagged: Iterable[str] = (),
    ) -> None:
        self._answer = script if callable(script) else _in_order(script)
        self._fails = iter(tuple(fails))
        self.dimensions = dimensions
        self.flagged = tuple(flagged)
        self.calls: list[JSON] = []
        self.events = 0
        self.unclosed = 0

    async def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield one event, or one for each word when `payload["stream"]`."""
        self._begin(payload)
        try:
            if not payload.get("messages"):
                raise RefusedError("messages: expected at least one", status=400)
            answer = self._answer(payload)
            if isinstance(answer, WorkbenchError):
                raise answer
            whole = _completion(payload, answer, len(self.calls)) if isinstance(answer, str) else answer
            for data in _words(whole, payload) if payload.get("stream") else (whole,):
                await asyncio.sleep(0)
                self.events += 1
                yield Event(data=data)
        finally:
            self.unclosed -= 1

    async def respond(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield one event, or the typed events of a stream with a delta for each word."""
        self._begin(payload)
        try:
            if not payload.get("input"):
                raise RefusedError("input: expected a text or a list", status=400)
            answer = self._answer(payload)
            if isinstance(answer, WorkbenchError):
                raise answer
            whole = _response(payload, answer, len(self.calls)) if isinstance(answer, str) else answer
            for data in _deltas(whole) if payload.get("stream") else (whole,):
                await asyncio.sleep(0)
                self.events += 1
                yield Event(data=data)
        finally:
            self.unclosed -= 1

    async def moderate(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield a verdict for each text: flagged if it contains one of the texts `flagged`."""
        self._begin(payload)
        try:
            given = payload.get("input")
            texts = [given] if isinstance(given, str) else list(given or ())
            if not texts:
                raise RefusedError("input: expected a text or a list", status=400)
            await asyncio.sleep(0)
            self.events += 1
            results = [_verdict(any(word in str(text) for word in self.flagged)) for text in texts]
            yield Event(data={"id": "modr-1", "model": payload.get("model", "fake"), "results": results})
        finally:
            self.unclosed -= 1

    async def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield unit vectors that depend on the texts alone."""
        self._begin(payload)
        try:
            given = payload.get("input")
            texts = [given] if isinstance(given, str) else list(given or ())
            await asyncio.sleep(0)
            self.events += 1
            rows = [
                {"object": "embedding", "index": n, "embedding": _vector(str(text), self.dimensions)}
                for n, text in enumerate(texts)
            ]
            tokens = sum(len(str(text).split()) for text in texts)
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            yield Event(data={"object": "list", "model": payload.get("model"), "data": rows, "usage": usage})
        finally:
            self.unclosed -= 1

    async def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the number of words as tokens, as the usage of answers does."""
        self._begin(payload)
        try:
            if not (payload.get("messages") or payload.get("input")):
                raise RefusedError("messages: expected at least one", status=400)
            await asyncio.sleep(0)
            self.events += 1
            yield Event(data={"input_tokens": _asked_tokens(payload)})
        finally:
            self.unclosed -= 1

    async def aclose(self) -> None:
        """Close nothing."""

    def _begin(self, payload: JSON) -> None:
        self.calls.append(payload)
        if (error := next(self._fails, None)) is not None:
            raise error
        self.unclosed += 1


class FakeClock:
    """A clock that only `advance` and `sleep` move; `slept` lists the seconds of each sleep."""

    def __init__(self, start: str = "2025-01-01T00:00:00+00:00") -> None:
        self._start = dt.datetime.fromisoformat(start)
        self._elapsed = 0.0
        self.slept: list[float] = []

    def now(self) -> dt.datetime:
        """Return the time, in UTC."""
        return self._start + dt.timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        """Move the clock forward without waiting."""
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


def _in_order(script: Iterable[Answer]) -> Callable[[JSON], Answer]:
    answers = iter(tuple(script))

    def answer(_payload: JSON) -> Answer:
        for reply in answers:
            return reply
        raise AssertionError("the fake model got more calls than its script has answers")

    return answer


def _completion(payload: JSON, text: str, number: int) -> JSON:
    read = _asked_tokens(payload)
    written = len(text.split())
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": payload.get("model", "fake"),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def _response(payload: JSON, text: str, number: int) -> JSON:
    read, written = _asked_tokens(payload), len(text.split())
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": payload.get("model", "fake"),
        "output": [{**message, "content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def _verdict(flagged: bool) -> JSON:  # noqa: FBT001 - the one fact of a verdict
    score = 1.0 if flagged else 0.0
    return {"flagged": flagged, "categories": {"violence": flagged}, "category_scores": {"violence": score}}


def _asked_tokens(payload: JSON) -> int:
    asked = payload.get("messages") or payload.get("input") or ()
    if isinstance(asked, str):
        return len(asked.split())
    return sum(len(str(message.get("content")).split()) for message in asked)


def _deltas(whole: JSON) -> list[JSON]:
    """Return a response as the events of a stream, with a delta for each word of its text."""
    events: list[JSON] = []
    for event in wire.dialect("respond").unfold(whole):
        words = [event["delta"]] if event["type"].endswith(".delta") else []
        words = words[0].replace(" ", " \0").split("\0") if words else []
        events += [{**event, "delta": word} for word in words] if words else [event]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _words(whole: JSON, payload: JSON) -> list[JSON]:
    """Return an answer as a stream of its words; an answer without text stays one event."""
    usage = bool((payload.get("stream_options") or {}).get("include_usage"))
    first, *rest = wire.unfold(whole, usage=usage)
    text = wire.text_of(whole)
    if len(first["choices"]) != 1 or not text:
        return [first, *rest]
    choice = first["choices"][0]
    pieces: list[dict[str, Any]] = [{**choice["delta"], "content": ""}]
    pieces += [{"content": word} for word in text.replace(" ", " \0").split("\0")]
    shared = {**choice, "finish_reason": None}
    chunks: list[JSON] = [{**first, "choices": [{**shared, "delta": delta}]} for delta in pieces]
    return [*chunks, {**first, "choices": [{**choice, "delta": {}}]}, *rest]


def _vector(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    numbers = [int.from_bytes(raw[i : i + 2]) - 32767.5 for i in range(0, len(raw), 2)]
    length = math.sqrt(math.fsum(n * n for n in numbers))
    return [n / length for n in numbers]
