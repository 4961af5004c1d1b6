"""The embedded model: the contract, identical answers, and a life that ends with its parent's."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from workbench import _sync, processes, wire
from workbench.errors import ConfigError, UnavailableError
from workbench.layout import CACHE
from workbench.models import load_card, local, weights
from workbench.models.local import LocalModel, cores
from workbench.testing.model_contract import ModelContract

ROOT = Path(__file__).resolve().parents[2]
CARD = load_card(ROOT, "smollm2-135m")
PASSAGE = (ROOT / "data/handbook/acme/annual-holiday.md").read_text(encoding="utf-8")[:200]

#: Starts the model, says which process serves it, and waits to be killed.
PARENT = """
import json, sys, time
from pathlib import Path
from workbench import _sync, wire
from workbench.models import load_card, open_model
root = Path(sys.argv[1])
card = load_card(root, "smollm2-135m")
model = open_model(card, root)
asked = {"messages": [{"role": "user", "content": "Hello"}], **card.wire_defaults(), "max_tokens": 1}
async def ask():
    return [event async for event in model.chat(asked)]
_sync.run(ask())
(server,) = model._pool.servers
print(json.dumps(server.process.pid), flush=True)
{then}
"""


@pytest.fixture
def model():
    model = LocalModel(CARD, ROOT, n_servers=1)
    yield model
    _sync.run(model.aclose())


class TestLocalModel(ModelContract):
    embeds = responds = moderates = False
    model = CARD.model
    parameters = {**CARD.wire_defaults(), "max_tokens": 6}

    def make(self):
        return LocalModel(CARD, ROOT)


def request(question: str, *, passage: str = "", **parameters):
    turns = [
        {"role": "system", "content": "Answer from the passage."},
        {"role": "user", "content": f"{passage}\n\nQuestion: {question}"},
    ]
    return {"model": CARD.model, "messages": turns, **CARD.wire_defaults(), **parameters}


async def answer(model, payload) -> str:
    async with aclosing(model.chat(payload)) as events:
        return wire.text_of(wire.fold([event async for event in events]))


def servers(parent: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if any(part.endswith("_server.py") for part in child.cmdline())]


def gone(pid: int, *, within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
@pytest.mark.drawn("answers of the model that are the same again", 1)
def test_answers_are_byte_identical_under_four_concurrent_shuffled_callers():
    questions = [f"What does the handbook say about point {n} of holiday?" for n in range(4)]

    async def alone():
        model = LocalModel(CARD, ROOT, n_servers=1)
        answers = {
            question: await answer(model, request(question, passage=PASSAGE, max_tokens=8))
            for question in questions
        }
        await model.aclose()
        return answers

    async def together():
        model, waiting, answers = LocalModel(CARD, ROOT), asyncio.Semaphore(4), {}

        async def one(question):
            async with waiting:
                answers[question] = await answer(model, request(question, passage=PASSAGE, max_tokens=8))

        shuffled = random.Random(4).sample(questions, len(questions))
        await asyncio.gather(*map(one, shuffled))
        assert len(servers()) == min(4, cores())
        await model.aclose()
        return answers

    expected = _sync.run(alone())
    assert _sync.run(together()) == expected
    assert len(set(expected.values())) > 1  # a model that always says the same would prove nothing


def test_a_server_is_started_once_and_reused_and_no_interrupt_at_the_terminal_reaches_it(model):
    _sync.run(answer(model, request("How many days?", max_tokens=1)))
    (first,) = servers()
    assert os.getpgid(first.pid) != os.getpgid(0)
    for _ in range(3):
        first.send_signal(signal.SIGINT)
        _sync.run(answer(model, request("How many days?", max_tokens=1)))
    assert servers() == [first]
    _sync.run(model.aclose())
    assert not servers()


def test_waiting_for_a_free_server_does_not_use_up_the_timeout(model):
    async def many():
        asked = [request("How many days of holiday?", max_tokens=12) for _ in range(6)]
        began = time.monotonic()
        await answer(model, asked[0])
        one = time.monotonic() - began

        async def timed(payload):
            async with aclosing(model.chat(payload, timeout_s=4 * one + 1)) as events:
                return wire.fold([event async for event in events])

        return await asyncio.gather(*(timed(payload) for payload in asked))

    assert len(_sync.run(many())) == 6


@pytest.mark.parametrize(
    ("then", "how"),
    [
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGTERM),
        ("pass", None),
        (
            "import os; print(os.fork(), flush=True); time.sleep(60)",
            signal.SIGKILL,
        ),  # the fork holds the pipe open too
    ],
    ids=["kill -9", "terminated", "ends by itself", "kill -9 with a fork"],
)
def test_the_server_ends_with_its_parent(then, how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("{then}", then), str(ROOT)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        server = json.loads(parent.stdout.readline())
        if "fork" in then:
            parent.stdout.readline()
        if how is not None:
            assert psutil.pid_exists(server)
            parent.send_signal(how)
        assert parent.wait(timeout=20) == (-how if how else 0)
        assert gone(server)
    finally:
        with_fork = "fork" in then
        if parent.poll() is None or with_fork:
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_a_server_that_was_killed_is_replaced_after_an_error_while_it_answered_else_unnoticed(model):
    async def killed():
        asked = request("Tell me everything.", max_tokens=240, stream=True)
        async with aclosing(model.chat(asked)) as events:
            await anext(events)
            servers()[0].kill()
            async for _ in events:
                pass

    with pytest.raises(UnavailableError, match=r"server ended while it answered \(signal 9\)") as caught:
        _sync.run(killed())
    assert caught.value.retryable
    assert "memory" in caught.value.hint
    assert _sync.run(answer(model, request("How many days?", max_tokens=1)))

    (idle,) = servers()
    idle.kill()
    (server,) = model._pool.servers
    server.process.wait(timeout=5)  # a zombie whose threads still end is not over yet
    assert _sync.run(answer(model, request("How many days?", max_tokens=1)))
    assert idle not in servers()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path, monkeypatch):
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"not a model")
    monkeypatch.setattr(weights, "find", lambda *_, **__: wrong)
    model = LocalModel(CARD, tmp_path)
    with pytest.raises(UnavailableError, match=r"(?s)server ended when it started \(exit code 1\).*gguf"):
        _sync.run(answer(model, request("?")))
    assert not servers()


@pytest.mark.timeout(60)
def test_a_server_that_hangs_at_its_start_is_ended_and_freezes_nobody(tmp_path, monkeypatch):
    silent = tmp_path / "silent.py"
    silent.write_text("import time\nwhile True:\n    time.sleep(60)\n")
    monkeypatch.setattr(local, "_SCRIPT", silent)
    monkeypatch.setattr(local, "_START_S", 0.5)
    longest = 0.0

    async def watched():
        nonlocal longest
        asking = asyncio.create_task(answer(LocalModel(CARD, tmp_path), request("?")))
        while not asking.done():
            before = time.monotonic()
            await asyncio.sleep(0.05)
            longest = max(longest, time.monotonic() - before)
        await asking

    with pytest.raises(UnavailableError, match=r"server was not ready after 0\.5 s") as caught:
        _sync.run(asyncio.wait_for(watched(), 20))
    assert longest < 1.5 and caught.value.hint
    assert not [one for one in psutil.Process().children() if str(silent) in one.cmdline()]


def test_a_model_that_is_closed_while_its_server_starts_is_unavailable_and_starts_again(tmp_path):
    async def closed_while_starting(model):
        asking = asyncio.create_task(answer(model, request("?", max_tokens=1)))
        while not servers():
            await asyncio.sleep(0.01)
        await model.aclose()
        assert not servers()
        with pytest.raises(UnavailableError, match="ended when it started"):
            await asking
        assert not list((tmp_path / CACHE / "logs").iterdir())
        text = await answer(model, request("How many days?", max_tokens=1))
        await model.aclose()
        return text

    assert _sync.run(asyncio.wait_for(closed_while_starting(LocalModel(CARD, tmp_path)), 30))


def test_callers_of_a_model_that_is_closed_are_told_so_and_leave_no_server(tmp_path):
    async def closed_under_two_callers(model):
        first, second = (
            asyncio.create_task(answer(model, request("How many days?", max_tokens=n))) for n in (400, 1)
        )
        while not model._pool or not model._pool.servers or not next(iter(model._pool.servers)).started:
            await asyncio.sleep(0.01)
        await model.aclose()
        with pytest.raises(UnavailableError, match="ended while it answered"):
            await first
        with pytest.raises(UnavailableError, match="was closed before the call"):
            await second

    _sync.run(asyncio.wait_for(closed_under_two_callers(LocalModel(CARD, tmp_path, n_servers=1)), 60))
    assert not servers()


def test_a_server_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    deaf = tmp_path / "deaf_server.py"
    deaf.write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('http://127.0.0.1:9', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(local, "_SCRIPT", deaf)
    monkeypatch.setattr(processes, "stop", functools.partial(processes.stop, grace_s=0.2))

    async def asked(model):
        with pytest.raises(UnavailableError, match="cannot connect"):
            await answer(model, request("?"))
        (server,) = servers()
        await model.aclose()
        return server.pid

    assert gone(_sync.run(asked(LocalModel(CARD, tmp_path))))


def test_a_taken_port_is_named(tmp_path, free_port):
    import socket

    card = dataclasses.replace(CARD, server=dataclasses.replace(CARD.server, port=free_port))
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        with pytest.raises(ConfigError, match=f"port {free_port}.*is taken") as caught:
            _sync.run(answer(LocalModel(card, tmp_path), request("?")))
    assert "server.port: 0" in caught.value.hint


def test_a_chosen_port_is_used(tmp_path, free_port):
    card = dataclasses.replace(CARD, server=dataclasses.replace(CARD.server, port=free_port))

    async def where():
        model = LocalModel(card, tmp_path)
        await answer(model, request("?", max_tokens=1))
        (server,) = model._pool.servers
        await model.aclose()
        return server.model.base_url

    assert _sync.run(where()) == f"http://127.0.0.1:{free_port}/v1"
