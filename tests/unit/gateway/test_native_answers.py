"""Answers of the native route: whole in one piece, long ones in several, and the end when a client leaves."""

import asyncio

import pytest

from workbench import _sync
from workbench.gateway import native_routes
from workbench.gateway.exchange import GatewayExchange
from workbench.gateway.native_routes import answer_lines


def exchanged(*, leaves=False):
    """Return an exchange whose client leaves at once or never, and the list of what is sent."""
    sent = []

    async def receive():
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    return GatewayExchange({"method": "POST", "path": "/"}, receive, send), sent


async def lines_of(*lines):
    for line in lines:
        yield line


def bodies(sent):
    return [message["body"] for message in sent if message["type"] == "http.response.body"]


def test_a_plain_answer_is_one_piece_with_its_length():
    exchange, sent = exchanged()
    _sync.run(answer_lines(exchange, lines_of(b"a\n", b"b\n"), streamed=False))
    assert bodies(sent) == [b"a\nb\n"] and (b"content-length", b"4") in sent[0]["headers"]


def test_a_streamed_answer_is_sent_line_by_line():
    exchange, sent = exchanged()
    _sync.run(answer_lines(exchange, lines_of(b"a\n", b"b\n"), streamed=True))
    assert bodies(sent) == [b"a\n", b"b\n", b""]


def test_a_long_plain_answer_is_not_held_as_a_whole(monkeypatch):
    monkeypatch.setattr(native_routes, "_AT_ONCE", 3)
    exchange, sent = exchanged()
    _sync.run(answer_lines(exchange, lines_of(b"aa\n", b"bb\n", b"cc\n"), streamed=False))
    assert bodies(sent) == [b"aa\nbb\n", b"cc\n"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_ends_the_lines(streamed):
    ended = []

    async def endless():
        try:
            yield b"a\n"
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    exchange, _ = exchanged(leaves=True)
    _sync.run(asyncio.wait_for(answer_lines(exchange, endless(), streamed=streamed), 20))
    assert exchange.left and len(ended) == 1
