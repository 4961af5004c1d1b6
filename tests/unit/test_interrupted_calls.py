"""A call that was in flight when its process was killed: one record, one audit row, and counted as spent."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import workbench as wb
from workbench import _sync
from workbench.audit import Filter, rows_of
from workbench.errors import UnavailableError
from workbench.layout import AUDIT, AUDIT_KEYS, CALLS, IN_FLIGHT
from workbench.models import ModelCard
from workbench.models.card import Price
from workbench.records import in_flight
from workbench.records.calls import read_calls, stored_records
from workbench.records.in_flight import SLOT_BYTES, CallsInFlight, recover
from workbench.records.log import read_records
from workbench.records.segments import CallLog, compact
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace import interrupted
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.interrupted import recover_interrupted
from workbench.workspace.spending import Spending

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = "budgets:\n  all: {usd: 10, calls: 100}\n"


def asked(home: Path, model, *, budgets: str = BUDGETS):
    """The workspace of a model, its state in `home`."""
    (home / "params.yaml").write_text(budgets)
    card = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=Price(input_usd=1.0, output_usd=2.0))
    boundary = Boundary(ROOT, mode="live", tape=Tape(home / "t"), cards=[card], places=StatePaths(home=home))
    boundary._models["m"] = model
    return wb.connect("answers", root=ROOT, through=boundary)


@pytest.fixture
def home(tmp_path):
    found = tmp_path / "home"
    found.mkdir()
    return found


@pytest.fixture
def killed(home, tmp_path):
    """The disk as a kill leaves it while a model is asked, and the workspace whose call went on."""
    left = tmp_path / "left"

    def answer(_payload) -> str:
        shutil.copytree(home, left)
        return "an answer"

    ws = asked(home, FakeModel(answer))
    ws = dataclasses.replace(ws, context=dataclasses.replace(ws.context, subject="cust-4711"))
    reply = ws.model("m").chat("CANARY", max_tokens=5, labels={"step": "first"})
    return left, ws, reply


def rows(home: Path) -> list[dict]:
    return [row for row in rows_of(home / AUDIT, Filter(), home / AUDIT_KEYS) if row["activity"] == "call"]


def spent(home: Path) -> tuple[float, float]:
    """The calls that a ledger has spent, and those that are reserved."""
    spending = Spending(home)
    try:
        lines = _sync.run(spending.all(phase="mvp")).lines
    finally:
        spending.ledger.close()
    (line,) = [line for line in lines if line.measure == "calls"]
    return line.spent, line.reserved


def test_a_kill_while_a_model_is_asked_leaves_a_record_an_audit_row_and_what_it_may_have_cost(killed):
    left, ws, reply = killed
    assert spent(left) == (0, 1) and not (left / CALLS).read_bytes()
    assert recover_interrupted(left) == 1
    (record,), (whole,) = read_records(left / CALLS), read_records(ws.boundary.home / CALLS)
    assert set(record) == set(whole) and record["outcome"] == "interrupted"
    same = ("trace_id", "at", "tenant", "principal", "operation", "model", "labels", "decision", "purpose")
    assert {name: record[name] for name in same} == {name: whole[name] for name in same}
    (attempt,) = record["attempts"]
    assert record["cost_usd"] == attempt["cost_usd"] == attempt["reserved_usd"] > whole["cost_usd"]
    assert attempt["outcome"] == "interrupted" and record["input_tokens"] is None
    assert spent(left) == (1, 0)
    (row,), (of_whole,) = rows(left), rows(ws.boundary.home)
    assert (row["status"], row["status_code"]) == ("Failure", "interrupted")
    assert row["metadata"]["uid"] == reply.trace_id and row["subject_uid"] == of_whole["subject_uid"]
    frame = read_calls(left / CALLS)
    assert frame["outcome"].to_list() == ["interrupted"] and frame["duration_s"].to_list() == [None]


def test_what_was_recovered_is_not_recovered_again(killed):
    left, *_ = killed
    files = {path.name: path.read_bytes() for path in (left / IN_FLIGHT).iterdir()}
    assert [recover_interrupted(left) for _ in range(2)] == [1, 0]
    assert not list((left / IN_FLIGHT).iterdir())
    for name, data in files.items():  # the process that recovered was killed before it removed the file
        (left / IN_FLIGHT / name).write_bytes(data)
    assert recover_interrupted(left) == 1
    assert len(read_records(left / CALLS)) == len(rows(left)) == 1 and spent(left) == (1, 0)


@pytest.mark.parametrize("compacted", [False, True], ids=["lines", "compacted"])
def test_a_kill_after_the_record_adds_what_is_missing_and_keeps_the_record(killed, compacted):
    left, ws, reply = killed
    home = ws.boundary.home
    for path in (left / IN_FLIGHT).iterdir():
        shutil.copy(path, home / IN_FLIGHT / path.name.replace("-", "-killed-"))
    shutil.rmtree(home / AUDIT)
    if compacted:
        assert CallLog(home / CALLS).close(now=True) and compact(home / CALLS) == 1
    assert recover_interrupted(home) == 1
    calls = read_calls(home / CALLS)
    assert calls["trace_id"].to_list() == [reply.trace_id] and calls["outcome"].to_list() == ["ok"]
    assert [row["status_code"] for row in rows(home)] == ["ok"]
    assert spent(home) == (1, 0)


def test_a_call_that_ended_and_the_calls_of_a_process_that_lives_are_not_recovered(killed):
    _, ws, _ = killed
    slots = in_flight.calls_in_flight(ws.boundary.home)
    slot = slots.slot()
    slot.write(b'{"record":{"trace_id":"t","at":"2026-01-01","tenant":"a","operation":"chat"}}')
    assert recover_interrupted(ws.boundary.home) == 0 and ws.calls()["outcome"].to_list() == ["ok"]
    slot.clear()


def test_reading_records_recovers_them_and_without_a_budget_the_cost_is_unknown(home, tmp_path):
    left = tmp_path / "left"
    asked(home, FakeModel(lambda _: shutil.copytree(home, left) and "x"), budgets="").model("m").chat("hello")
    ws = asked(left, FakeModel(), budgets="")  # a new process connects
    assert not list((left / IN_FLIGHT).iterdir())
    calls = ws.calls()
    assert (calls["outcome"].to_list(), calls["cost_usd"].to_list()) == (["interrupted"], [None])
    assert ws.costs(["outcome"])["unknown"].to_list() == [1]


def test_what_a_ledger_that_is_away_does_not_take_is_kept(killed, monkeypatch):
    left, *_ = killed

    def away(*_):
        raise UnavailableError("the ledger is away")

    monkeypatch.setattr(interrupted, "_again_at", {})
    with monkeypatch.context() as patch:
        patch.setattr(interrupted, "open_store", away)
        assert [recover_interrupted(left) for _ in range(2)] == [0, 0]
    assert len(read_records(left / CALLS)) == 1 and list((left / IN_FLIGHT).iterdir())
    interrupted._again_at.clear()
    assert recover_interrupted(left) == 1 and spent(left) == (1, 0)
    assert len(read_records(left / CALLS)) == len(rows(left)) == 1


def test_a_read_of_a_memory_and_a_computation_of_this_process_hold_no_slot(home):
    ws = asked(home, FakeModel(), budgets="")
    ws.memory("handbook").count()
    assert len(read_records(home / CALLS)) == 1 and not (home / IN_FLIGHT).exists()


def test_a_record_that_is_too_long_for_its_slot_leaves_out_its_labels(home, tmp_path):
    left = tmp_path / "left"
    ws = asked(home, FakeModel(lambda _: shutil.copytree(home, left) and "x"))
    ws.model("m").chat("hello", labels={f"label {n}": "x" * 100 for n in range(100)})
    assert recover_interrupted(left) == 1
    (record,) = read_records(left / CALLS)
    assert record["outcome"] == "interrupted" and record["labels"] == {} and spent(left) == (1, 0)


# -- the file of slots ----------------------------------------------------------------------------


def found(folder: Path) -> list[dict]:
    calls: list[dict] = []
    recover(folder, lambda some: bool(calls.extend(some)) or True)
    return calls


def test_slots_are_used_again_and_the_file_goes_with_the_last_user(tmp_path):
    slots = CallsInFlight(tmp_path)
    for _ in range(3):
        first, second = slots.slot(), slots.slot()
        first.write(b'{"n":1}')
        second.write(b'{"n":2}')
        first.clear()
        second.clear()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size <= 2 * SLOT_BYTES and path.stat().st_mode & 0o077 == 0
    assert found(tmp_path) == []
    del slots, first, second
    assert not list(tmp_path.iterdir())


def test_a_torn_call_a_longer_one_before_it_and_another_file_are_no_calls(tmp_path):
    whole = b'{"n":1}\n"left":"of a longer one"}\n'
    torn, cleared = b'{"n":2,"m"', b'\0"n":3}\n'
    data = b"".join(part.ljust(SLOT_BYTES, b"\0") for part in (torn, cleared, whole, b"[]\n"))
    (tmp_path / "1-dead.calls").write_bytes(data + b'{"n":4}\n')
    (tmp_path / "notes.txt").write_text("{}")
    assert found(tmp_path) == [{"n": 1}, {"n": 4}] and [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert found(tmp_path / "none") == []


def test_a_file_whose_calls_were_not_kept_stays(tmp_path):
    (tmp_path / "1-dead.calls").write_bytes(b'{"n":1}\n')
    assert recover(tmp_path, lambda _: False) == 0 and found(tmp_path) == [{"n": 1}]


def test_a_fork_neither_holds_the_lock_nor_writes_into_the_file_of_its_parent(tmp_path):
    program = """
import os, signal, sys, time
from pathlib import Path
from workbench.records.in_flight import CallsInFlight
slots = CallsInFlight(Path(sys.argv[1]))
slots.slot().write(b'{"of":"parent"}')
if os.fork() == 0:
    slots.slot().write(b'{"of":"child"}')
    print(flush=True)
    time.sleep(60)
os.wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        process.stdout.readline()
        assert found(tmp_path) == []
        process.kill()
        process.wait()
        assert found(tmp_path) == [{"of": "parent"}]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_records_are_found_by_many_ids_at_once(tmp_path):
    path = tmp_path / "calls.jsonl"
    for n in range(3):
        fields = {"at": f"2026-11-2{n}T10:00:00.000000+00:00", "trace_id": f"{n:032x}"}
        CallLog(path).append(orjson.dumps({**fields, "labels": {"trace_id": f"{9:032x}"}}))
    wanted = {f"{n:032x}": f"2026-11-2{n}" for n in (0, 2, 9)}
    assert sorted(stored_records(path, wanted)) == [f"{0:032x}", f"{2:032x}"]
    assert stored_records(path, {}) == {}


def test_what_parameters_that_are_not_valid_keep_back_is_recovered_when_they_are(killed):
    left, *_ = killed
    (left / "params.yaml").write_text("budgets: [")
    interrupted._again_at.clear()
    assert recover_interrupted(left) == 0 and len(read_records(left / CALLS)) == 1
    interrupted._again_at.clear()
    (left / "params.yaml").write_text(BUDGETS)
    assert recover_interrupted(left) == 1 and spent(left) == (1, 0)
