"""Clients of the `openai` package whose HTTP transport is the boundary.

Any library that accepts such a client is governed. No socket is opened: a request's wire JSON becomes a call,
the handler's events become the response, and the workbench's errors become the statuses from which `openai`
raises its own exceptions. The HTTP library is the one that the installed `openai` uses: httpx2, or httpx
before its version 3.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workbench import _sync
from workbench.errors import WorkbenchError
from workbench.models import short_path
from workbench.models.client_requests import (
    AskedRequest,
    Caller,
    asked_request,
    error_headers,
    first_event,
    status_of,
    whole_answer,
    wire_error,
)
from workbench.models.client_routes import MODELS, begins, operation_of
from workbench.types import Event

if TYPE_CHECKING:
    import httpx2
    import openai

#: `.invalid` never resolves, so that no request leaves the process by accident.
BASE_URL = "http://workbench.invalid/v1"
_ROOT = "/v1"


def openai_client(caller: Caller) -> openai.OpenAI:
    """Return an `openai.OpenAI` whose requests all cross the boundary. It does not retry: a control does."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Boundary(http.BaseTransport):
        """Answers a request by running the handler on the background loop."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(caller, request, request.read())
                if isinstance(asked, bytes):
                    return _response(200, asked)
                events = _sync.iterate(caller.handler(caller.call(asked)))
                if asked.stream:
                    return _response(200, stream=_sync_stream(asked, first_event(next(events, None)), events))
                return _response(200, asked.body(asked.speaks.fold(events)))
            except WorkbenchError as error:
                return _error_response(error)

    def answer(path: str, body: bytes, seconds: float | None) -> bytes | httpx2.Response:
        try:
            asked = asked_request(operation_of("POST", path), body, seconds)
            return asked.body(_sync.run(whole_answer(caller, asked)))
        except WorkbenchError as error:
            return _error_response(error)

    # trust_env=False: a proxy named in the environment would replace this transport
    client = http.Client(transport=Boundary(), trust_env=False)
    return short_path.client_class(answer, client)(http_client=client, **_options(caller))


def openai_async_client(caller: Caller) -> openai.AsyncOpenAI:
    """Return the `openai.AsyncOpenAI` twin of `openai_client`, for any event loop."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Boundary(http.AsyncBaseTransport):
        """Answers a request by running the handler on the background loop."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(caller, request, await request.aread())
                if isinstance(asked, bytes):
                    return _response(200, asked)
                events = _sync.iterate_async(caller.handler(caller.call(asked)))
                if asked.stream:
                    first = first_event(await anext(events, None))
                    return _response(200, stream=_async_stream(asked, first, events))
                return _response(200, asked.body(asked.speaks.fold([event async for event in events])))
            except WorkbenchError as error:
                return _error_response(error)

    async def answer(path: str, body: bytes, seconds: float | None) -> bytes | httpx2.Response:
        try:
            asked = asked_request(operation_of("POST", path), body, seconds)
            return asked.body(await _sync.run_async(whole_answer(caller, asked)))
        except WorkbenchError as error:
            return _error_response(error)

    client = http.AsyncClient(transport=Boundary(), trust_env=False)
    return short_path.async_client_class(answer, client)(http_client=client, **_options(caller))


def _options(caller: Caller) -> dict[str, Any]:
    """Return the arguments of an `openai` client, beside its transport. It does not retry by itself."""
    return {"base_url": BASE_URL, "api_key": "unused", "timeout": caller.timeout, "max_retries": 0}


@functools.cache
def _http() -> Any:
    """Return the HTTP library that the installed `openai` uses."""
    import openai

    modules = (kind.__module__.partition(".")[0] for kind in openai.DefaultHttpxClient.__mro__)
    return importlib.import_module(next(name for name in modules if name in {"httpx2", "httpx"}))


def _read(caller: Caller, request: httpx2.Request, body: bytes) -> AskedRequest | bytes:
    """Read a request; return the body of its answer if it needs no call.

    Raises NotFoundError for a route that is not governed.
    """
    import orjson

    path = request.url.path.removeprefix(_ROOT)
    if request.method == "GET" and begins(path, MODELS):
        return orjson.dumps(caller.models(path))
    timeout = (request.extensions.get("timeout") or {}).get("read")
    return asked_request(operation_of(request.method, path), body, timeout)


def _response(
    status: int, body: bytes = b"", *, stream: Any = None, headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    kind = "application/json" if stream is None else "text/event-stream"
    head = {"content-type": kind, **(headers or {})}
    response: httpx2.Response = _http().Response(status, headers=head, content=body or None, stream=stream)
    return response


def _error_response(error: WorkbenchError) -> httpx2.Response:
    """Return an error as a wire error that the client does not retry."""
    return _response(status_of(error), wire_error(error), headers=error_headers(error))


def _sync_stream(asked: AskedRequest, first: Event, events: Iterator[Event]) -> httpx2.SyncByteStream:
    """Return the events as a byte stream; closing it closes the boundary's stream."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Stream(http.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield asked.server_sent(first)
                for event in events:
                    yield asked.server_sent(event)
                yield asked.end()
            except WorkbenchError as error:
                yield asked.failed(error)

        def close(self) -> None:
            events.close()  # type: ignore[attr-defined]

    return Stream()


def _async_stream(asked: AskedRequest, first: Event, events: AsyncIterator[Event]) -> httpx2.AsyncByteStream:
    """Return the events as an async byte stream; closing it closes the boundary's stream."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Stream(http.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            try:
                yield asked.server_sent(first)
                async for event in events:
                    yield asked.server_sent(event)
                yield asked.end()
            except WorkbenchError as error:
                yield asked.failed(error)

        async def aclose(self) -> None:
            await events.aclose()  # type: ignore[attr-defined]

    return Stream()
