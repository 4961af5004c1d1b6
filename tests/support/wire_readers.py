"""Two readers of the bytes of an endpoint, without a network: ours, and the bare `openai` client."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterable

import httpx2
import openai
from openai._streaming import SSEDecoder

from workbench import wire
from workbench.models.chat_format import read_chat
from workbench.models.endpoint_errors import EndpointErrors
from workbench.models.framing import EventReader, Frame
from workbench.models.openai import OpenAIModel
from workbench.models.response_format import ResponseReader
from workbench.types import JSON, Event

KEY = "sk-not-a-real-key-0123456789"
ERRORS = EndpointErrors(url="http://endpoint/v1", key=KEY, key_name="MY_KEY")
MESSAGES = [{"role": "user", "content": "Hello"}]


def chunk(delta=None, finish=None, *, index=0, **more) -> dict:
    """A chunk of one choice; `index` "none" leaves it out."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    if index == "none":
        del choice["index"]
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    } | more


def completion(message, finish="stop", **more) -> dict:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage} | more


def sse(*events, done=True, end="\n\n", start="data: ") -> bytes:
    """The body of a stream: chunks, texts that stand as they are, and bytes that are framed already."""
    body = b""
    for event in (*events, *(["[DONE]"] if done else [])):
        text = event if isinstance(event, str | bytes) else json.dumps(event)
        body += text if isinstance(text, bytes) else f"{start}{text}{end}".encode()
    return body


class _Body:
    """The part of a response that the model reads; its length is not stated."""

    content_length = None

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.content = pieces, self

    async def iter_any(self):
        for piece in self.pieces:
            yield piece


def chunks(*pieces: bytes) -> list[JSON]:
    """What the adapter makes of a stream that arrives in these pieces."""

    async def read():
        model = OpenAIModel("http://endpoint/v1", KEY, key_name="MY_KEY")
        return [data async for data in model._chunks(_Body(pieces))]

    return asyncio.run(read())


def responded(*pieces: bytes) -> list[JSON]:
    """What the adapter makes of a streamed response that arrives in these pieces."""

    async def read():
        model = OpenAIModel("http://endpoint/v1", KEY, key_name="MY_KEY")
        return [data async for data in model._chunks(_Body(pieces), ResponseReader(ERRORS))]

    return asyncio.run(read())


def streamed(*pieces: bytes) -> JSON:
    """The whole answer of a stream."""
    return wire.fold([Event(data=data) for data in chunks(*pieces)])


def whole(answer) -> JSON:
    """What the adapter makes of a whole answer, given as JSON or as bytes."""
    return read_chat(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), ERRORS)


def frames(*pieces: bytes) -> list[Frame]:
    """The events of a body that arrives in these pieces."""
    reader = EventReader()
    return [frame for piece in pieces for frame in reader.feed(piece)] + reader.close()


def bare_events(body: bytes) -> list[tuple[str | None, str]]:
    """The events that the bare client's decoder finds: name and data."""
    return [(event.event, event.data) for event in SSEDecoder().iter_bytes(iter([body]))]


def bare_chunks(body: bytes) -> list:
    """The chunks that the bare client makes of a stream; whatever it raises is raised."""
    return list(_client(_Fixed(body, "text/event-stream")).chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    ))  # fmt: skip


def bare_whole(body: bytes):
    """The completion that the bare client makes of a whole answer; whatever it raises is raised."""
    return _client(_Fixed(body, "application/json")).chat.completions.create(model="m", messages=MESSAGES)


class _Fixed:
    def __init__(self, body: bytes, kind: str) -> None:
        self.body, self.kind = body, kind

    def __call__(self, _request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.kind}, content=self.body)


@functools.cache
def _shared() -> tuple[openai.OpenAI, list]:
    answer: list = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        return answer[0](request)

    http = httpx2.Client(transport=httpx2.MockTransport(respond), trust_env=False)
    return openai.OpenAI(base_url="http://endpoint/v1", api_key="k", http_client=http, max_retries=0), answer


def _client(answer: _Fixed) -> openai.OpenAI:
    client, shared = _shared()
    shared[:] = [answer]
    return client
