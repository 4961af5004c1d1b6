"""The gateway under attack: malformed requests of a grammar, and one tenant's key against another tenant."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateways import request, running_gateway, status_of
from malformed_requests import Grammar
from sizes import SEED, SOAK
from tenant_attacks import Asker, Attempt, leaks
from tenant_attempts import Attempts
from two_tenants import SECRET, holdings, prepared, two_tenants

from workbench.testing.fault_server import FaultServer

MALFORMED = 1_000 if SOAK else 136
ATTEMPTS = 10_000 if SOAK else 140
ANSWER = re.compile(rb"(?:^|[\n}])HTTP/1\.1 (\d{3}) ")
#: What no answer may hold: traces, paths of the machine, objects of Python, and errors of no class.
HIDDEN = ("Traceback", "site-packages", 'File "', " at 0x", "gateway failed")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with FaultServer() as upstream, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "unused")
        root = two_tenants(tmp_path_factory.mktemp("attacked") / "repo", endpoint=upstream.url)
        with running_gateway(root) as found:
            yield found


def answered(gateway, data: bytes) -> bytes:
    """What the gateway answers until it closes the connection, or for a second."""
    found = b""
    with gateway.connected() as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.settimeout(1)
        while piece := connection.recv(65536):
            found += piece
    return found


def test_malformed_requests_crash_nothing_and_learn_nothing(gateway):
    grammar = Grammar(SEED, gateway.key)
    sent = [grammar.make(number) for number in range(MALFORMED)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda one: answered(gateway, one.data), sent))
    for number, (one, answer) in enumerate(zip(sent, answers, strict=True)):
        statuses = [int(status) for status in ANSWER.findall(answer)]
        place = (SEED, number, one.kind, one.data[:500], answer[:500])
        assert len(statuses) <= one.answers, place
        # An upstream that answers a malformed request oddly is told as such.
        assert all(status < 500 for status in statuses) or b"NoAnswerError" in answer, place
        assert not [text for text in (*HIDDEN, str(gateway.root), gateway.key) if text.encode() in answer], (
            place
        )
    assert status_of(gateway.request("GET", "/health")) == 200
    assert "Traceback" not in gateway.log.read_text() and gateway.key not in gateway.log.read_text()


def test_a_request_that_offers_another_protocol_is_answered_and_ends_its_connection(gateway):
    """As clients do that prefer HTTP/2: none waits for an answer, and no body is lost silently."""
    offer = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    body = b'{"model": "smollm2-135m", "messages": [{"role": "user", "content": "hello"}]}'
    for method, path, sent, status in (
        ("GET", "/health", b"", 200),
        ("POST", "/use-cases/small/v1/chat/completions", body, 400),
    ):
        whole = request(method, path, sent, headers=offer, key=gateway.key)
        began = time.monotonic()
        answer = gateway.sent(whole.replace(b"connection: close\r\n", b"", 1) + request("GET", "/health"))
        assert status_of(answer) == status and time.monotonic() - began < 10
        assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer
    assert b"HTTP/1.1" in answer and b"--http1.1" in answer


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "chunked, chunked"])
def test_a_body_of_an_encoding_that_is_not_read_is_refused(gateway, coding):
    head = request("POST", "/v1/responses", headers=f"transfer-encoding: {coding}\r\n", key=gateway.key)
    assert status_of(gateway.sent(head + b"0\r\n\r\n")) == 400


@pytest.mark.parametrize(
    "path", ["/workbench/v1/verbs/calls", "/workbench/v1/secrets", "/workbench/v1/calls"]
)
def test_a_deep_body_is_an_error_of_its_own(gateway, path):
    for body in (b"[" * 100_000, b'{"use_case":' + b'{"a":' * 900 + b"1" + b"}" * 901):
        answer = gateway.request("POST", path, body, headers="workbench-protocol: 1\r\n")
        assert status_of(answer) == 400 and b"ConfigError" in answer and b"gateway failed" not in answer


def test_no_attempt_of_one_tenant_reaches_another(gateway):
    """Each attempt is answered as one against a tenant that does not exist, and changes nothing."""
    sides = prepared(gateway)
    before, attempts = holdings(gateway, sides), Attempts(SEED)
    asker = Asker(gateway.host, gateway.port, sides.acme)
    hidden = (*HIDDEN, SECRET, str(gateway.root), sides.acme)
    for number in range(ATTEMPTS):
        attempt = attempts.make(number)
        found = leaks(asker, attempt, sides.target, sides.twin, hidden=hidden)
        assert not found, (SEED, number, attempt.against(sides.target), found)
    asker.close()
    assert holdings(gateway, sides) == before
    assert SECRET not in gateway.log.read_text() and "globex" not in gateway.log.read_text()


def test_a_wrong_key_takes_as_long_as_an_unknown_one(gateway):
    """Medians of both, in turn: a difference of a tenth of the time would be told over a network."""
    sides = prepared(gateway)
    id_of = {"wrong": sides.target.key_id, "unknown": sides.twin.key_id}
    took: dict[str, list[float]] = {"wrong": [], "unknown": []}
    asker = Asker(gateway.host, gateway.port, "")
    for _ in range(1_000 if SOAK else 150):
        for name, key in id_of.items():
            authorization = f"Bearer wbk_{key}_{'0' * 64}"
            attempt = Attempt(method="GET", path="/v1/models", headers=(("Authorization", authorization),))
            began = time.perf_counter()
            assert asker.ask(attempt)[0] == 401
            took[name].append(time.perf_counter() - began)
    asker.close()
    wrong, unknown = (statistics.median(times) for times in took.values())
    assert abs(wrong - unknown) < 0.5 * max(wrong, unknown)
