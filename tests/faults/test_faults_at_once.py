"""64 calls at once to an endpoint that fails in one way: deadlines, records, memory and errors hold."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from workbench import _sync
from workbench.context import Context
from workbench.controls.position import MODEL
from workbench.errors import (
    CircuitOpenError,
    DeadlineError,
    NoAnswerError,
    RateLimitedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.identity import Principal
from workbench.layout import CALLS
from workbench.models import ModelCard
from workbench.ports import Call
from workbench.records.log import read_records
from workbench.records.tape import Tape
from workbench.testing.fault_plan import FAULTS
from workbench.workspace.boundary import Boundary, StatePaths

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]
AT_ONCE, LATE_S = 64, 0.25
#: Seconds for a call that cannot be answered, and for one that can.
HOPELESS_S, ANSWERED_S = 0.8, 8.0
#: Megabytes above the resident memory before the calls: of most faults, and of answers of 100 MB, of which
#: four may be read at once.
MEMORY_MB, LARGE_MB = 64, 420
LARGE = {"endless", "large", "large-chunked"}
BUDGET = "budgets: {all: {calls: 100000, tokens: 1000000000, per: [tenant]}}\n"
#: The error of each fault and the words that name its cause; the other faults are answered.
CAUSES = {
    "429": (RateLimitedError | DeadlineError, "answered 429: too many requests"),
    "429-after": (DeadlineError, "answered 429: too many requests; the next may start in"),
    "429-date": (DeadlineError, "answered 429: too many requests; the next may start in"),
    "500": (UnavailableError, "answered 500"),
    "hang": (DeadlineError, "did not (finish|answer)"),
    "hang-body": (DeadlineError, "did not (finish|answer)"),
    "drip": (DeadlineError, "did not (finish|answer)"),
    "reset": (UnavailableError, "broke off"),
    "reset-body": (UnavailableError, "broke off"),
    "short-body": (UnavailableError, "broke off"),
    "truncated": (UnavailableError, "not with .* in JSON|cut its stream off"),
    "empty": (UnavailableError, "not with .* in JSON|cut its stream off"),
    "error-event": (UnavailableError, "the model ran out of memory"),
    "html": (NoAnswerError, "<!doctype html>"),
    "endless": (DeadlineError | NoAnswerError, "did not (finish|answer)|more than|deadline passed"),
    "large": (DeadlineError | NoAnswerError, "did not (finish|answer)|more than"),
    "large-chunked": (DeadlineError | NoAnswerError, "did not (finish|answer)|more than"),
}
#: The cause of a call whose time ends during a later attempt.
LATE = "before the call's deadline|deadline passed|did not answer within"
DIALECTS = {
    "chat": {"messages": [{"role": "user", "content": "How much is a taxi?"}]},
    "respond": {"input": "How much is a taxi?"},
}
ASKED = [name for name in DIALECTS if f"model.{name}" in MODEL]


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "workbench.testing.fault_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def memory_mb(name: str) -> float:
    """A line of this process's status in megabytes, such as VmRSS, or VmHWM for the peak."""
    with contextlib.suppress(OSError):
        return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return 0.0


async def outcome(handler, call) -> tuple[WorkbenchError | None, float]:
    """How one call ended, and by how many seconds it outlived its deadline."""
    error = None
    try:
        async with aclosing(handler(call)) as events:
            async for _ in events:
                pass
    except WorkbenchError as raised:  # any other error fails the test
        error = raised
    return error, time.monotonic() - call.deadline


def at_once(folder, url, fault, *, operation="chat", stream=False, deadline_s):
    """The outcomes of calls at once, their records, and the megabytes that they took at their peak.

    They take from a budget, which no call holds any longer when all have ended.
    """
    folder.mkdir()
    (folder / "params.yaml").write_text(BUDGET)
    card = ModelCard.unsaved(f"fault:{fault}").overridden(provider="openai", base_url=url)
    boundary = Boundary(
        ROOT, mode="live", tape=Tape(folder / "tape.jsonl"), cards=[card], places=StatePaths(home=folder)
    )
    context = Context(use_case="answers", tenant="acme", principal=Principal(name="ada"), purpose="test")

    def call() -> Call:
        payload = {"model": card.model, "stream": stream, **DIALECTS[operation]}
        deadline = time.monotonic() + deadline_s
        return Call(
            port="model", operation=operation, target=card.name, payload=payload, context=context,
            deadline=deadline,
        )  # fmt: skip

    async def main():
        try:
            ended = await asyncio.gather(*(outcome(boundary.handler, call()) for _ in range(AT_ONCE)))
            accounts = boundary.spending._declared.accounts(context)
            (balance,) = await boundary.spending.ledger.balances(accounts)
            assert fault in CAUSES or balance.spent.calls == AT_ONCE
            assert not any(balance.reserved), "a reservation leaked"
            return ended
        finally:
            await boundary.aclose()

    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = memory_mb("VmRSS")
    outcomes = _sync.run(main())
    return outcomes, read_records(folder / CALLS), memory_mb("VmHWM") - before


@pytest.mark.drawn("calls at once to one fault", 52)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("fault", FAULTS)
def test_calls_at_once_end_in_time_with_one_record_each(fault, operation, stream, url, tmp_path):
    late, deadline_s = [], HOPELESS_S if fault in CAUSES else ANSWERED_S
    for attempt in range(3):  # another process on the machine may take its cores for a while
        folder = tmp_path / str(attempt)
        outcomes, records, megabytes = at_once(
            folder, url, fault, operation=operation, stream=stream, deadline_s=deadline_s
        )
        assert len(records) == len({record["trace_id"] for record in records}) == AT_ONCE
        assert megabytes < (LARGE_MB if fault in LARGE else MEMORY_MB)
        check_causes([error for error, _ in outcomes], fault, operation, stream=stream)
        assert sorted(record["error"] or "" for record in records) == sorted(
            "" if error is None else type(error).__name__ for error, _ in outcomes
        )
        late.append(max(seconds for _, seconds in outcomes))
        if late[-1] <= LATE_S:
            return
    pytest.fail(f"calls outlived their deadline by {late} s")


def check_causes(errors, fault, operation, *, stream) -> None:
    ends_without_done = fault == "no-done" and stream and operation == "respond"
    kind, words = CAUSES.get(fault, (None, "cut its stream off" if ends_without_done else ""))
    if kind is None and not ends_without_done:
        assert errors == [None] * len(errors)
        return
    assert not [
        error for error in errors if not isinstance(error, (kind or UnavailableError) | CircuitOpenError)
    ]
    unnamed = [
        str(error)
        for error in errors
        if not isinstance(error, CircuitOpenError) and not re.search(f"{words}|{LATE}", error.message)
    ]
    assert unnamed == []


def test_calls_over_all_faults_at_once_settle(url, tmp_path):
    """Every fault among healthy answers: each call has its own outcome and one record."""
    names = [*FAULTS, "ok"]
    drawn = random.Random(7).choices(names, k=200)
    drawn = [name for name in drawn if name not in LARGE]
    cards = [ModelCard.unsaved(f"fault:{name}").overridden(provider="openai", base_url=url) for name in names]
    boundary = Boundary(
        ROOT, mode="live", tape=Tape(tmp_path / "tape.jsonl"), cards=cards, places=StatePaths(home=tmp_path)
    )
    context = Context(use_case="answers", tenant="acme", principal=Principal(name="ada"), purpose="test")

    async def main():
        deadline = time.monotonic() + 3
        calls = [
            Call(
                port="model", operation="chat", target=f"fault:{name}", context=context, deadline=deadline,
                payload={"model": f"fault:{name}", **DIALECTS["chat"], "stream": number % 2 == 0},
            )
            for number, name in enumerate(drawn)
        ]  # fmt: skip
        try:
            return await asyncio.gather(*(outcome(boundary.handler, call) for call in calls))
        finally:
            await boundary.aclose()

    outcomes = _sync.run(main())
    records = read_records(tmp_path / CALLS)
    assert len(records) == len(drawn)
    answered = [name for name, (error, _) in zip(drawn, outcomes, strict=True) if error is None]
    assert set(answered) == set(drawn) - set(CAUSES)
