"""What is committed or sent to hurt the operation of jobs: exported files, keys and exports of evidence."""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import dataclasses
import datetime as dt
import io
import json
import logging
import os
import signal
import sqlite3
import threading
import time
import tokenize
from pathlib import Path

import pytest
from job_servers import House, definition
from signed_statements import entry_of, key_of, made_bundle, written

from workbench import files
from workbench.attestations import Trust, bundle
from workbench.attestations.verification import verify_export
from workbench.cli import output
from workbench.config.channels import ChannelSettings
from workbench.errors import ConfigError, UnavailableError
from workbench.jobs.exports import JobEntry, to_airflow
from workbench.jobs.ledger import PostedNotice, RunOrder, Slot, open_ledger
from workbench.jobs.recording import detail_of
from workbench.jobs.schedule import Schedule
from workbench.layout import JOB_LEDGER
from workbench.notices import JobNotice, channels
from workbench.scheduler import serving
from workbench.testing.fakes import FakeClock

NOW = dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC)
ADA = key_of("ada", 1)


@pytest.mark.parametrize("name", ["utf-7", "utf_7", "rot13", "no-such-encoding"])
def test_a_title_does_not_choose_the_encoding_of_an_exported_program(name):
    entry = JobEntry(
        name="answers", root=Path("/repo"), command=("/repo/workbench", "jobs", "run", "answers"), seconds=60,
        schedule=Schedule.parse("0 6 * * *", "UTC", where="test"),
        description=f"coding: {name} +AAo-import os+AAo-os.abort()+AAo-",
    )  # fmt: skip
    plain = dataclasses.replace(entry, description="plain")
    text, expected = (to_airflow(item, now=NOW)["workbench_answers.py"] for item in (entry, plain))
    assert tokenize.detect_encoding(io.BytesIO(text.encode()).readline)[0] == "utf-8"
    trees = [ast.dump(ast.parse(source.encode())) for source in (text, expected)]
    assert trees[0].replace(entry.title, plain.title) == trees[1]


def small_order():
    """Every encoding of a point of order 1, 2, 4 or 8, also those that are not the canonical ones."""
    prime = (1 << 255) - 19
    eight = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    values = [0, 1, prime - 1, prime, prime + 1, eight, prime - eight]
    return [(value | sign << 255).to_bytes(32, "little") for value in values for sign in (0, 1)]


@pytest.mark.parametrize("point", small_order(), ids=lambda point: point.hex()[-8:])
def test_a_key_for_which_anybody_can_sign_is_trusted_nowhere(point):
    der = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + point).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"
    identity = files.digest(base64.b64decode(der))
    weak = dataclasses.replace(entry_of(ADA), id=identity, public=pem)
    with pytest.raises(ConfigError, match="small order"):
        Trust.parse(Trust(keys={identity: weak}).to_bytes(), where="keys.yaml")


@pytest.mark.parametrize("place", ["version/hidden", "statements/hidden", "hidden"])
@pytest.mark.parametrize("depth", [1, 40])
def test_a_file_in_a_folder_that_cannot_be_listed_is_no_file_unseen(tmp_path, place, depth, monkeypatch):
    folder = written(tmp_path / "export", made_bundle(), by=ADA)
    keys = [ADA.key.public_key()]
    assert verify_export(folder, keys).passed
    hidden = folder / place / "/".join(["d"] * depth)
    hidden.mkdir(parents=True)
    (hidden / "more.json").write_bytes(b"1")
    assert [fault.file.rpartition("/")[2] for fault in verify_export(folder, keys).faults] == ["more.json"]
    listed = os.scandir

    def refusing(path):
        if os.fspath(path) == str(folder / place):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (fault,) = verify_export(folder, keys).faults
    assert fault.file == place and "cannot read" in fault.what


def test_statements_that_would_fill_the_memory_are_refused_by_name(tmp_path, monkeypatch):
    folder = written(tmp_path / "export", made_bundle(), by=ADA)
    monkeypatch.setattr(bundle, "_MOST_KEPT", 20_000)
    assert verify_export(folder, [ADA.key.public_key()]).passed
    with (folder / "statements/sparse.dsse.json").open("wb") as file:
        file.truncate(15 << 20)
    with (folder / "version/sparse").open("wb") as file:
        file.truncate((1 << 30) + 1)
    found = {fault.file: fault.what for fault in verify_export(folder, [ADA.key.public_key()]).faults}
    assert "MB together" in found["statements/sparse.dsse.json"] and "1 GB" in found["version/sparse"]


def test_a_name_that_is_no_text_is_a_fault_that_can_be_shown(tmp_path):
    folder = written(tmp_path / "export", made_bundle(), by=ADA)
    (folder / os.fsdecode(b"version/\xff\xfe\x1b[2J")).write_bytes(b"1")
    found = verify_export(folder, [ADA.key.public_key()])
    (fault,) = found.faults
    fault.file.encode()
    assert "was added" in fault.what and fault.file.isprintable()
    files.pretty(found.to_json())


def test_a_terminal_obeys_no_text_that_a_command_shows(capsys):
    wicked = "approved\x1b[1A\x1b[2K\r by\x9b2J \u202enosrep dnoces"
    output.say({"reason": wicked}, f"one\n{wicked}\ttwo", as_json=False)
    output.say({"reason": wicked}, "", as_json=True)
    shown = capsys.readouterr().out
    assert not [sign for sign in shown if not sign.isprintable() and sign not in "\n\t"]
    first, _, rest = shown.partition("{")
    assert first.startswith("one\napproved\\u001b[1A") and json.loads("{" + rest) == {"reason": wicked}


def test_a_line_of_the_server_s_log_is_of_the_server(capsys):
    message = "x is not served: %s"
    record = logging.makeLogRecord({"msg": message, "args": ("a\n2026-11-24 INFO all is well\x1b[2J",)})
    said = serving._OneLine("%(asctime)s %(message)s").format(record)
    assert "\x1b" not in said and said.split("\n")[1].startswith("  2026-11-24 INFO")


def test_a_server_whose_ledger_is_away_at_its_end_still_kills_all_its_runs(tmp_path, monkeypatch):
    house = House(tmp_path, definition(), definition("triage"))
    house.tick()
    house.tick(60)
    assert len(house.server.children) == 2

    def away(*_):
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(house.server._ledger, "give_back", away)
    house.server.end()
    assert [process.killed for process in house.starter.processes.values()] == [True, True]
    assert not house.server.children


def test_a_second_signal_ends_the_grace_of_runs_that_do_not_end(tmp_path):
    house = House(tmp_path, definition())
    house.tick()
    house.tick(60)
    (run,) = house.starter.runs
    poll, asked = house.server.poll, []

    def signalled():
        """Both signals, one after the other, while the server looks at a run that does not end."""
        asked.append(1)
        if len(asked) <= 2:
            os.kill(os.getpid(), signal.SIGTERM)
        poll()

    house.server.poll = signalled
    begun = time.monotonic()
    serving.serve(house.server, grace_s=60)
    assert time.monotonic() - begun < 30 and len(asked) >= 2
    assert house.starter.processes[run.run].killed
    assert house.ledger.run(run.run).state == "waiting" and house.ledger.servers() == []


def test_what_waits_since_before_the_clock_was_set_back_does_not_wait_for_that_day(tmp_path):
    clock = FakeClock(NOW.isoformat())
    ledger = open_ledger(tmp_path, clock)
    clock.advance(86_400)
    later = clock.now() + dt.timedelta(minutes=1)
    order = RunOrder(
        slot=Slot(job="answers", tenant="", at=NOW), trigger="retry", attempt=2, not_before=later
    )
    run = ledger.enqueue(order)
    ledger.post(PostedNotice(key="k", job="answers", event="failed", payload={}, channels=("oncall",)))
    ledger.failed_delivery("k", "oncall", "down", later)
    assert ledger.take("s", runs=9, per_tenant=0) is None and ledger.undelivered() == []
    clock.advance(-86_400)
    assert ledger.take("s", runs=9, per_tenant=0).run == run.run
    assert [due.channel for due in ledger.undelivered()] == ["oncall"]
    soon = clock.now() + dt.timedelta(minutes=1)
    assert [ledger.lease_delivery("k", "oncall", soon) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("column", "value"), [("facts", "{"), ("queued_at", "soon"), ("lease_until", "")])
def test_a_row_that_no_workbench_wrote_is_named_and_ends_no_server(tmp_path, caplog, column, value):
    house = House(tmp_path, definition())
    house.tick()
    house.tick(60)
    (run,) = house.starter.runs
    with contextlib.closing(sqlite3.connect(tmp_path / JOB_LEDGER)) as db, db:
        db.execute(f"UPDATE runs SET {column} = ?", (value,))
    house.tick(1)
    assert run.run in caplog.text and "workbench jobs repair" in caplog.text
    assert house.server.fault == "", "test_damaged_rows: the row's job alone stops"


def test_the_line_of_a_failed_run_quotes_no_address_and_no_secret():
    secret = "sk-proj-" + "a1B2" * 10
    error = ConfigError(
        f"input.jsonl: the id 'max.mustermann@acme.example' is there twice ({secret})\nand more"
    )
    line = detail_of(error)
    assert "mustermann" not in line and secret not in line and "more" not in line
    assert line.startswith("input.jsonl: the id '") and "is there twice" in line


def test_the_process_of_a_channel_has_no_key_to_sign_with(tmp_path):
    notice = JobNotice(event="test", job="answers", when="2026-11-24T06:00:00Z")
    script = 'test "$TOKEN" = kept && test -z "$WORKBENCH_SIGNING_KEY"'
    environment = {"WORKBENCH_SIGNING_KEY": "-----BEGIN PRIVATE KEY-----", "TOKEN": "kept"}
    channel = ChannelSettings(command=("/bin/sh", "-c", script))
    asyncio.run(channels.send(tmp_path, "oncall", channel, notice, environment=environment))


def test_an_error_of_any_kind_ends_no_delivery_of_notices(monkeypatch):
    monkeypatch.setattr(serving, "_DELIVER_S", 0.01)
    calls, again = [], threading.Event()

    def deliver():
        calls.append(1)
        if len(calls) > 1:
            again.set()
        raise ValueError("of a kind that nobody expects")

    with serving._delivering(deliver):
        assert again.wait(10)


def test_an_error_of_any_kind_after_a_run_delays_no_other_job(tmp_path):
    def broken(_job):
        raise KeyError("of a kind that nobody expects")

    house = House(tmp_path, definition(), definition("triage"))
    house.server._parts = dataclasses.replace(house.server._parts, after_run=broken)
    house.tick()
    house.tick(60)
    for run in list(house.starter.runs):
        house.starter.end(run)
    house.tick(1)
    assert house.server.measures.outcomes == {"published": 2} and not house.server.fault
