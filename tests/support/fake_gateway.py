"""Fakes of both ends of the native protocol: a resolver over any handler, a connection without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable

import orjson
from calls import context

from workbench.errors import NotFoundError
from workbench.ports import Call
from workbench.prompts.prompt import Rendered
from workbench.remote.calls import AskedCall, encode_call
from workbench.remote.passages import ServedHits
from workbench.remote.protocol import LINES
from workbench.types import Message


class FakeResolver:
    """Resolves every call as its caller states it, for one context; its prompts say `PROMPT: question`."""

    def __init__(self, handler, *, scope="grant", strict=False, clock=None):
        self.handler, self.scope, self.strict = handler, scope, strict
        self.clock = clock
        self.calls: list[Call] = []

    def call(self, asked: AskedCall) -> Call:
        """The call, with the identity that the gateway knows."""
        if asked.target == "nothing":
            raise NotFoundError("no model card is called 'nothing'", hint="workbench check")
        identity = {"weights": "w1"} if asked.port == "model" else {"version": asked.version, "spec": "s"}
        made = Call(
            port=asked.port, operation=asked.operation, target=asked.target, payload=asked.payload,
            context=dataclasses.replace(context(self.clock), tenant=asked.tenant or "acme"),
            identity=identity, labels=asked.labels,
        )  # fmt: skip
        self.calls.append(made)
        return made

    def data_class(self, _asked):
        return "health"

    def render(self, reference, inputs):
        """A prompt of one turn."""
        if not reference.startswith("answer@"):
            raise NotFoundError(f"no prompt is called {reference!r}")
        passages = tuple(inputs.get("passages", ()))
        text = " ".join(["PROMPT:", inputs["question"], *(hit.text for hit in passages)])
        return Rendered(
            messages=(Message(role="user", content=text),), prompt=reference, digest="d" * 8,
            passages=passages, data_classes=("internal",),
        )  # fmt: skip


def asked_of(call: Call, *, caller="c1", served=None, **more) -> AskedCall:
    """A call as the gateway reads it."""
    return AskedCall.read(encode_call(call, caller=caller, served=served or ServedHits(), **more))


async def lines_of(serving, asked, resolver) -> list[dict]:
    """The lines of an answer, read."""
    async with contextlib.aclosing(serving.serve(asked, resolver)) as lines:
        return [orjson.loads(line) async for line in lines]


def served(serving, asked, resolver) -> list[dict]:
    return asyncio.run(lines_of(serving, asked, resolver))


class FakeExchange:
    """An answer that comes in these pieces, and then breaks off with an error if there is one."""

    def __init__(self, pieces: Iterable[bytes], *, kind=LINES, error: Exception | None = None):
        self.status, self.headers = 200, {b"content-type": kind.encode()}
        self._pieces, self._error = pieces, error
        self.taken = 0

    async def pieces(self):
        for piece in self._pieces:
            self.taken += 1
            yield piece
        if self._error is not None:
            raise self._error


class FakeConnection:
    """A connection whose answers are made from the body of each request."""

    def __init__(self, answer):
        self._answer = answer
        self.bodies: list[bytes] = []
        self.closed = 0

    @contextlib.asynccontextmanager
    async def opened(self, _method, _path, body=b""):
        self.bodies.append(body)
        try:
            yield self._answer(body)
        finally:
            self.closed += 1
