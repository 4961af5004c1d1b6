"""Requests that state more than they may: after the body, in empty headers, and beyond the bounds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from uvicorn.server import ServerState

from workbench import _sync
from workbench.config import GatewayLimits
from workbench.errors import ConfigError, NotFoundError, RateLimitedError, RefusedError
from workbench.gateway.app import stated_by
from workbench.gateway.connections import BoundedProtocol, uvicorn_config
from workbench.gateway.exchange import GatewayExchange
from workbench.gateway.failures import public
from workbench.gateway.gateway import Gateway, grant_key
from workbench.gateway.memory_routes import _called
from workbench.gateway.native_routes import answer_native
from workbench.gateway.openai_routes import _models
from workbench.gateway.verbs import answer_verbs
from workbench.identities.grants import Grant
from workbench.identity import GrantScope, Principal
from workbench.models import load_card
from workbench.models.client_requests import Caller, asked_request
from workbench.ports.identity import Identity
from workbench.remote.protocol import HEADER, VERSION

ROOT = Path(__file__).resolve().parents[3]
GRANT = Grant(
    identity=Identity(principal=Principal(name="ann", assurance="authenticated"), tenant="acme"),
    scope=GrantScope(kind="key", api_key="k1"),
)
CALL = {
    "format": 1, "port": "model", "operation": "chat", "target": "smollm2-135m", "use_case": "answers",
    "caller": "c1", "payload": {"messages": [], "stream": True},
}  # fmt: skip


class Wire:
    """A transport that keeps what is written."""

    def __init__(self):
        self.written, self.closing = b"", False

    def write(self, data):
        self.written += data

    def close(self):
        self.closing = True

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        """Of requests that wait: all of them are here already."""

    def resume_reading(self):
        """Of requests that wait: all of them are here already."""

    def get_extra_info(self, _name, default=None):
        return default


def exchanged(body=b"", **headers):
    """Return an exchange of a request with this body and these headers, and the list of what is sent."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    head = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    head += [(HEADER.lower().encode(), VERSION.encode()), (b"content-length", b"%d" % len(body))]
    scope = {
        "method": "POST", "path": "/v1/models", "query_string": b"", "http_version": "1.1", "headers": head,
        "path_params": {"name": "calls"},
    }  # fmt: skip
    exchange = GatewayExchange(scope, receive, send)
    exchange.check_head()
    return exchange, sent


@pytest.mark.parametrize("pieces", [1, 3])
def test_headers_that_follow_the_body_state_nothing(pieces):
    """A proxy that checks or sets headers does so in the head."""
    seen = []

    async def app(scope, _receive, send):
        await asyncio.sleep(0)
        seen.append([name for name, _ in scope["headers"]])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def asked():
        limits, wire = GatewayLimits(), Wire()
        protocol = BoundedProtocol(
            uvicorn_config(app, limits), ServerState(), limits=limits, _loop=asyncio.get_running_loop()
        )
        protocol.connection_made(wire)
        data = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
            b"0\r\nauthorization: Bearer other\r\nworkbench-tenant: globex\r\n\r\nGET /v1/models HTTP/1.1\r\n"
            b"host: b\r\n\r\n"
        )
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            protocol.data_received(data[start : start + size])
        for _ in range(20):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return wire.written

    assert _sync.run(asked()).count(b"HTTP/1.1 204") == 2
    assert seen == [[b"host", b"transfer-encoding"], [b"host"]]


@pytest.mark.parametrize("name", ["use-case", "tenant", "purpose", "session", "subject"])
@pytest.mark.parametrize(
    ("value", "word"),
    [("", "is empty"), (" ", "is empty"), ("x" * 1_001, "1,000"), ("a\tb", "shown"), ("a\u202eb", "shown")],
)
def test_an_empty_or_long_header_is_no_header_that_was_left_out(name, value, word):
    """An unset variable of a client must not choose the first tenant."""
    exchange, _ = exchanged(**{f"workbench_{name.replace('-', '_')}": value})
    with pytest.raises(ConfigError, match=f"(?i)workbench-{name} .*{word}"):
        stated_by(exchange)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_person_has_one_name_in_headers_and_in_json(encoding):
    """What is kept is erased by it."""
    exchange, _ = exchanged()
    exchange.headers[b"workbench-subject"] = " J\u00fcrgen ".encode(encoding)
    assert stated_by(exchange).subject == "J\u00fcrgen"


@pytest.fixture
def gateway(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    assert "\ngateway:" not in text
    (tmp_path / "params.yaml").write_text(f"{text}\ngateway: {{limits: {{streams: 2, body_mib: 0.001}}}}\n")
    return Gateway(tmp_path)


def test_streams_of_another_workbench_count_as_those_of_any_client(gateway):
    gateway.streams[grant_key(GRANT)] = 2
    exchange, _ = exchanged(json.dumps(CALL).encode())
    with pytest.raises(RateLimitedError, match="2 streams of this key"):
        _sync.run(answer_native(gateway, exchange, GRANT))
    assert gateway.streams[grant_key(GRANT)] == 2


def test_the_bound_of_a_body_is_that_of_every_route(gateway):
    body = json.dumps({**CALL, "labels": {"x": "y" * 2_000}}).encode()
    with pytest.raises(RefusedError, match=r"more than 0\.00\d+ MiB"):
        _sync.run(answer_native(gateway, exchanged(body)[0], GRANT))
    exchange, sent = exchanged(body)
    _sync.run(answer_verbs(gateway, exchange, GRANT))
    assert b"MiB" in sent[1]["body"] and (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("operation", ["embed", "moderate", "count"])
def test_only_answers_of_text_are_streamed(operation):
    with pytest.raises(ConfigError, match=f"{operation} answers no stream"):
        asked_request(operation, b'{"model": "m", "input": "x", "stream": true}', None)


def test_a_key_for_one_version_of_a_model_lists_the_model():
    card = load_card(ROOT, "smollm2-135m")
    client = Caller(handler=None, make_call=None, cards=lambda: [card])

    def listed(*models):
        scope = GrantScope(kind="key", models=frozenset(models))
        caller = SimpleNamespace(client=client, grant=SimpleNamespace(scope=scope))
        return [item["id"] for item in _models(caller, "/models")["data"]], caller

    assert listed(card.reference)[0] == listed(card.name)[0] == [card.name]
    names, caller = listed(f"{card.name}@{card.version + 1}")
    assert names == []
    with pytest.raises(NotFoundError, match="no such model"):
        _models(caller, f"/models/{card.name}")


def test_an_argument_that_a_verb_lacks_is_never_ignored():
    with pytest.raises(ConfigError, match="items takes no 'version'"):
        _sync.run(_called(SimpleNamespace(), "items", {"version": 3}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{root}/params.yaml is wrong", "params.yaml is wrong"),
        ("no file in {root}", "no file in the repository"),
        ("{root}: no file", "the repository: no file"),
        ("{root}-other/x", "{root}-other/x"),
    ],
)
def test_no_error_names_the_folder_of_the_repository(tmp_path, text, told):
    error = public(ConfigError(text.format(root=tmp_path), hint=text.format(root=tmp_path)), tmp_path)
    assert error.message == error.hint == told.format(root=tmp_path)
    assert error.args == (error.message,)


def test_the_root_of_the_file_system_is_no_folder_to_leave_out():
    assert public(ConfigError("/etc/x"), Path("/")).message == "/etc/x"
