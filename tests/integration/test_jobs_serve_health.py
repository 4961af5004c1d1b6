"""The health of a server over real HTTP: alive, ready, measured, and what is said to whom."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from job_servers import House, definition

from workbench.errors import ConfigError, UnavailableError
from workbench.scheduler import health
from workbench.scheduler.health import HealthServer, address_of, listen


@pytest.fixture
def served(tmp_path):
    """A server at six, one run under way, and a function that asks its address."""
    made = House(tmp_path, definition(), definition("triage", cron="30 6 * * *", tenants=("acme", "globex")))
    made.tick()
    made.tick(60)
    listener = listen("127.0.0.1:0")
    answering = HealthServer(made.server, listener)
    thread = threading.Thread(target=lambda: asyncio.run(answering.serve([listener])))
    thread.start()
    while not answering.started:
        time.sleep(0.005)

    def ask(path, **headers):
        request = urllib.request.Request(address_of(listener) + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    ask.listener = listener
    made.ask = ask
    yield made
    answering.should_exit = True
    thread.join(5)
    assert not thread.is_alive()


def test_a_server_that_looks_is_alive_and_ready(served):
    assert served.ask("/health") == (200, '{"status":"ok"}')
    status, said = served.ask("/ready")
    assert status == 200 and set(json.loads(said)["checks"].values()) == {"ok"}


def test_jobs_are_listed_with_their_next_times_and_pauses(served):
    served.ledger.pause("triage", by="ada", reason="")
    served.tick(1)
    found = json.loads(served.ask("/jobs")[1])
    assert found["running"] == [served.starter.runs[0].run]
    assert [(job["job"], job["next"], job["paused"], job["tenants"]) for job in found["jobs"]] == [
        ("answers", "2026-11-25T06:00:00Z", False, []),
        ("triage", "2026-11-24T06:30:00Z", True, ["acme", "globex"]),
    ]


def test_metrics_count_runs_and_delays_and_name_no_job_and_no_tenant(served):
    served.starter.end(served.starter.runs[0])
    served.tick(1)
    text = served.ask("/metrics")[1]
    assert 'workbench_jobs_runs_total{outcome="published"} 1.0' in text
    assert 'workbench_jobs_start_delay_seconds_bucket{le="0.1"} 1.0' in text
    assert "workbench_jobs_up 1.0" in text and "workbench_jobs_definitions 2.0" in text
    assert "answers" not in text and "acme" not in text


@pytest.mark.parametrize("check", ["definitions", "ledger", "loop"])
def test_a_server_is_not_ready_with_a_fault_and_says_which(served, check):
    if check == "definitions":
        served.reader.current = dataclasses.replace(served.reader.current, faults={"x": "broken"}, mark=(2,))
        served.tick(1)
    elif check == "ledger":
        served.server.fault = "UnavailableError: the database does not answer"
    else:
        served.server.ticked -= 60
    status, said = served.ask("/ready")
    checks = json.loads(said)["checks"]
    assert status == 503 and [name for name, found in checks.items() if found != "ok"] == [check]
    assert served.ask("/health")[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-More: "])
def test_clients_that_never_finish_a_request_keep_no_probe_from_its_answer(served, sent):
    place = served.ask.listener.getsockname()
    idle = [socket.create_connection(place) for _ in range(health._MOST_CONNECTIONS + 20)]
    try:
        for client in idle[-health._MOST_CONNECTIONS :]:
            client.sendall(sent)
        assert [served.ask(path)[0] for path in ("/health", "/ready", "/metrics")] == [200] * 3
    finally:
        for client in idle:
            client.close()


def test_a_connection_is_closed_after_some_seconds(served, monkeypatch):
    monkeypatch.setattr(health, "_CONNECTED_S", 0.05)
    with socket.create_connection(served.ask.listener.getsockname(), timeout=5) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_page_that_calls_this_machine_by_a_name_of_its_own_is_refused(served):
    assert served.ask("/jobs", Host="attacker.example")[0] == 400


def test_an_address_that_others_reach_does_not_list_jobs(tmp_path):
    from starlette.testclient import TestClient

    from workbench.scheduler.health import health_app

    made = House(tmp_path, definition())
    made.tick()
    with listen("0.0.0.0:0") as listener, TestClient(health_app(made.server, listener)) as client:
        assert client.get("/jobs").status_code == 404
        assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "address", ["8350", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", "no.such.invalid:1"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match=r"--address|machine"):
        listen(address)


def test_a_taken_address_says_how_to_take_another():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UnavailableError) as caught:
            listen(f"127.0.0.1:{other.getsockname()[1]}")
    assert "127.0.0.1:0" in caught.value.hint
