"""A private gateway that is killed again and again: each answer has one record, and no call is paid twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
import sizes
from endpoint import endpoint
from private_gateways import KEY, PARAMS, SECRET, Provider

import workbench as wb
from workbench.errors import UnavailableError
from workbench.workspace import chosen_boundary, provider_keys
from workbench.workspace.gateway_place import GatewayPlace
from workbench.workspace.gateway_process import running, stop

KILLS = 200 if sizes.SOAK else 2
CALLERS = 4


@pytest.fixture
def repository(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("s")))
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.delenv(chosen_boundary.OFF_VARIABLE, raising=False)
    monkeypatch.setattr(provider_keys, "_taken", {})
    with endpoint(Provider().answer) as url:
        (tmp_path / "params.yaml").write_text(PARAMS.replace("URL", url))
        yield tmp_path
        stop(GatewayPlace.of(tmp_path), grace_s=5)


class Callers:
    """Threads that call until they are told to end, and note what became of each call."""

    def __init__(self, root) -> None:
        self._ending = threading.Event()
        self.answered: list[str] = []
        self.failed: list[Exception] = []
        self._threads = [threading.Thread(target=self._call, args=(root, n)) for n in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join(120)

    def _call(self, root, caller):
        ws, n = wb.connect("answers", root=root), 0
        while not self._ending.is_set():
            n += 1
            try:
                self.answered.append(ws.model().chat(f"question {n} of {caller}").trace_id)
            except UnavailableError as error:
                self.failed.append(error)


def test_each_answer_has_one_record_and_is_paid_once_however_often_the_gateway_is_killed(repository):
    choice, place = random.Random(sizes.SEED), GatewayPlace.of(repository)
    with Callers(repository) as callers:
        for _ in range(KILLS):
            seen = len(callers.answered)
            until(lambda seen=seen: len(callers.answered) > seen + 2)
            time.sleep(choice.uniform(0, 0.05))
            for found in running(place):
                os.kill(found.pid, signal.SIGKILL)
        seen = len(callers.answered)
        until(lambda: len(callers.answered) > seen + 2)
    ws = wb.connect("answers", root=repository)
    recorded = [row["trace_id"] for row in ws.calls().to_dicts() if row["outcome"] == "ok"]
    assert len(set(recorded)) == len(recorded)
    assert set(callers.answered) <= set(recorded)
    assert all("gateway" in str(error) for error in callers.failed)
    assert len(callers.failed) <= KILLS * CALLERS * 2
    [calls] = [line for line in ws.budget().lines if line.measure == "calls"]
    # A call that was killed under way is spent, reserved until its lease ends, or was not made.
    assert len(recorded) <= calls.spent + calls.reserved <= len(recorded) + len(callers.failed)
    if sizes.SOAK:
        assert len(callers.failed) > KILLS / 10, "the kills met calls"


def until(found, *, seconds=90):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.005)
