"""Call any OpenAI-compatible endpoint over one pool of connections; validate each answer as it arrives."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from workbench.errors import ConfigError, NoAnswerError, RefusedError, UnavailableError
from workbench.models.chat_format import ChunkReader, read_chat, read_object
from workbench.models.embedding_format import read_embeddings
from workbench.models.endpoint_errors import EndpointErrors
from workbench.models.framing import EventReader, Frame
from workbench.models.moderation_format import read_moderations
from workbench.models.response_format import ResponseReader, read_response
from workbench.models.stateless import check_state, check_stored
from workbench.types import JSON, Event
from workbench.wire import tokens_of
from workbench.wire.moderations import verdicts_asked

if TYPE_CHECKING:
    import aiohttp

#: Bytes of an error's body that are read.
_MAX_ERROR_BYTES: Final = 2**20
#: Servers close idle connections after 5 s (llama.cpp, uvicorn, node); a request sent just then fails.
_KEEPALIVE_S: Final = 4.0
_CONNECT_S: Final = 10.0
#: Seconds to wait for the end of the body after the event that ends a response, to keep the connection.
_DRAIN_S: Final = 0.2
#: Statuses of an endpoint that lacks a route.
_NO_ROUTE: Final = frozenset({404, 405, 501})
#: Statuses of an endpoint that does not count tokens: it has no such route, or another route answers.
_UNCOUNTED: Final = frozenset({200, 404, 405, 501})
#: An answer, or one event of a stream, that grows beyond these bytes is large, and few may be large at once:
#: 64 calls to an endpoint that sends 100 MB would otherwise hold 4 GB.
_LARGE_BYTES: Final = 2**20
_LARGE_AT_ONCE: Final = 4
#: Headers of a body whose size is not the stated one.
_CODINGS: Final = frozenset({"Content-Encoding", "Transfer-Encoding"})
#: Bytes of a stream that are read before other calls have their turn: a piece may hold hundreds of events.
_BYTES_PER_TURN: Final = 2048


class OpenAIModel:
    """One endpoint. Its pool of connections has no limit: controls limit the calls.

    `timeout_s` limits a whole plain answer, and each wait within a stream, in seconds. `max_bytes` limits an
    answer after decompression, `max_events` the chunks of a stream: a chunk takes about 5 KB until its answer
    is complete. `key_name` is the environment variable that holds the key, for messages. With `stateful`,
    a response may refer to what the endpoint keeps.
    Raises ConfigError for a `base_url` that is not HTTP.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        key_name: str = "",
        timeout_s: float = 120.0,
        max_bytes: int = 64 * 2**20,
        max_events: int = 200_000,
        stateful: bool = False,
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ConfigError(
                f"base_url {base_url!r} is not http(s)://HOST/…",
                hint="for example https://api.openai.com/v1",
            )
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.max_bytes = max_bytes
        self.max_events = max_events
        self.stateful = stateful
        self._key = api_key
        self._errors = EndpointErrors(url=self.base_url, key=api_key, key_name=key_name)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    def __repr__(self) -> str:
        return f"OpenAIModel({self.base_url!r})"

    async def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/chat/completions`: one event, or chunks if `payload["stream"]` is true.

        A stream consists of chunks even if the endpoint sends a whole answer. Raises NoAnswerError for an
        answer with status 200 that holds none, and UnavailableError, after the chunks that came, for a stream
        that ends before `[DONE]` and before every choice has a finish reason. `store: true` raises
        RefusedError unless the endpoint is `stateful`.
        """
        check_stored(payload, stateful=self.stateful)
        async with self._answer("/chat/completions", payload, timeout_s) as response:
            if not payload.get("stream"):
                yield Event(data=read_chat(await self._body(response), self._errors))
                return
            async with contextlib.aclosing(self._chunks(response)) as chunks:
                async for chunk in chunks:
                    yield Event(data=chunk)

    async def respond(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/responses`: one event, or typed events if `payload["stream"]` is true.

        Unless the endpoint is `stateful`, it is asked to keep nothing (`store: false`), and a request that
        refers to what it keeps raises RefusedError. Raises RefusedError with status 404 if the endpoint lacks
        `/responses`, NoAnswerError for an answer with status 200 that holds none, and UnavailableError, after
        the events that came, for a stream that ends before `response.completed` or `response.incomplete`.
        """
        payload = check_state(payload, stateful=self.stateful)
        with self._lacking("/responses", "call chat instead: dialect: chat on the model's card"):
            async with self._answer("/responses", payload, timeout_s) as response:
                if not payload.get("stream"):
                    yield Event(data=read_response(await self._body(response), self._errors))
                    return
                reader = ResponseReader(self._errors)
                async with contextlib.aclosing(self._chunks(response, reader)) as events:
                    async for event in events:
                        yield Event(data=event)

    async def moderate(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/moderations` as one event; NoAnswerError unless each text has a verdict."""
        with self._lacking("/moderations", "name a card of kind moderation"):
            async with self._answer("/moderations", payload, timeout_s) as response:
                body, verdicts = await self._body(response), verdicts_asked(payload)
                yield Event(data=read_moderations(body, verdicts, self._errors))

    async def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/embeddings` as one event; NoAnswerError unless each input has a vector."""
        async with self._answer("/embeddings", payload, timeout_s) as response:
            yield Event(data=read_embeddings(await self._body(response), payload.get("input"), self._errors))

    async def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Yield the answer of `/chat/completions/input_tokens`, or of `/responses/input_tokens` for `input`.

        The answer is one event, `{"input_tokens": n}`.

        Raises RefusedError with status 405 if the endpoint does not count, whatever it answers. A recording
        keeps a 405, unlike a 404, so a replay uses the same estimate again.
        """
        asked = {name: value for name, value in payload.items() if name != "stream"}
        path = "/chat/completions" if "messages" in payload or "input" not in payload else "/responses"
        try:
            async with self._answer(f"{path}/input_tokens", asked, timeout_s) as response:
                answer = read_object(await self._body(response), "input_tokens", self._errors)
            tokens, status = tokens_of(answer), 200
        except (RefusedError, UnavailableError) as error:
            if error.status not in _UNCOUNTED:
                raise
            tokens, status = None, error.status
        if tokens is None:
            raise RefusedError(
                f"{self.base_url} does not count the tokens of a request (it answered {status})",
                hint="count as estimated: workbench.prompts.tokens.ESTIMATE",
                status=405,
            )
        yield Event(data={"input_tokens": tokens})

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def _answer(
        self, path: str, payload: JSON, timeout_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a successful response; translate errors of the connection until its end."""
        import aiohttp
        import orjson

        seconds = self.timeout_s if timeout_s is None else timeout_s
        url = self.base_url + path
        try:
            async with self._open().post(
                url,
                data=orjson.dumps(payload),
                timeout=_timeout(seconds, stream=bool(payload.get("stream"))),
                allow_redirects=False,
            ) as response:
                if not 200 <= response.status < 300:
                    body = await _beginning(response)
                    raise self._errors.of_status(response.status, body, response.headers)
                yield response
        except TimeoutError:
            raise UnavailableError(
                f"{url} did not answer within {seconds:g} s", hint="ask again, or raise the time allowed"
            ) from None
        except aiohttp.ClientConnectorError as error:
            reason = error.strerror or type(error).__name__
            raise UnavailableError(
                f"cannot connect to {url}: {reason}", hint="is the server running, and base_url right?"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(
                f"{url} broke off its answer ({type(error).__name__})", hint="ask again"
            ) from None

    @contextlib.contextmanager
    def _lacking(self, path: str, hint: str) -> Iterator[None]:
        """Raise RefusedError with status 404 when the endpoint lacks this route.

        A recording keeps no 404, because another server at the same address may have the route. A 404 about
        the model stays what it is.
        """
        try:
            yield
        except RefusedError as error:
            if error.status not in _NO_ROUTE or "model" in error.message.lower():
                raise
            raise RefusedError(
                f"{self.base_url} does not answer {path}: {error.message}",
                hint=hint,
                status=404,
                body=error.body,
            ) from None

    def _open(self) -> aiohttp.ClientSession:
        """Return the session of the running loop; after a fork, the parent's session is given up."""
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is not loop:
            self._session.detach()
            self._session = None
        if self._session is None or self._session.closed:
            headers = {"Content-Type": "application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
            cookies = aiohttp.DummyCookieJar()  # an API sets none, and each request would look for them
            session = aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=cookies)
            self._session, self._loop = session, loop
            self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
            weakref.finalize(self, _close, session, connector, loop)
        return self._session

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the unpacked body; raise NoAnswerError when it exceeds `max_bytes`."""
        body, size = list[bytes](), 0
        stated = response.content_length
        self._check_size(stated or 0)
        if (
            stated is not None
            and stated <= _LARGE_BYTES
            and not any(map(response.headers.__contains__, _CODINGS))
        ):
            return await response.content.read()
        async with _Large(self._large) as large:
            async for piece in response.content.iter_any():
                body.append(piece)
                size += len(piece)
                self._check_size(size)
                await large.add(len(piece))
            return b"".join(body)

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise self._errors.too_large(self.max_bytes)

    async def _frames(
        self, response: aiohttp.ClientResponse, reader: EventReader
    ) -> AsyncGenerator[Frame, None]:
        """Yield the events of a body as they arrive; raise NoAnswerError when it exceeds `max_bytes`."""
        size = 0
        self._check_size(response.content_length or 0)
        async with _Large(self._large) as large:
            async for piece in response.content.iter_any():
                size += len(piece)
                self._check_size(size)
                for begin in range(0, len(piece), _BYTES_PER_TURN):
                    if begin:
                        await asyncio.sleep(0)
                    part = piece[begin : begin + _BYTES_PER_TURN]
                    for frame in reader.feed(part):
                        large.reset()
                        yield frame
                    await large.add(len(part))
        for frame in reader.close():
            yield frame

    async def _chunks(
        self, response: aiohttp.ClientResponse, chunks: ChunkReader | ResponseReader | None = None
    ) -> AsyncGenerator[JSON, None]:
        """Yield the chunks or events of a stream until its last event, `[DONE]` or its end."""
        reader, done, count = EventReader(), False, 0
        chunks = ChunkReader(self._errors) if chunks is None else chunks
        async with contextlib.aclosing(self._frames(response, reader)) as frames:
            async for frame in frames:
                if done := frame.data.startswith(b"[DONE]"):
                    break
                for chunk in chunks.read(frame):
                    count += 1
                    if count > self.max_events:
                        raise self._errors.too_many(self.max_events)
                    yield chunk
                if chunks.ended:
                    await _drained(frames)
                    return
        for chunk in chunks.finish(reader.head, done=done):
            yield chunk


async def _drained(frames: AsyncIterator[Frame]) -> None:
    """Read up to the end of a body, if it comes soon, so that its connection can be used again.

    The answer is complete, so whatever fails now is no fault of it.
    """
    import aiohttp

    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError, NoAnswerError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in frames:
                pass


class _Large:
    """Counts the bytes that an answer holds; once they are large, takes a place among the large answers."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._bytes = 0
        self._held = False

    async def add(self, count: int) -> None:
        """Add bytes that arrived; wait for a place if the answer becomes large."""
        self._bytes += count
        if self._bytes > _LARGE_BYTES and not self._held:
            await self._places.acquire()
            self._held = True

    def reset(self) -> None:
        """Begin to count again: what came is complete and passed on."""
        self._bytes = 0
        if self._held:
            self._held = False
            self._places.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reset()


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an error, or its first bytes if it is long."""
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) >= _MAX_ERROR_BYTES:
            break
    return body[:_MAX_ERROR_BYTES]


def _timeout(seconds: float, *, stream: bool) -> aiohttp.ClientTimeout:
    """Return the limits of a request: for the whole of it, or for each wait within a stream."""
    import aiohttp

    return aiohttp.ClientTimeout(
        total=None if stream else seconds,
        sock_read=seconds if stream else None,
        sock_connect=min(seconds, _CONNECT_S),
    )


def _close(
    session: aiohttp.ClientSession, connector: aiohttp.TCPConnector, loop: asyncio.AbstractEventLoop
) -> None:
    """Close the connections of a model that was not closed, at the latest when the interpreter ends."""
    session.detach()  # it would warn where it ends before its connections, or after its loop
    if loop.is_closed() or connector.closed:
        return

    async def close() -> None:
        await connector.close()

    done = asyncio.run_coroutine_threadsafe(close(), loop)
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # no loop runs here, and the interpreter may be ending: wait
        with contextlib.suppress(TimeoutError):
            done.result(timeout=1)
