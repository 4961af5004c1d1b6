"""`workbench gateway` as a process: the answers that `ws.openai()` gives, and the network at its worst."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import signal
import socket
import threading
import time

import openai
import psutil
import pytest
from documented_pages import blocks_of, page_of
from gateways import read_all, request, running_gateway, status_of, until, with_notes
from sizes import SEED, SOAK
from small_use_case import small_repository

import workbench as wb
from workbench.testing.fault_plan import Latency
from workbench.testing.fault_server import FaultServer

#: Connections that a worker takes.
MOST = 1_010 if SOAK else 300
LIMITS = f"""
gateway:
  limits: {{connections: {MOST}, head_s: 1, body_s: 1, write_s: 1, streams: 3, drain_s: 20}}
"""
ASK = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "größer?"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream():
    with FaultServer(event_s=0.02) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, upstream):
    root = small_repository(tmp_path_factory.mktemp("gateway") / "repo", endpoint=upstream.url)
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + LIMITS)
    with running_gateway(with_notes(root), "--workers", "1") as found:
        yield found


@pytest.fixture(scope="module")
def ws(gateway):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "unused")
        yield wb.connect("small", root=gateway.root)


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as found:
        yield found


def body_of(**others) -> bytes:
    return json.dumps({**ASK, **others}).encode()


def is_well(gateway) -> bool:
    return status_of(gateway.request("GET", "/health")) == 200


# -- answers -----------------------------------------------------------------------------------------


def test_a_client_of_openai_gets_what_the_workspace_s_own_gets(client, ws):
    own = ws.openai()
    found, expected = (one.chat.completions.create(**ASK).model_dump() for one in (client, own))
    assert found.pop("id") and expected.pop("id") and found == expected
    chunks = [[c.model_dump(exclude={"id"}) for c in one.chat.completions.create(**ASK, stream=True)]
              for one in (client, own)]  # fmt: skip
    assert chunks[0] == chunks[1] and len(chunks[0]) > 10
    assert [m.id for m in client.models.list()] == [m.id for m in own.models.list()]
    assert client.models.retrieve("smollm2-135m") == own.models.retrieve("smollm2-135m")


@pytest.mark.parametrize(
    "asked",
    [
        {**ASK, "model": "nobody"},
        {**ASK, "stream": "yes"},
        {**ASK, "stream_options": 3},
        ["no object"],
    ],
    ids=["unknown model", "odd stream", "odd options", "a list"],
)
def test_an_error_has_the_bytes_and_the_status_of_the_workspace_s_own(client, ws, asked):
    def error(one) -> tuple[int, object]:
        with pytest.raises(openai.APIStatusError) as caught:
            one.post("/chat/completions", body=asked, cast_to=object)
        return caught.value.status_code, caught.value.response.content

    assert error(client) == error(ws.openai())


def test_a_record_names_the_caller_and_the_session_that_the_headers_state(gateway, client, ws):
    named = {"Workbench-Session": "journey-7", "Workbench-Subject": "cust-1", "Workbench-Purpose": "help"}
    raw = client.chat.completions.with_raw_response.create(**ASK, extra_headers=named)
    row = ws.calls(trace=raw.headers["workbench-trace-id"]).to_dicts()[0]
    assert (row["session"], row["purpose"], row["tenant"]) == ("journey-7", "help", "acme")
    said = json.loads(gateway.request("GET", "/workbench/v1/session").partition(b"\r\n\r\n")[2])
    assert (said["use_case"], said["tenant"], said["kind"]) == ("small", "acme", "owner")


def test_a_memory_remembers_finds_and_forgets(gateway):
    def asked(verb, method="POST", **stated):
        answer = gateway.request(method, f"/v1/memories/notes/{verb}", json.dumps(stated).encode())
        return status_of(answer), json.loads(answer.partition(b"\r\n\r\n")[2])

    status, note = asked("remember", text="Ann takes the train to Zürich", subject="ann")
    assert status == 200 and note["new"]
    status, found = asked("search", query="train", k=1)
    assert [hit["text"] for hit in found["hits"]] == ["Ann takes the train to Zürich"]
    assert asked("count", "GET") == (200, {"count": 1})
    assert [item["id"] for item in asked("items", "GET")[1]["items"]] == [note["id"]]
    assert asked("forget", subject="ann")[1]["ids"] == [note["id"]]
    for stated, word in (
        ({"k": 1}, "needs query"),
        ({"query": 3}, "query is 3"),
        ({"query": "a", "n": 1}, "no 'n'"),
    ):
        status, error = asked("search", **stated)
        assert status == 400 and word in error["error"]["message"]
    assert asked("snapshot", folder="/etc")[0] == 404


def test_the_code_of_the_page_works(gateway, monkeypatch):
    monkeypatch.setenv("URL", f"{gateway.url.removesuffix('/v1')}/use-cases/small/v1")
    monkeypatch.setenv("KEY", gateway.key)
    (code,) = blocks_of(page_of("gateway.md"), "python")
    assert code.count("assert") == 1
    exec(compile(code, "gateway.md", "exec"), {})


# -- clients that leave, and that are slow -----------------------------------------------------------


def outcomes(ws) -> list[str]:
    return ws.calls(limit=None)["outcome"].to_list()


def test_a_client_that_leaves_ends_its_call(gateway, upstream, ws):
    with gateway.connected() as connection:
        connection.sendall(request("POST", CHAT, body_of(stream=True), key=gateway.key))
        assert b"data: " in connection.recv(4096) + connection.recv(4096)
    until(lambda: "abandoned" in outcomes(ws))
    upstream.latency = Latency(30)
    with gateway.connected() as connection:
        connection.sendall(request("POST", CHAT, body_of(), key=gateway.key))
        time.sleep(0.3)
    upstream.latency = Latency(0)
    until(lambda: outcomes(ws).count("abandoned") == 2, seconds=10)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(gateway):
    head = request("POST", CHAT, key=gateway.key, headers="content-length: 1000000000\r\n")
    began = time.monotonic()
    answer = gateway.sent(head)
    assert status_of(answer) == 413 and b"16 MiB" in answer and time.monotonic() - began < 5
    head = request("POST", CHAT, key=gateway.key, headers="transfer-encoding: chunked\r\n")
    with gateway.connected() as connection:
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"80000\r\n" + b"x" * 0x80000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert status_of(read_all(connection)) in {0, 413}, "a reset may discard the answer"


def test_a_client_that_sends_slowly_is_closed(gateway):
    partial = request("POST", CHAT, body_of(), key=gateway.key)[:-10]
    for sent in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: a\r\n", partial):
        began = time.monotonic()
        answer = gateway.sent(sent)
        assert status_of(answer) == 408 and 0.5 < time.monotonic() - began < 10
    assert is_well(gateway)


def test_a_client_that_does_not_read_is_closed(gateway, upstream):
    upstream.text, before = "a long word " * 700_000, upstream.text
    try:
        with gateway.connected(SO_RCVBUF=65536) as connection:
            connection.sendall(request("POST", CHAT, body_of(), key=gateway.key))
            time.sleep(4)
            assert len(read_all(connection)) < 8_000_000
    finally:
        upstream.text = before
    assert is_well(gateway)


def test_idle_connections_cost_nobody_an_answer(gateway):
    with contextlib.ExitStack() as opened:
        idle = [opened.enter_context(gateway.connected()) for _ in range(MOST - 10)]
        assert is_well(gateway)
        more = [opened.enter_context(gateway.connected()) for _ in range(30)]
        assert status_of(read_all(more[-1])) == 503, "one too many"
        assert status_of(read_all(idle[0])) == 408
    until(lambda: is_well(gateway))


def test_one_key_has_a_number_of_streams(gateway, upstream):
    upstream.event_s = 0.2
    with contextlib.ExitStack() as opened:
        opened.callback(setattr, upstream, "event_s", 0.02)
        for _ in range(3):
            connection = opened.enter_context(gateway.connected())
            connection.sendall(request("POST", CHAT, body_of(stream=True), key=gateway.key))
            assert b"200 OK" in connection.recv(200)
        answer = gateway.request("POST", CHAT, body_of(stream=True))
        assert status_of(answer) == 429 and b"retry-after: 1" in answer
    until(lambda: status_of(gateway.request("POST", CHAT, body_of(stream=True))) == 200)


# -- requests that are wrong -------------------------------------------------------------------------

WRONG = {
    "two lengths": (400, b"POST /v1/responses HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}"),
    "length and chunks": (
        400, b"POST /v1/models HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "two keys": (400, b"GET /v1/models HTTP/1.1\r\nauthorization: a\r\nauthorization: b\r\n\r\n"),
    "two hosts": (400, b"GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    "folded header": (400, b"GET /health HTTP/1.1\r\nhost: a\r\n b\r\n\r\n"),
    "space before colon": (400, b"GET /health HTTP/1.1\r\nhost : a\r\n\r\n"),
    "nul in a header": (400, b"GET /health HTTP/1.1\r\nhost: a\x00b\r\n\r\n"),
    "no http": (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    "http 0.9": (400, b"GET /health\r\n\r\n"),
    "odd chunk": (400, b"POST /v1/embeddings HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    "odd encoding": (400, b"POST /v1/embeddings HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\nzz"),
    "key in the query": (400, b"GET /v1/models?api_key=PLANTED HTTP/1.1\r\n\r\n"),
    "key in the path": (400, b"GET /v1/wbk_PLANTED HTTP/1.1\r\n\r\n"),
    "key, quoted": (400, b"GET /v1/models?a=wb%6B_PLANTED HTTP/1.1\r\n\r\n"),
    "dots": (400, b"GET /v1/../health HTTP/1.1\r\n\r\n"),
    "quoted dots": (400, b"GET /v1/%2e%2e/health HTTP/1.1\r\n\r\n"),
    "quoted slash": (400, b"GET /v1%2fmodels HTTP/1.1\r\n\r\n"),
    "two slashes": (400, b"GET //health HTTP/1.1\r\n\r\n"),
    "nul in the path": (400, b"GET /health%00 HTTP/1.1\r\n\r\n"),
    "long head": (431, b"GET /health HTTP/1.1\r\na: " + b"x" * 40_000 + b"\r\n\r\n"),
    "many headers": (431, b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"),
    "long url": (431, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n"),
    "wrong method": (405, b"DELETE /health HTTP/1.1\r\nconnection: close\r\n\r\n"),
    "no route": (404, b"GET /etc/passwd HTTP/1.1\r\nconnection: close\r\n\r\n"),
    "no key": (401, b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_request_that_is_wrong_is_refused(gateway, name):
    status, sent = WRONG[name]
    assert status_of(gateway.sent(sent)) == status
    assert "PLANTED" not in gateway.log.read_text()


def test_a_base_url_without_its_end_is_told_so(gateway):
    for path in ("/chat/completions", "/use-cases/small/models"):
        assert b"base_url" in gateway.request("GET", path)


def test_a_body_that_is_compressed_is_refused(gateway):
    answer = gateway.request("POST", CHAT, gzip.compress(body_of()), headers="content-encoding: gzip\r\n")
    assert status_of(answer) == 415 and b"compressed" in answer


def test_requests_that_are_sent_at_once_are_answered_in_their_order(gateway):
    one = request("GET", "/health", key="").replace(b"connection: close\r\n", b"")
    sent = one + one.replace(b"/health", b"/nothing") + request("GET", "/health", key="")
    answers = gateway.sent(sent).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"404", b"200"]


def test_wrong_keys_get_one_answer(gateway):
    def answer(key: str) -> bytes:
        found = gateway.request("GET", "/v1/models", key=key)
        return b"\n".join(line for line in found.split(b"\r\n") if not line.startswith(b"date"))

    keys = ["x", "wbk_000000000000_" + "0" * 64, "wbo_" + "0" * 64, gateway.key[:-1] + "g", "a b", "é"]
    assert {answer(key) for key in keys} == {answer("nothing")}
    assert status_of(answer("nothing")) == 401 and b"www-authenticate: Bearer" in answer("nothing")


def test_requests_of_random_bytes_neither_crash_nor_leak(gateway):
    chance = random.Random(SEED)
    whole = [sent for _, sent in WRONG.values()] + [request("POST", CHAT, body_of(), key="k")]
    for number in range(1_000 if SOAK else 60):
        sent = bytearray(chance.choice(whole)[:3_000])
        for _ in range(chance.randint(1, 8)):
            sent[chance.randrange(len(sent))] = chance.randrange(256)
        with gateway.connected() as connection:
            connection.sendall(bytes(sent))
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        assert status_of(answer) < 500 and b"Traceback" not in answer and b"/repo" not in answer, (
            SEED,
            number,
        )
    assert is_well(gateway)


# -- the gateway itself ------------------------------------------------------------------------------


def test_what_the_gateway_says_of_itself(gateway):
    assert is_well(gateway)
    ready = json.loads(gateway.request("GET", "/ready").partition(b"\r\n\r\n")[2])
    assert ready["status"] == "ready" and set(ready["checks"]) == {"params", "state", "ledger"}
    until(lambda: " GET /health 200 " in gateway.log.read_text())
    metrics = gateway.request("GET", "/metrics")
    assert b'workbench_gateway_requests_total{method="GET",route="/health",status="200"}' in metrics
    described = json.loads(gateway.request("GET", "/openapi.json").partition(b"\r\n\r\n")[2])
    assert {"/v1/chat/completions", "/v1/memories/{name}/search", "/ready"} <= set(described["paths"])
    page = gateway.request("GET", "/docs")
    assert (
        b"/v1/responses" in page and b"<script" not in page and b"http://" not in page.partition(b"<body")[2]
    )


def test_an_edit_that_is_not_valid_changes_nothing_until_it_is_mended(gateway):
    path = gateway.root / "params.yaml"
    good = path.read_text()
    try:
        path.write_text(good.replace("phase: mvp", "phase: perhaps"))
        until(lambda: b"not valid" in gateway.request("GET", "/ready"))
        assert status_of(gateway.request("POST", CHAT, body_of())) == 200
        path.write_text(good.replace("tenants: [acme]", "tenants: [acme, globex]"))
        until(
            lambda: (
                status_of(gateway.request("GET", "/v1/models", headers="workbench-tenant: globex\r\n")) == 200
            )
        )
    finally:
        path.write_text(good)
    until(
        lambda: status_of(gateway.request("GET", "/v1/models", headers="workbench-tenant: globex\r\n")) >= 400
    )


def test_a_worker_that_is_killed_is_started_again(gateway):
    (worker,) = psutil.Process(gateway.process.pid).children()
    worker.kill()

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return is_well(gateway)
        return False

    time.sleep(0.5)
    until(answers)
    assert "started again" in gateway.log.read_text()
    assert status_of(gateway.request("POST", CHAT, body_of())) == 200


def test_workers_are_exchanged_and_end_without_losing_a_stream(gateway, upstream):
    ended: list[bytes] = []

    def stream() -> None:
        ended.append(gateway.request("POST", CHAT, body_of(stream=True)))

    upstream.event_s = 0.3
    try:
        streams = [threading.Thread(target=stream) for _ in range(3)]
        for thread in streams:
            thread.start()
        time.sleep(0.5)
        gateway.signal(signal.SIGHUP)
        until(lambda: "new workers answer" in gateway.log.read_text())
        for thread in streams:
            thread.join()
    finally:
        upstream.event_s = 0.02
    assert [answer.count(b"[DONE]") for answer in ended] == [1, 1, 1]
    assert is_well(gateway)
