"""The HTTP client of a kernel, over pairs of sockets: reuse, hostile servers, leaving."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from workbench.errors import ConfigError, UnavailableError, WorkbenchError
from workbench.remote import descriptors, http
from workbench.remote.connection import GatewayConnection
from workbench.remote.http import BrokenConnectionError, HttpClient

OK = b"HTTP/1.1 200 OK\r\nworkbench-protocol: 1\r\ncontent-type: application/json\r\n"
PLAIN = OK + b"content-length: 2\r\n\r\nok"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"


class Server:
    """Answers each request on each connection by the next of the scripts; None closes the connection."""

    def __init__(self, *scripts):
        self.scripts, self.requests, self.connections = list(scripts), [], 0
        self.tasks = []

    async def connect(self, protocol):
        near, far = socket.socketpair()
        self.connections += 1
        self.tasks.append(asyncio.ensure_future(self._serve(far)))
        return await asyncio.get_running_loop().create_connection(protocol, sock=near)

    async def _serve(self, far):
        reader, writer = await asyncio.open_connection(sock=far)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(size))
                script = self.scripts.pop(0)
                if script is None:
                    break
                writer.write(script)
                await writer.drain()
                if b"close" in script:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def ask(client) -> bytes:
    async with client.opened("POST", "/x", b"body", "application/json") as exchange:
        return b"".join([piece async for piece in exchange.pieces()])


def run(*scripts, times=1):
    """What each of some requests got, and the server."""

    async def go():
        server = Server(*scripts)
        client = HttpClient(server.connect, b"host: gateway\r\n")
        found = []
        for _ in range(times):
            try:
                found.append(await asyncio.wait_for(ask(client), 5))
            except BrokenConnectionError as error:
                found.append(error)
        client.close()
        await asyncio.sleep(0)
        await asyncio.gather(*server.tasks)
        return found, server

    return asyncio.run(go())


def test_requests_follow_one_another_on_one_connection():
    found, server = run(PLAIN, CHUNKED, PLAIN, times=3)
    assert found == [b"ok"] * 3 and server.connections == 1
    head = b"POST /x HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n"
    assert server.requests == [head + b"body"] * 3


def test_a_connection_that_the_server_closes_is_not_used_again():
    closing = PLAIN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    found, server = run(closing, PLAIN, None, PLAIN, times=4)
    assert found[:2] == [b"ok", b"ok"] and found[3] == b"ok" and server.connections == 3
    assert isinstance(found[2], BrokenConnectionError)


def test_a_connection_that_rests_too_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(http, "_KEEPALIVE_S", -1.0)
    assert run(PLAIN, PLAIN, times=2)[1].connections == 2


@pytest.mark.parametrize(
    "script",
    [
        b"garbage\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        OK + b"x: " + b"a" * 2**17,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2**15,
        OK + b"content-length: 100\r\nconnection: close\r\n\r\nok",
    ],
    ids=lambda script: script[-30:].decode("latin-1"),
)
def test_what_is_no_answer_in_http_breaks_the_connection(script):
    (found,), _ = run(script)
    assert isinstance(found, BrokenConnectionError), found


def test_more_than_one_answer_to_a_request_ends_the_connection():
    found, server = run(PLAIN + PLAIN, PLAIN, times=2)
    assert found == [b"ok", b"ok"] and server.connections == 2


def test_an_answer_that_is_not_read_to_its_end_ends_the_connection_and_is_not_read_ahead():
    size = 8 * 2**20
    script = OK + b"content-length: %d\r\n\r\n" % size + b"x" * size

    async def go():
        server = Server(script, PLAIN)
        client = HttpClient(server.connect, b"")
        async with client.opened("POST", "/", b"") as exchange:
            await asyncio.sleep(0.05)
            held = exchange._size
            assert await anext(exchange.pieces())
        assert await ask(client) == b"ok"
        client.close()
        await asyncio.sleep(0)
        await asyncio.gather(*server.tasks)
        return held, server.connections

    held, connections = asyncio.run(go())
    assert held <= 2**19 and connections == 2


def test_a_cancelled_request_ends_its_connection():
    async def go():
        server = Server(b"", PLAIN)
        client = HttpClient(server.connect, b"")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(client)
        assert await ask(client) == b"ok"
        client.close()
        await asyncio.sleep(0)
        await asyncio.gather(*server.tasks)
        return server.connections

    assert asyncio.run(go()) == 2


@pytest.mark.parametrize(
    "address",
    [
        *("", "gateway", "ftp://host", "unix:", "fd:x", "fd:-1", "http://", "http://key@host:1"),
        *("http://h:99999", "http://h/path", "http://h?key=x", "https:", "http://ho\nst"),
    ],
)
def test_an_address_that_is_none_is_refused_with_the_forms(address):
    with pytest.raises(ConfigError, match="address") as caught:
        GatewayConnection(address)
    assert "unix:/PATH" in caught.value.hint and "key@" not in caught.value.message


@pytest.mark.parametrize("authorization", ["Bearer a\r\nx: y", "Bearer ä", "a\0"])
def test_an_authorization_that_is_no_header_is_refused(authorization):
    with pytest.raises(ConfigError, match="authorization"):
        GatewayConnection("http://h:1", authorization=authorization)


def requested(script):
    """What a gateway's connection by descriptor gets from a server."""

    async def go():
        broker, given = socket.socketpair()
        connection = GatewayConnection(f"fd:{given.fileno()}", authorization="Bearer k")
        server = Server(script)

        def hand_over():
            assert descriptors.asked_for_socket(broker)
            return descriptors.hand_over(broker)

        handing = asyncio.ensure_future(asyncio.to_thread(hand_over))
        asking = asyncio.ensure_future(connection.request("POST", "/x", b"{}"))
        serving = asyncio.ensure_future(server._serve(await handing))
        try:
            return await asyncio.wait_for(asking, 5), server.requests
        except WorkbenchError as error:
            return error, server.requests
        finally:
            await connection.aclose()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            broker.close()
            given.close()

    return asyncio.run(go())


def test_a_descriptor_gives_connected_sockets_and_ends_with_its_other_end():
    answer, (request,) = requested(PLAIN)
    assert (answer.status, answer.kind, answer.body) == (200, "application/json", b"ok")
    assert b"authorization: Bearer k\r\n" in request and b"Workbench-Protocol: 1\r\n" in request
    broker, given = socket.socketpair()
    broker.close()
    with given, pytest.raises(UnavailableError, match="ended"):
        descriptors.ask_for_socket(given.fileno())


@pytest.mark.parametrize(
    ("script", "kind", "named"),
    [
        (PLAIN.replace(b"workbench-protocol: 1", b"workbench-protocol: 2"), ConfigError, "'2'"),
        (PLAIN.replace(b"workbench-protocol: 1", b"server: nginx"), UnavailableError, "no gateway"),
        (PLAIN.replace(b"200 OK", b"502 Bad"), UnavailableError, "502"),
        (None, UnavailableError, "broke off"),
    ],
)
def test_a_server_of_another_kind_or_version_is_named(script, kind, named):
    error, _ = requested(script)
    assert type(error) is kind and named in error.message and error.hint


def test_the_error_that_a_gateway_states_in_place_of_an_answer_is_raised():
    body = b'{"error":{"type":"RefusedError","message":"this key may not"}}'
    script = OK.replace(b"200 OK", b"403 Forbidden") + b"content-length: %d\r\n\r\n" % len(body) + body
    error, _ = requested(script)
    assert error.message == "this key may not"
