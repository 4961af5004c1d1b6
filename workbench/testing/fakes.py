"""Fakes for tests, ours and our users': a model that answers as told, a clock that is set by hand."""

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
    """The last message's text, so that a caller can see whose answer it got."""
    return str(payload["messages"][-1]["content"])


class FakeModel:
    """A model without a model: answers from a script, or by a function of the payload.

    A script is a sequence of texts, whole wire answers and errors to raise, used up in order.
    `fails` errors are raised first. `calls` are the payloads received, `events` counts what was
    read, `unclosed` the replies that were begun and neither finished nor closed.
    """

    def __init__(
        self, script: Script = echo, *, fails: Iterable[WorkbenchError] = (), dimensions: int = 8
    ) -> None:
        self._answer = script if callable(script) else _in_order(script)
        self._fails = iter(tuple(fails))
        self.dimensions = dimensions
        self.calls: list[JSON] = []
        self.events = 0
        self.unclosed = 0

    async def chat(
        self,
        payload: JSON,
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - the port's
    ) -> AsyncGenerator[Event, None]:
        """One event, or one a word when `payload["stream"]`."""
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

    async def embed(
        self,
        payload: JSON,
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - the port's
    ) -> AsyncGenerator[Event, None]:
        """Unit vectors that depend on the text alone."""
        self._begin(payload)
        try:
            asked = payload.get("input")
            texts = [asked] if isinstance(asked, str) else list(asked or ())
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

    async def count(
        self,
        payload: JSON,
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - the port's
    ) -> AsyncGenerator[Event, None]:
        """One token a word, as its answers' usage says."""
        self._begin(payload)
        try:
            if not payload.get("messages"):
                raise RefusedError("messages: expected at least one", status=400)
            await asyncio.sleep(0)
            self.events += 1
            yield Event(data={"input_tokens": _asked_tokens(payload)})
        finally:
            self.unclosed -= 1

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _begin(self, payload: JSON) -> None:
        self.calls.append(payload)
        if (error := next(self._fails, None)) is not None:
            raise error
        self.unclosed += 1


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps. `slept` are those seconds."""

    def __init__(self, start: str = "2025-01-01T00:00:00+00:00") -> None:
        self._start = dt.datetime.fromisoformat(start)
        self._elapsed = 0.0
        self.slept: list[float] = []

    def now(self) -> dt.datetime:
        """The wall clock, in UTC."""
        return self._start + dt.timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


def _in_order(script: Iterable[Answer]) -> Callable[[JSON], Answer]:
    answers = iter(tuple(script))

    def answer(_payload: JSON) -> Answer:
        for each in answers:
            return each
        raise AssertionError("the fake model was asked more often than its script has answers")

    return answer


def _completion(payload: JSON, text: str, number: int) -> JSON:
    asked = _asked_tokens(payload)
    said = len(text.split())
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": payload.get("model", "fake"),
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def _asked_tokens(payload: JSON) -> int:
    return sum(len(str(message.get("content")).split()) for message in payload["messages"])


def _words(whole: JSON, payload: JSON) -> list[JSON]:
    """An answer as a stream of its words; what is not text stays in one piece."""
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
