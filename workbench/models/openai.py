"""Any OpenAI-compatible endpoint: wire JSON over one pooled transport, errors turned into ours."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workbench.errors import (
    ConfigError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.types import JSON, Event
from workbench.wire import tokens_of

if TYPE_CHECKING:
    import aiohttp

#: Servers close idle connections after 5 s (llama.cpp, uvicorn, node); reusing one just then fails.
_KEEPALIVE_S = 4.0
_CONNECT_S = 10.0
#: How an endpoint shows that it counts nothing: no such route, or another route's answer.
_UNCOUNTED = frozenset({200, 404, 405, 501})


class OpenAIModel:
    """One endpoint. Connections are pooled, without a limit: bounding calls is a control's work.

    `timeout_s` is for the whole of a plain answer, and for each silence within a stream.
    `key_name` names the environment variable the key came from, for messages.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, key_name: str = "", timeout_s: float = 120.0
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ConfigError(
                f"base_url {base_url!r} is not http(s)://HOST/…",
                hint="for example https://api.openai.com/v1",
            )
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._key = api_key
        self._key_name = key_name
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"OpenAIModel({self.base_url!r})"

    async def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """`/chat/completions`: one event, or one a chunk when `payload["stream"]`.

        A stream that ends before `[DONE]` and before every choice has a finish reason is an
        UnavailableError after the events that came.
        """
        async with self._answer("/chat/completions", payload, timeout_s) as response:
            if payload.get("stream") and response.content_type == "text/event-stream":
                async with contextlib.aclosing(self._chunks(response)) as chunks:
                    async for chunk in chunks:
                        yield Event(data=chunk)
            else:
                yield Event(data=await self._whole(response, needs="choices"))

    async def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """`/embeddings`: one event, the whole wire JSON."""
        async with self._answer("/embeddings", payload, timeout_s) as response:
            yield Event(data=await self._whole(response, needs="data"))

    async def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """`/chat/completions/input_tokens`: one event, `{"input_tokens": n}`.

        RefusedError with status 405 when the endpoint does not offer it, whatever it answered: unlike
        a 404 that is recorded, so that what was estimated for want of a count is estimated again.
        """
        asked = {name: value for name, value in payload.items() if name != "stream"}
        try:
            async with self._answer("/chat/completions/input_tokens", asked, timeout_s) as response:
                tokens, status = tokens_of(await self._whole(response, needs="input_tokens")), 200
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
        """Give back connections; the next call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def _answer(
        self, path: str, payload: JSON, timeout_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 200; whatever goes wrong until its end is one of our errors."""
        import aiohttp
        import orjson

        seconds = self.timeout_s if timeout_s is None else timeout_s
        stream = bool(payload.get("stream"))
        timeout = aiohttp.ClientTimeout(
            total=None if stream else seconds,
            sock_read=seconds if stream else None,
            sock_connect=min(seconds, _CONNECT_S),
        )
        url = self.base_url + path
        try:
            async with self._open().post(
                url, data=orjson.dumps(payload), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise self._refusal(response.status, await response.read(), response.headers)
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

    def _open(self) -> aiohttp.ClientSession:
        """The session of the running loop. A fork leaves the parent's loop and connections behind."""
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
            self._session, self._loop = aiohttp.ClientSession(connector=connector, headers=headers), loop
            weakref.finalize(self, _close, connector, loop)
        return self._session

    async def _whole(self, response: aiohttp.ClientResponse, *, needs: str) -> JSON:
        import orjson

        body = await response.read()
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if isinstance(answer, dict) and answer.get("error"):
            raise self._wire_error(answer)
        if not isinstance(answer, dict) or needs not in answer:
            came = self._quote(body.decode("utf-8", "replace"), 80)
            raise UnavailableError(
                f"{self.base_url} answered 200, but not with {needs} in JSON: {came!r}",
                hint="is base_url the address of an OpenAI-compatible API? It usually ends in /v1",
                status=200,
            )
        return answer

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[JSON, None]:
        """Server-sent events as JSON, until `[DONE]`."""
        import orjson

        open_choices: set[int] = set()
        finished = False
        async for data in _server_sent(response):
            if data == b"[DONE]":
                return
            try:
                chunk = orjson.loads(data)
            except orjson.JSONDecodeError:
                break
            if chunk.get("error"):
                raise self._wire_error(chunk)
            for choice in chunk.get("choices") or ():
                index = choice.get("index", 0)
                (open_choices.discard if choice.get("finish_reason") else open_choices.add)(index)
            finished = not open_choices
            yield chunk
        if not finished:
            raise UnavailableError(
                f"{self.base_url} cut its stream off before the end", hint="ask again", status=200
            )

    def _wire_error(self, answer: Mapping[str, Any]) -> WorkbenchError:
        """The error for `{"error": …}` that came with status 200, as within a stream."""
        import orjson

        error = answer["error"]
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return self._refusal(status, orjson.dumps(answer), {})

    def _refusal(self, status: int, body: bytes, headers: Mapping[str, str]) -> WorkbenchError:
        """Which of our errors a status is; the server's own words are quoted, never a header."""
        said, wire = self._said(body)
        what = f"{self.base_url} answered {status}" + (f": {said}" if said else "")
        if status == 429:
            return RateLimitedError(
                what, hint="ask later or less often", retry_after_s=_retry_after_s(headers)
            )
        if status in {401, 403}:
            key = f"{self._key_name} in the environment" if self._key_name else "the API key"
            state = "check" if self._key else "set"
            return RefusedError(what, hint=f"{state} {key}", status=status, body=wire)
        if status == 408 or (status >= 500 and status != 501):
            return UnavailableError(what, hint="ask again", status=status)
        hint = "check base_url and the model's name on its card" if status == 404 else ""
        return RefusedError(what, hint=hint, status=status, body=wire)

    def _said(self, body: bytes) -> tuple[str, object]:
        """The server's error text, trimmed and without our key, and its wire JSON if it is any."""
        import orjson

        text = self._without_key(body.decode("utf-8", "replace"))
        try:
            wire = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self._quote(text, 80), None
        error = wire.get("error", wire) if isinstance(wire, dict) else wire
        message = error.get("message") if isinstance(error, dict) else error
        return self._quote(str(message or ""), 300), wire

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _quote(self, text: str, most: int) -> str:
        """At most that many characters of a server's text, on one line, without our key."""
        return " ".join(self._without_key(text).split())[:most]


async def _server_sent(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each event. Lines of any length: a chunk with many log-probabilities is long."""
    rest, data = b"", []
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in (each.rstrip(b"\r") for each in lines):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"error:"):  # llama.cpp's own form
                data.append(b'{"error":' + line[6:] + b"}")
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if data:
        yield b"\n".join(data)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; the date is read against the server's clock."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _close(connector: aiohttp.TCPConnector, loop: asyncio.AbstractEventLoop) -> None:
    """Close a forgotten model's connections, at the latest when the interpreter ends."""
    if loop.is_closed() or connector.closed:
        return

    async def close() -> None:
        await connector.close()

    done = asyncio.run_coroutine_threadsafe(close(), loop)
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # not on a loop: wait, because the interpreter may be ending
        with contextlib.suppress(TimeoutError):
            done.result(timeout=1)
