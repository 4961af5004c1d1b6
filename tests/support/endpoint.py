"""An OpenAI-compatible endpoint on the loopback that answers as a test tells it to."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import orjson
from aiohttp import web

from workbench import _sync, wire
from workbench.errors import RefusedError
from workbench.ports import Model

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.contextmanager
def endpoint(answer: Answer) -> Iterator[str]:
    """Serve on a free port of the loopback, on the background loop; gives the base URL."""

    async def start() -> tuple[web.AppRunner, str]:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    runner, url = _sync.run(start())
    try:
        yield url
    finally:
        _sync.run(runner.cleanup())


def speaking(model: Model) -> Answer:
    """Answers as `model` does, in the wire format, server-sent events included."""

    async def answer(request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        verbs = {"embeddings": "embed", "input_tokens": "count", "responses": "respond"}
        operation = verbs.get(request.path.rpartition("/")[2], "chat")
        operation = "moderate" if request.path.endswith("/moderations") else operation
        verb = getattr(model, operation)
        try:
            if not payload.get("stream"):
                return web.json_response(wire.dialect(operation).fold([e async for e in verb(payload)]))
            response = await begin_stream(request)
            async for event in verb(payload):
                named = event.data.get("type") if operation == "respond" else None
                await response.write(f"event: {named}\n".encode() if named else b"")
                await response.write(b"data: " + orjson.dumps(event.data) + b"\n\n")
            if operation == "chat":
                await response.write(b"data: [DONE]\n\n")
        except RefusedError as error:
            return web.json_response({"error": {"message": error.message}}, status=error.status)
        return response

    return answer


async def begin_stream(request: web.Request) -> web.StreamResponse:
    """The head of a stream of server-sent events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response
