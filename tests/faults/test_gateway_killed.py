"""A gateway and callers that are killed at any time: no call is paid twice or lost, each has one record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import psutil
import pytest
from aiohttp import web
from endpoint import begin_stream, endpoint
from gateways import read_all, request, running_gateway, status_of, until
from sizes import SEED, SOAK
from small_use_case import small_repository

import workbench as wb
from workbench.audit.reading import Filter, rows_of
from workbench.audit.signing import Signer
from workbench.audit.verification import verify
from workbench.layout import AUDIT, AUDIT_KEYS
from workbench.testing import wire_answers

SCHEDULES = 200 if SOAK else 8
STREAMS = 200 if SOAK else 40
CHAT = "/v1/chat/completions"
MORE = """
budgets:
  all: {usd: 1000, calls: 1000000, per: [purpose]}
gateway:
  limits: {streams: 500}
"""
#: Sends one request, and prints what it was answered.
CALLER = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
connection.sendall(bytes.fromhex(sys.argv[2]))
found = b""
try:
    while piece := connection.recv(65536):
        found += piece
except OSError:
    pass
sys.stdout.buffer.write(found)
"""


class Counting:
    """A provider that counts what it was asked, by text; an event of a stream takes `event_s`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.event_s = 0.002

    async def answer(self, asked: web.Request) -> web.StreamResponse:
        payload = await asked.json()
        self.asked[payload["messages"][-1]["content"]] += 1
        await asyncio.sleep(0.01)
        if not payload.get("stream"):
            return web.json_response(wire_answers.whole("completions", payload, "an answer"))
        response = await begin_stream(asked)
        for piece in wire_answers.streamed("completions", payload, "an answer of some words " * 4):
            await response.write(piece)
            await asyncio.sleep(self.event_s)
        return response


@pytest.fixture(scope="module")
def provider():
    return Counting()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, provider):
    with endpoint(provider.answer) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "unused")
        root = small_repository(tmp_path_factory.mktemp("killed") / "repo", endpoint=url)
        text = (
            (root / "params.yaml").read_text().replace("{input_usd: 0}", "{input_usd: 1.0, output_usd: 2.0}")
        )
        (root / "params.yaml").write_text(text + MORE)
        with running_gateway(root, "--workers", "1") as found:
            yield found


def asking(gateway, text: str, *, stream: bool, purpose: str) -> bytes:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": text}], "stream": stream}
    return request(
        "POST", CHAT, json.dumps(body).encode(), headers=f"workbench-purpose: {purpose}\r\n", key=gateway.key
    )


def killed_worker(gateway) -> None:
    for worker in psutil.Process(gateway.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def is_well(gateway) -> bool:
    with contextlib.suppress(OSError):
        return status_of(gateway.request("GET", "/health")) == 200
    return False


def is_whole(answer: bytes) -> bool:
    """Whether a client sees that this answer has ended as it should."""
    return status_of(answer) == 200 and (b"[DONE]" in answer or b'"an answer"' in answer)


def trace_of(answer: bytes) -> str:
    return answer.partition(b"workbench-trace-id: ")[2][:32].decode()


class Ledger:
    """What the books say of a purpose, which has an account of its own: leases of others end meanwhile."""

    def __init__(self, gateway, purpose: str) -> None:
        self.purpose = purpose
        self._ws = wb.connect("small", root=gateway.root).bind(purpose=purpose)

    def calls(self) -> tuple[float, float]:
        """The calls that are spent, and those that are reserved by a process that is perhaps gone."""
        lines = [line for line in self._ws.budget().lines if line.measure == "calls"]
        own = [line for line in lines if self.purpose in line.key]
        return sum(line.spent for line in own), sum(line.reserved for line in own)

    def check(self, *, reached: int, tried: int, answered: list[str], interrupted: int | None = None) -> None:
        """Assert that each call that reached the provider has one record, and was spent once."""
        rows = self._ws.calls(limit=None)
        assert rows["trace_id"].is_unique().all(), "a call has two records"
        own = rows.filter(purpose=self.purpose)
        assert set(answered) <= set(own.filter(outcome="ok")["trace_id"]), "an answer has no record"
        assert reached <= own.height <= tried, (reached, own["outcome"].to_list(), tried)
        cut = own.filter(outcome="interrupted")
        assert interrupted in {None, cut.height} and cut["cost_usd"].is_not_null().all(), cut
        spent, reserved = self.calls()
        assert reached <= spent <= spent + reserved <= tried, (reached, spent, reserved, tried)


@pytest.fixture(scope="module")
def answered() -> set[str]:
    """The traces of all whole answers."""
    return set()


def run_schedule(gateway, provider, answered: set[str], number: int) -> None:
    """Run four callers and kill the gateway, some callers or both at a moment that the seed chooses."""
    chance = random.Random(f"{SEED} {number}")
    until(lambda: is_well(gateway), seconds=60)
    books, texts = (
        Ledger(gateway, f"schedule-{number}"),
        [f"question {n} of schedule {number} {SEED}" for n in range(4)],
    )
    callers = [
        subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", CALLER, str(gateway.port),
             asking(gateway, text, stream=chance.random() < 0.6, purpose=books.purpose).hex()],
            stdout=subprocess.PIPE,
        )
        for text in texts
    ]  # fmt: skip
    victim = chance.choice(("gateway", "caller", "both"))
    time.sleep(chance.uniform(0.02, 0.25))
    if victim != "gateway":
        for caller in chance.sample(callers, 2):
            caller.kill()
    if victim != "caller":
        killed_worker(gateway)
    answers = [caller.communicate(timeout=60)[0] for caller in callers]
    assert all(caller.returncode in {0, 1, -signal.SIGKILL} for caller in callers)
    until(lambda: is_well(gateway), seconds=60)
    if victim == "caller":
        until(lambda: b"workbench_gateway_active_requests 1.0" in gateway.request("GET", "/metrics"))
    whole = [trace_of(answer) for answer in answers if is_whole(answer)]
    answered.update(whole)
    assert all(provider.asked[text] <= 1 for text in texts), "a call was made twice"
    books.check(reached=sum(provider.asked[text] for text in texts), tried=len(texts), answered=whole)


def check_audit(gateway, answered: set[str]) -> None:
    """Assert that the audit log is whole, and has one row for each record."""
    folder, keys, public = gateway.root / AUDIT, gateway.root / AUDIT_KEYS, gateway.root / "public.pem"
    public.write_bytes(Signer.load(keys).public_pem())
    # The newest rows are signed by the next checkpoint, which a kill may have prevented.
    assert all(problem.place == "the signatures" for problem in verify(folder, [public]).problems)
    rows = [row["metadata"]["uid"] for row in rows_of(folder, Filter(), keys) if row["activity"] == "call"]
    records = wb.connect("small", root=gateway.root).calls(limit=None)["trace_id"].to_list()
    assert len(rows) == len(set(rows)) and set(rows) == set(records) and answered <= set(records)


def test_whoever_is_killed_no_call_is_paid_twice_and_each_has_one_record(gateway, provider, answered):
    for number in range(SCHEDULES):
        try:
            run_schedule(gateway, provider, answered, number)
        except AssertionError as error:
            raise AssertionError(f"WORKBENCH_SEED={SEED}, schedule {number}: {error}") from error
    check_audit(gateway, answered)


def test_a_gateway_that_is_killed_under_many_streams_ends_each_with_an_error(gateway, provider, answered):
    until(lambda: is_well(gateway), seconds=60)
    books, provider.event_s = Ledger(gateway, "streams"), 0.5
    texts = [f"stream {n} {SEED}" for n in range(STREAMS)]
    answers: list[bytes] = []

    def ask(text: str) -> None:
        with gateway.connected() as connection:
            connection.settimeout(60)
            connection.sendall(asking(gateway, text, stream=True, purpose=books.purpose))
            answers.append(read_all(connection))

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    try:
        until(lambda: sum(provider.asked[text] for text in texts) == STREAMS, seconds=60)
        time.sleep(0.6)
        killed_worker(gateway)
        for thread in threads:
            thread.join(60)
    finally:
        provider.event_s = 0.002
    # A chunked body without its end: no client takes it for a whole answer.
    assert len(answers) == STREAMS and not any(answer.endswith(b"0\r\n\r\n") for answer in answers)
    until(lambda: is_well(gateway), seconds=60)
    assert [provider.asked[text] for text in texts] == [1] * STREAMS
    books.check(reached=STREAMS, tried=STREAMS, answered=[], interrupted=STREAMS)
    whole = gateway.sent(asking(gateway, f"after {SEED}", stream=True, purpose="after"))
    assert is_whole(whole)
    check_audit(gateway, answered)
