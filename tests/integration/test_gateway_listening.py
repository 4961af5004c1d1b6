"""The sockets of the gateway: taken ones, stale ones, those of others, TLS, and one that was handed over."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateways import read_all, request, status_of
from issuer import certificate
from small_use_case import small_repository

import workbench as wb
from workbench import _sync
from workbench.cli.gateway import gateway
from workbench.config import GatewayLimits, GatewaySettings, GatewayTls
from workbench.errors import ConfigError, UnavailableError
from workbench.gateway.exchange import GatewayExchange
from workbench.gateway.gateway import Gateway
from workbench.gateway.hosted import serve_connection
from workbench.gateway.listening import address_of, listen
from workbench.gateway.native_routes import answer_lines
from workbench.gateway.server import GatewayServer
from workbench.identities.owner_token import make_owner_token
from workbench.remote.protocol import CALLS
from workbench.testing.fault_server import FaultServer

FREE = GatewaySettings(address="127.0.0.1:0", limits=GatewayLimits(drain_s=1))


@pytest.fixture
def root(tmp_path):
    return small_repository(tmp_path / "repo")


def at(path: Path) -> GatewaySettings:
    return dataclasses.replace(FREE, socket=str(path))


def test_a_port_that_is_taken_is_an_error_with_the_command_that_takes_another(free_port):
    settings = dataclasses.replace(FREE, address=f"127.0.0.1:{free_port}")
    with listen(settings) as taken:
        assert address_of(taken, settings) == f"http://127.0.0.1:{free_port}"
        with pytest.raises(UnavailableError, match="taken") as caught:
            listen(settings)
    assert "workbench gateway --address" in caught.value.hint
    with pytest.raises(ConfigError, match="no machine"):
        listen(dataclasses.replace(FREE, address="nowhere.invalid:1"))


def test_a_socket_is_private_and_replaces_one_that_nobody_serves(tmp_path, monkeypatch):
    path = tmp_path / "s"
    with listen(at(path)) as first:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and first.family == socket.AF_UNIX
        with pytest.raises(UnavailableError, match="taken"):
            listen(at(path))
    with listen(at(path)):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="another user"):
        listen(at(path))
    monkeypatch.undo()
    path.unlink()
    path.write_text("a file")
    with pytest.raises(ConfigError, match="no socket"):
        listen(at(path))
    assert path.read_text() == "a file", "it is not lost"
    with pytest.raises(ConfigError, match="100 bytes"):
        listen(at(tmp_path / ("x" * 100)))


def asked(root, settings, connect) -> bytes:
    """Serve in this process, and return the answer to one request."""
    key, listener = make_owner_token(root), listen(settings)
    server = GatewayServer(Gateway(root), listener, settings)
    _sync.run(server.start())
    try:
        with connect(listener) as connection:
            connection.sendall(request("GET", "/v1/models", key=key))
            return read_all(connection)
    finally:
        _sync.run(server.stop())


def test_tls_protects_a_public_address(root):
    certificate(root)
    tls = GatewayTls(certificate="chain.pem", key="chain.pem")
    trusting = ssl.create_default_context(cafile=root / "cert.pem")

    def secure(listener):
        plain = socket.create_connection(listener.getsockname(), timeout=20)
        return trusting.wrap_socket(plain, server_hostname="localhost")

    settings = dataclasses.replace(FREE, tls=tls, public=True)
    assert status_of(asked(root, settings, secure)) == 200
    for wrong in (
        GatewayTls(certificate="none.pem", key="chain.pem"),
        GatewayTls(certificate="cert.pem", key="cert.pem"),
    ):
        with listen(FREE) as listener, pytest.raises(ConfigError, match=r"gateway\.tls"):
            GatewayServer(Gateway(root), listener, dataclasses.replace(settings, tls=wrong))


def test_a_unix_socket_answers_as_a_port_does(root, tmp_path):
    def connect(listener):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(20)
        found.connect(listener.getsockname())
        return found

    assert status_of(asked(root, at(tmp_path / "s"), connect)) == 200


def test_a_stream_that_does_not_end_in_time_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    with FaultServer(event_s=30) as upstream:
        root = small_repository(tmp_path / "repo", endpoint=upstream.url)
        key, listener = make_owner_token(root), listen(FREE)
        server = GatewayServer(Gateway(root, mode="live"), listener, FREE)
        _sync.run(server.start())
        body = b'{"model":"smollm2-135m","stream":true,"messages":[{"role":"user","content":"?"}]}'
        with socket.create_connection(listener.getsockname(), timeout=20) as connection:
            connection.sendall(request("POST", "/v1/chat/completions", body, key=key))
            assert connection.recv(9999).startswith(b"HTTP/1.1 200")
            _sync.run(server.stop())
            assert b"the gateway stopped before the answer ended" in read_all(connection)
    assert wb.connect("small", root=root).calls()["outcome"].to_list() == ["cancelled"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--address", "0.0.0.0:1"], "public"),
        (["--address", "nonsense"], "HOST:PORT"),
        (["--socket", "/nowhere/at/all"], "folder of yours"),
    ],
    ids=["public", "no address", "no folder"],
)
def test_an_option_that_cannot_be_is_an_error(root, monkeypatch, options, word):
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError, match=word):
        gateway.main(options, standalone_mode=False)


class OneRun:
    """The app of a run, which answers each request with two lines, or waits."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        exchange = GatewayExchange(scope, receive, send)
        exchange.check_head()
        await answer_lines(exchange, self.lines(await exchange.body(most=100)))

    async def lines(self, body: bytes) -> AsyncIterator[bytes]:
        try:
            yield b'{"event":1}\n'
            if body == b'"wait"':
                await asyncio.Event().wait()
            yield b'{"end":{}}\n'
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


def test_a_socket_that_is_handed_over_is_served_until_it_is_closed():
    run = OneRun()

    def answer(body: bytes, *, whole: bool) -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with ours:
            ours.settimeout(20)
            ours.sendall(request("POST", CALLS, body))

            async def serve() -> bytes:
                serving = asyncio.create_task(serve_connection(theirs, run))
                found = await asyncio.to_thread(read_all if whole else lambda one: one.recv(9999), ours)
                ours.close()
                await asyncio.wait_for(serving, 10)
                return found

            return _sync.run(serve())

    found = answer(b"{}", whole=True)
    assert status_of(found) == 200 and b'{"event":1}' in found and b'{"end":{}}' in found
    assert b"workbench-protocol: 1" in found
    assert status_of(answer(b'"wait"', whole=False)) == 200
    assert run.ended == ["CancelledError"], "who closes the socket ends the call"
