"""A row of the ledger that cannot be read stops its own job, is told once, and can be set aside."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from job_servers import House, definition

from workbench.errors import CorruptError
from workbench.jobs import run as jobs
from workbench.jobs.ledger import DamagedRowError, PostedNotice, Slot
from workbench.jobs.overview import damage_notes
from workbench.jobs.retention import purge_runs
from workbench.layout import JOB_LEDGER, JOB_SET_ASIDE
from workbench.scheduler.health import _jobs, _readiness
from workbench.scheduler.repair import repair

ROOT = Path(__file__).parents[3]
#: What is written into a row, and what the error says of it.
VALUES = {
    "at": ("at = '2026-13-01'", "month must be in 1..12"),
    "an offset": ("lease_until = '2026-11-24T06:00:00'", "has no offset"),
    "a name": ("tenant = '../x'", "cannot name folders"),
    "facts": ("facts = '[1]'", "is no JSON object"),
    "facts in part": ("facts = '{\"a\": '", "unexpected end of data"),
    "a role": ("role = 'king'", "role is 'king'"),
    "a cost": ("cost_usd = -1.0", "cost_usd is -1.0"),
    "bytes": ("queued_at = CAST(x'ff32' AS TEXT)", "Invalid isoformat string: '\\\\xff2'"),
}


def change(root, statement):
    with sqlite3.connect(root / JOB_LEDGER) as db:
        assert db.execute(statement).rowcount == 1
    db.close()


def damage(root, value="at = 'never'", job="bad"):
    """Change the line of a job's run that has not ended, and return the row as messages name it."""
    with sqlite3.connect(root / JOB_LEDGER) as db:
        where = f"job = '{job}' AND state NOT IN ('finished', 'lost')"
        [(number,)] = db.execute(f"SELECT number FROM runs WHERE {where}").fetchall()
        db.execute(f"UPDATE runs SET {value} WHERE number = {number}")
    db.close()
    return f"row {number} of runs"


def house_of_two(root):
    house = House(root, definition("bad"), definition(), runs=4)
    house.tick()
    house.tick(60)
    assert sorted(house.starter.slots) == ["answers/all/20261124T060000Z", "bad/all/20261124T060000Z"]
    return house


def ended(house, run):
    return house.starter.processes[run.run].code is not None


def end(house, job):
    """End the runs of a job, whose lines can be read."""
    for run in house.starter.runs:
        if run.slot.job == job and not ended(house, run):
            house.starter.end(run)


@pytest.mark.parametrize("value", VALUES)
def test_a_damaged_row_of_a_living_run_stops_its_own_job_and_is_set_aside(tmp_path, value):
    house = house_of_two(tmp_path)
    changed, why = VALUES[value]
    row = damage(tmp_path, changed)
    for seconds in (1, 301, 86_400 - 302, 1):
        house.tick(seconds)
        end(house, "answers")
        assert house.server.fault == ""
    assert [slot for slot in house.starter.slots if slot.startswith("bad")] == ["bad/all/20261124T060000Z"]
    assert [run.outcome for run in house.ledger.history("answers", limit=2)] == ["published"] * 2
    said = house.server.faults.open[f"reading {row}"]
    assert why in said and "workbench jobs repair" in said and "job bad" in said
    assert {job for job, _ in house.told.faults} == {"bad"} and len(house.told.faults) <= 3
    assert _readiness(house.server)[0] == 503 and f"reading {row}" in _jobs(house.server)["faults"]

    assert [found[0] for found in repair(tmp_path, house.ledger, dry_run=True).rows] == [row]
    assert not (tmp_path / JOB_SET_ASIDE).exists()


def test_one_command_lets_the_job_run_again_and_keeps_the_row(tmp_path):
    house = house_of_two(tmp_path)
    row = damage(tmp_path)
    end(house, "answers")
    house.tick(1)
    house.tick(86_399)
    assert len(house.starter.runs) == 3 and damage_notes(house.ledger, "bad")
    assert damage_notes(house.ledger, "answers") == []
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    table = repair(tmp_path, house.ledger)
    assert [row[:2] for row in table.rows] == [(row, "bad")]
    kept = json.loads((tmp_path / JOB_SET_ASIDE).read_text())
    assert (kept["table"], kept["values"]["at"]) == ("runs", "never")
    assert repair(tmp_path, house.ledger).rows == () and damage_notes(house.ledger) == []
    house.tick(1)
    house.tick(1)
    assert house.starter.slots[-1] == "bad/all/20261125T060000Z"
    assert house.server.faults.open == {} and not house.server.damaged


def test_a_damaged_row_that_waits_is_passed_over_and_one_that_ended_stops_nothing(tmp_path):
    house = House(tmp_path, definition("bad"), definition(), runs=1)
    house.tick()
    house.tick(60)
    first = house.starter.runs[0].slot.job
    other = {"bad": "answers", "answers": "bad"}[first]
    damage(tmp_path, "facts = '7'", job=other)
    end(house, first)
    assert house.ledger.take("s", runs=9, per_tenant=0) is None, "found by no read before"
    house.tick(1)
    assert [row.stops for row in house.server.damaged.values()] == [True]
    damage(tmp_path, "facts = '{}'", job=other)  # it is mended
    house.tick(1)
    house.tick(1)
    assert [run.slot.job for run in house.starter.runs] == [first, other]

    change(tmp_path, f"UPDATE runs SET facts = '7' WHERE job = '{first}' AND outcome = 'published'")
    end(house, other)
    house.tick(1)
    assert [row.stops for row in house.server.damaged.values()] == [False]
    house.tick(86_400)
    for _ in range(3):
        house.tick(1)
        end(house, "bad")
        end(house, "answers")
    assert sorted(run.slot.job for run in house.starter.runs[2:]) == ["answers", "bad"]


def test_what_holds_a_job_back_still_holds_it_without_a_readable_time(tmp_path):
    house = House(tmp_path, definition("bad"), definition(), runs=4)
    house.ledger.pause("bad", by="ada", reason="wrong")
    house.ledger.withdraw("bad", 1, by="ada", reason="wrong")
    house.ledger.post(PostedNotice(key="k", job="bad", event="failed", payload={}, channels=("ops",)))
    house.ledger.post(PostedNotice(key="l", job="answers", event="failed", payload={}, channels=("ops",)))
    change(tmp_path, "UPDATE pauses SET at = 'x'")
    change(tmp_path, "UPDATE withdrawals SET at = 'x'")
    change(tmp_path, "UPDATE notices SET payload = '[' WHERE key = 'k'")
    house.tick()
    house.tick(60)
    assert house.starter.slots == ["answers/all/20261124T060000Z"] and house.server.fault == ""
    assert [item.version for item in house.ledger.withdrawals("bad")] == [1]
    assert [item.notice.key for item in house.ledger.undelivered()] == ["l"]
    tables = {row.table for row in house.ledger.damaged()}
    assert tables == {"pauses", "withdrawals", "notices"}
    assert {row.table for row in house.ledger.all_damaged()} == tables
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert len(repair(tmp_path, house.ledger).rows) == 3 and house.ledger.damaged() == []
    assert house.ledger.pauses()[0].at == house.clock.now(), "a repair ends no pause and no withdrawal"
    assert [item.at for item in house.ledger.withdrawals("bad")] == [house.clock.now()]
    assert [item.key for item in house.ledger.notices()] == ["l"]


def test_a_row_that_no_statement_can_name_is_said_to_be_left(tmp_path):
    house = house_of_two(tmp_path)
    changed = (
        "UPDATE fired SET at = CAST(x'ff32' AS TEXT) WHERE job = 'bad' AND at = (SELECT max(at) FROM fired)"
    )
    change(tmp_path, changed)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    with pytest.raises(CorruptError, match="of fired is still in the job ledger"):
        repair(tmp_path, house.ledger)


def test_a_fired_slot_that_cannot_be_read_stops_its_own_job(tmp_path):
    before = house_of_two(tmp_path)
    end(before, "answers")
    change(tmp_path, "UPDATE fired SET at = 'x' WHERE job = 'bad' AND at = (SELECT max(at) FROM fired)")
    house = before.again()
    house.tick(86_400)
    house.tick(1)
    assert house.server.fault == "" and house.starter.slots == ["answers/all/20261125T060000Z"]
    assert "of fired cannot be read" in house.server.faults.open["firing bad"]


def test_commands_and_purges_of_other_jobs_go_on(tmp_path):
    house = house_of_two(tmp_path)
    run = next(run for run in house.starter.runs if run.slot.job == "bad")
    row = damage(tmp_path, "lease_until = 'x'")
    work = tmp_path / ".workbench/cache/jobs" / run.run
    work.mkdir(parents=True)
    book = jobs.ledger(tmp_path, house.clock)
    assert work.is_dir(), "the run may be alive"
    assert [run.slot.job for run in book.unfinished()] == ["answers"]
    with pytest.raises(DamagedRowError, match=rf"{row} cannot be read \(job bad, run "):
        book.run(run.run)
    with pytest.raises(DamagedRowError):
        book.claim(Slot(job="bad", tenant="", at=run.slot.at), run="r", version=1, input_digest="i")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/operations.yaml").write_text("retention: {quarantine_days: 1, history_days: 1}\n")
    kept = tmp_path / ".workbench/state/jobs/bad/all/20261124T060000Z/held-x.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x")
    house.clock.advance(40 * 86_400 * 365)
    purge_runs(tmp_path, clock=house.clock)
    assert kept.is_file()
