"""Orders by hand as a user types them: trigger, backfill, pause and resume, and what is refused."""

from __future__ import annotations

import json

import pytest
from made_jobs import copied, frozen, judged_repository
from made_repositories import saved

from workbench import layout
from workbench.audit import Filter, rows_of
from workbench.cli.app import cli
from workbench.context import SystemClock
from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError
from workbench.jobs import run as jobs
from workbench.jobs.ledger import RunOrder, Slot, open_ledger
from workbench.jobs.slots import RunRequest
from workbench.records import slot_writes
from workbench.scheduler import orders
from workbench.scheduler.server import _row

BACKFILL = ("jobs", "backfill", "answers")


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    root = judged_repository(tmp_path_factory.mktemp("ordered") / "repository")
    frozen(root, 1, label="production")
    return root


@pytest.fixture
def root(ordered, tmp_path, monkeypatch):
    made = copied(ordered, tmp_path / "repository")
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def ledger(root):
    return open_ledger(root, SystemClock())


def run(*arguments):
    """What a command prints as JSON."""
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False, standalone_mode=False)
    return json.loads(done.stdout)


def states(found):
    return [(row["slot"].rpartition("/")[2], row["state"]) for row in found]


def test_a_backfill_enqueues_each_slot_of_its_days_once(root, ledger):
    found = run(*BACKFILL, "2026-11-01", "2026-11-03")
    assert states(found) == [(f"202611{day:02}T060000Z", "waits") for day in (1, 2, 3)]
    again = run(*BACKFILL, "2026-11-03", "2026-11-04")
    assert states(again) == [("20261103T060000Z", "fired before"), ("20261104T060000Z", "waits")]
    waiting = ledger.unfinished("answers")
    assert len(waiting) == 4 and {item.trigger for item in waiting} == {"backfill"}
    assert all(item.priority < 0 for item in waiting)  # behind the schedule


def test_a_backfill_again_enqueues_what_fired_and_a_dry_run_nothing(root, ledger):
    slot = Slot(job="answers", tenant="", at=orders._moment("2026-11-03T06:00Z", None, of_day=None))
    first = ledger.enqueue(RunOrder(slot=slot))
    ledger.cancel(first.run, "failed", "away")
    assert states(run(*BACKFILL, "2026-11-03", "2026-11-03", "--dry-run"))[0][1].startswith("would")
    assert ledger.unfinished() == []
    assert states(run(*BACKFILL, "2026-11-03", "2026-11-03"))[0][1] == "fired before"
    log = root / layout.JOB_WRITES / "answers/all/20261104T060000Z" / slot_writes.NAME
    log.parent.mkdir(parents=True)
    log.write_text("")
    slot_writes.purge_writes(log, SystemClock().now())
    found = states(run(*BACKFILL, "2026-11-03", "2026-11-04", "--again"))
    assert found[0][1] == "waits" and found[1][1].startswith(
        "left out, the log of its memory writes was purged"
    )
    with pytest.raises(RefusedError, match="would write, forget and hold again") as caught:
        jobs.run(root, RunRequest(reference="answers", at="2026-11-04", show=False))
    assert "--at 2026-11-04T06:00:00Z --replace" in caught.value.hint
    assert ledger.history("answers")[0].outcome == "refused"


def test_an_order_without_a_server_says_so_and_a_dry_run_proposes_the_same_command(root, ledger):
    span = ("2026-11-01", "2026-11-01")
    dry = orders.backfill(root, ledger, "answers", span, again=True, dry_run=True)
    assert dry.command == "workbench jobs backfill answers 2026-11-01 2026-11-01 --again" and not dry.notes
    assert "workbench jobs serve" in str(orders.backfill(root, ledger, "answers", span))
    assert not orders.backfill(root, ledger, "answers", span).notes, "nothing new waits"
    ledger.beat_server(_row(SystemClock().now(), ""))
    assert not orders.trigger(root, ledger, "answers", clock=SystemClock(), at="2026-11-24").notes


def test_a_backfill_makes_a_slot_of_each_tenant_of_the_job(root):
    saved(root, "Operate", **{"pipelines/operations.yaml": b"jobs:\n  answers: {tenants: [acme, globex]}\n"})
    found = run(*BACKFILL, "2026-11-01", "2026-11-01")
    assert [row["slot"].split("/")[1] for row in found] == ["acme", "globex"]
    assert [
        row["slot"].split("/")[1] for row in run(*BACKFILL, "2026-11-02", "2026-11-02", "--tenant", "acme")
    ] == ["acme"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("2026-11-03", "2026-11-01"), "before"),
        (("yesterday", "2026-11-01"), "time"),
        (("2026-11-03T06:00", "2026-11-04"), "time zone"),
        (("1970-01-01", "2026-11-01"), "more than 10000"),
        (("0001-01-01", "2026-11-01"), "time"),
    ],
)
def test_a_span_that_is_none_is_refused_and_enqueues_nothing(root, ledger, arguments, word):
    with pytest.raises(ConfigError, match=word):
        run(*BACKFILL, *arguments)
    assert ledger.history() == []


def test_a_job_without_a_schedule_has_no_slots_to_backfill(root):
    frozen(root, 2, label="production", schedule=None)
    with pytest.raises(ConfigError) as caught:
        run(*BACKFILL, "2026-11-01", "2026-11-02")
    assert "workbench jobs trigger answers" in caught.value.hint


def test_a_trigger_enqueues_the_slot_that_jobs_run_would_take(root, ledger):
    assert states(run("jobs", "trigger", "answers", "--at", "2026-11-24")) == [("20261124T060000Z", "waits")]
    assert states(run("jobs", "trigger", "answers", "--at", "2026-11-24")) == [("20261124T060000Z", "waits")]
    (waiting,) = ledger.unfinished()
    assert (waiting.trigger, waiting.version, waiting.attempt) == ("trigger", 0, 1)


@pytest.mark.parametrize(
    "command", [("trigger",), ("pause",), ("resume",), ("backfill", "2026-11-01", "2026-11-01")]
)
def test_a_job_that_does_not_exist_is_named_with_the_nearest(root, command):
    with pytest.raises(WorkbenchError, match="anwsers"):
        run("jobs", command[0], "anwsers", *command[1:])


def test_a_version_is_no_job_to_order(root):
    with pytest.raises(ConfigError, match="version"):
        run("jobs", "trigger", "answers@1")


def test_a_pause_and_its_end_are_acts_of_the_audit_log(root, ledger):
    run("jobs", "pause", "answers", "--reason", "the input is wrong")
    (found,) = ledger.pauses()
    assert (found.job, found.tenant, found.reason) == ("answers", "", "the input is wrong") and found.by
    run("jobs", "resume", "answers")
    assert ledger.pauses() == []
    rows = rows_of(root / layout.AUDIT, Filter(), root / layout.AUDIT_KEYS)
    assert [(row["activity"], row["status"]) for row in rows] == [
        ("pause", "Begun"), ("pause", "Success"), ("resume", "Begun"), ("resume", "Success"),
    ]  # fmt: skip


def test_to_resume_what_is_not_paused_names_the_tenant_that_is(root, ledger):
    run("jobs", "pause", "answers", "--tenant", "acme")
    with pytest.raises(NotFoundError) as caught:
        run("jobs", "resume", "answers")
    assert "--tenant acme" in caught.value.hint
    run("jobs", "resume", "answers", "--tenant", "acme")
    assert ledger.pauses() == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--speed", "60"), "rehearsal"),
        (("--from", "tomorrow"), "--from"),
        (("--until", "2026-11-24T06:00"), "time zone"),
        (("--until", "9999-12-31T23:59:59-23:59"), "time zone"),
        (("--address", "nowhere"), "HOST:PORT"),
    ],
)
def test_a_server_that_cannot_be_meant_is_refused(root, arguments, word):
    with pytest.raises(ConfigError, match=word):
        run("jobs", "serve", *arguments)


def test_a_rehearsal_is_refused_where_jobs_have_run(root, ledger, monkeypatch):
    ledger.enqueue(
        RunOrder(slot=Slot(job="answers", tenant="", at=SystemClock().now().replace(microsecond=0)))
    )
    with pytest.raises(ConfigError) as caught:
        run("jobs", "serve", "--from", "2026-11-24T05:59Z", "--until", "2026-11-24T06:01Z")
    assert "git clone" in caught.value.hint
