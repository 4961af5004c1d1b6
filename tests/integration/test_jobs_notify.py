"""`workbench jobs notify`: what a timer calls after a run, and how a channel is tested."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from click.testing import CliRunner
from made_jobs import PARAMS
from notice_receivers import http_receiver

from workbench.cli.app import cli
from workbench.cli.jobs_notify import tell_recovery
from workbench.config.operations import OPERATIONS
from workbench.context import SystemClock
from workbench.errors import WorkbenchError
from workbench.jobs.ledger import Slot, open_ledger

OPERATED = """\
channels:
  log: {file: .workbench/state/notices.jsonl}
  oncall: {webhook_env: ONCALL}
jobs:
  answers: {notify: [log]}
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / OPERATIONS).write_text(OPERATED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notify(*arguments):
    done = CliRunner().invoke(cli, ["jobs", "notify", *arguments])
    if isinstance(done.exception, WorkbenchError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def ended(root, outcome, *, hour, run, detail=""):
    book = open_ledger(root, SystemClock())
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, hour, tzinfo=dt.UTC))
    book.claim(slot, run=run, version=1, input_digest="i")
    book.finished(run, outcome, detail=detail)


def told(root):
    path = root / ".workbench/state/notices.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_the_last_failed_run_is_told_once_and_the_first_success_after_it(root):
    assert notify("answers") == (0, "0 delivered, 0 to be tried again\n")
    ended(root, "failed", hour=6, run="r1", detail="the endpoint is away")
    assert notify("answers")[0] == 0
    assert notify("answers")[0] == 0
    ended(root, "published", hour=7, run="r2")
    notify("answers")
    ended(root, "published", hour=8, run="r3")
    notify("answers")
    assert [(line["event"], line["run"]) for line in told(root)] == [("failed", "r1"), ("recovered", "r2")]
    assert "Why: the endpoint is away" in told(root)[0]["text"]


def test_a_run_that_no_server_started_tells_of_a_recovery_itself(root):
    ended(root, "failed", hour=6, run="r1")
    tell_recovery(root, "answers", server=False)
    ended(root, "published", hour=7, run="r2")
    tell_recovery(root, "answers", server=True)
    assert told(root) == []
    for _ in range(2):
        tell_recovery(root, "answers", server=False)
    assert [line["event"] for line in told(root)] == ["recovered"]
    (root / OPERATIONS).write_text("channels: {broken: {}}")
    tell_recovery(root, "answers", server=False)  # the run is published, whatever the file says


def test_a_channel_that_takes_nothing_exits_3_and_names_the_reason(root):
    (root / OPERATIONS).write_text(OPERATED.replace("[log]", "[oncall]"))
    ended(root, "failed", hour=6, run="r1")
    code, output = notify("answers")
    assert code == 3
    assert "ONCALL" in output
    assert "1 to be tried again" in output


def test_a_test_notice_reaches_its_channel_and_no_other(root, monkeypatch):
    with http_receiver() as hook:
        monkeypatch.setenv("ONCALL", f"http://127.0.0.1:{hook.port}/")
        code, output = notify("--test", "oncall", "--json")
    assert (code, json.loads(output)) == (0, {"channel": "oncall", "taken": True})
    assert [body["notice"]["event"] for _, _, body in hook.got] == ["test"]
    assert told(root) == []


def test_unknown_channels_and_jobs_and_a_job_without_channels_are_named(root):
    code, output = notify("--test", "oncal")
    assert code == 2
    assert "oncall" in output
    assert notify("answerz")[0] == 2
    (root / OPERATIONS).write_text("{}\n")
    code, output = notify("answers")
    assert code == 2
    assert "notify" in output
