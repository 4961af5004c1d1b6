"""Notices: their keys, texts and masks, the event of a run, and what operations.yaml may say of channels."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.operations import load_operations
from workbench.errors import ConfigError, CorruptError
from workbench.notices import JobNotice, event_of_run
from workbench.notices.delivery import LONGEST_PAUSE_S, pause_s
from workbench.notices.notice import EVENTS, cleaned

AT = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(hours=1)


def of_slot(event, *, tenant="acme", at=AT, **rest):
    return JobNotice.of_slot(event, "answers", tenant, at, **rest)


def test_a_key_is_one_for_each_event_of_a_slot_and_says_neither_run_nor_version():
    once = {of_slot("failed", run=run, version=v, detail=run).key for run in ("r1", "r2") for v in (1, 2)}
    assert once == {"failed/answers/acme/2026-11-24T06:00:00Z"}
    others = {of_slot("late").key, of_slot("failed", tenant="").key, of_slot("failed", at=LATER).key}
    assert len(others | once) == 4


def test_an_event_of_a_version_has_a_key_for_each_version_and_moment():
    keys = {JobNotice.of_version("withdrawn", "answers", n, at).key for n in (1, 2) for at in (AT, LATER)}
    assert len(keys) == 4
    assert "withdrawn/answers/all/2026-11-24T06:00:00Z@2" in keys


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_a_text_that_names_job_version_and_a_command(event):
    notice = of_slot(event, version=7, run="r1", detail="cell 2: ValueError")
    assert "answers" in notice.title
    assert notice.text.startswith("tenant acme, slot 2026-11-24T06:00:00Z, version 7, run r1\nWhy: cell 2")
    assert notice.command.startswith("workbench ")
    assert notice.text.endswith(f"Next: {notice.command}")
    assert JobNotice.of_payload(notice.payload(), key=notice.key) == notice


def test_the_command_of_a_missed_slot_runs_it():
    assert of_slot("missed").command == "workbench jobs run answers --at 2026-11-24T06:00:00Z --tenant acme"


def test_a_detail_has_no_identifier_no_secret_and_no_second_line():
    key = "sk-" + "Ab3dE6gH" * 5
    said = cleaned(f"row of ann.smith@example.com\r\nBcc: x\x00 key {key}\u2028 end")
    assert "ann.smith" not in said
    assert key not in said
    assert "[EMAIL]" in said
    assert len(said.splitlines()) == 1


@given(st.text())
def test_a_detail_of_any_text_is_one_short_printable_line(text):
    said = cleaned(text)
    assert said.isprintable()
    assert len(said) <= 500


@pytest.mark.parametrize("payload", [{}, {"event": "failed"}, {"event": "cried", "job": "a"}, {"job": 3}])
def test_a_payload_that_is_no_notice_is_an_error_that_names_its_key(payload):
    with pytest.raises(CorruptError, match="failed/x"):
        JobNotice.of_payload(payload, key="failed/x")


@dataclass(frozen=True)
class Place:
    """A slot of a run."""

    at: int = 1
    tenant: str = ""


@dataclass(frozen=True)
class Ended:
    """A run as the ledger gives it."""

    outcome: str = ""
    at: int = 1
    tenant: str = ""
    trigger: str = "schedule"
    state: str = "finished"
    role: str = "production"
    facts: dict = field(default_factory=dict)

    @property
    def slot(self):
        return Place(self.at, self.tenant)


def test_a_failure_is_told_when_no_retry_follows():
    for outcome in ("failed", "deadline", "refused"):
        assert event_of_run(Ended(outcome), [], retried=True) is None
        assert event_of_run(Ended(outcome), []) == "failed"
    assert event_of_run(Ended(state="lost"), []) == "failed"
    assert event_of_run(Ended("interrupted"), []) is None
    assert event_of_run(Ended(state="running"), []) is None


def test_a_held_output_of_another_model_has_an_event_of_its_own():
    assert event_of_run(Ended("held"), []) == "held"
    assert event_of_run(Ended("held", facts={"paused": True}), []) == "model_changed"
    assert event_of_run(Ended("rolled_back"), []) == "held"
    assert event_of_run(Ended("rolled_back"), [], retried=True) is None
    assert event_of_run(Ended("missed"), []) == "missed"


def test_an_output_that_is_published_against_a_check_is_told():
    for told in ("breached", "model_changed"):
        run = Ended("published", at=2, facts={"told": told})
        assert event_of_run(run, []) == told
        assert event_of_run(run, [Ended("failed")]) == "recovered"
    assert event_of_run(Ended("unchanged", facts={"told": "breached"}), []) is None


def test_nobody_is_told_of_a_shadow():
    assert event_of_run(Ended("failed", role="shadow"), []) is None


def test_a_success_after_a_told_failure_is_a_recovery_once():
    failed = Ended("failed", at=1)
    assert event_of_run(Ended("published", at=2), [failed]) == "recovered"
    assert event_of_run(Ended("published", at=3), [Ended("published", at=2), failed]) is None
    assert event_of_run(Ended("published", at=1), [failed]) == "recovered", "the same slot, by hand"


def test_a_success_after_failures_that_were_retried_is_no_recovery():
    retry = Ended("published", trigger="retry")
    assert event_of_run(retry, [Ended("failed", trigger="retry"), Ended("failed")]) is None
    told = [Ended("failed", at=1, trigger="retry"), Ended("failed", at=1)]
    assert event_of_run(Ended("published", at=2), told) == "recovered"


def test_a_recovery_is_of_the_same_tenant_and_role():
    run = Ended("published", at=2, tenant="acme")
    assert (
        event_of_run(run, [Ended("failed", tenant="globex"), Ended("failed", tenant="acme", role="shadow")])
        is None
    )
    assert event_of_run(run, [Ended("held", tenant="acme"), Ended("failed", tenant="acme")]) == "recovered"


def test_the_pauses_between_tries_grow_to_a_bound():
    pauses = [pause_s(tries) for tries in range(1, 12)]
    assert pauses[:3] == [30, 60, 120]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


def loaded(root, text):
    (root / "pipelines").mkdir(exist_ok=True)
    (root / "pipelines" / "operations.yaml").write_text(text)
    return load_operations(root)


def test_channels_of_every_kind_are_read(tmp_path):
    found = loaded(
        tmp_path,
        """\
channels:
  oncall: {webhook_env: ONCALL}
  chat: {url_env: CHAT}
  mail: {mail: {host: mail.example.com, sender: a@example.com, to: [b@example.com]}}
  local: {command: [/usr/bin/logger, -t, workbench]}
  log: {file: .workbench/state/notices.jsonl}
defaults: {notify: [oncall, log]}
jobs:
  answers: {notify: [mail]}
""",
    )
    kinds = {name: channel.kind for name, channel in found.channels.items()}
    assert kinds == {
        "oncall": "webhook_env", "chat": "url_env", "mail": "mail", "local": "command", "log": "file",
    }  # fmt: skip
    assert found.of("answers").notify == ("mail",)
    assert found.of("triage").notify == ("oncall", "log")


@pytest.mark.parametrize(
    ("channel", "word"),
    [
        ("{}", "exactly one"),
        ("{webhook_env: A, file: b.jsonl}", "exactly one"),
        ("{webhook_env: 'https://hooks.example.com/secret-token'}", "environment variable"),
        ("{file: ../b.jsonl}", "inside the repository"),
        ("{file: params.yaml}", "jsonl"),
        ("{command: ['']}", "command"),
        ("{mail: {host: 'a b', sender: a@example.com, to: [b@example.com]}}", "host"),
        ("{mail: {host: a, sender: a@example.com, to: []}}", "addresses"),
        ('{mail: {host: a, sender: "a@example.com\\nBcc: c@d", to: [b@example.com]}}', "mail address"),
        ("{mail: {host: a, sender: a@b.c, to: [b@b.c], user: u}}", "password_env"),
        ("{mail: {host: a, sender: a@b.c, to: [b@b.c], user: u, password_env: P, tls: none}}", "encryption"),
        ("{telegram: x}", "telegram"),
    ],
)
def test_a_channel_that_cannot_send_is_refused_by_name(tmp_path, channel, word):
    with pytest.raises(ConfigError, match=word) as refused:
        loaded(tmp_path, f"channels:\n  oncall: {channel}\n")
    assert "oncall" in str(refused.value)
    assert "secret-token" not in str(refused.value)


def test_notify_names_channels_that_exist(tmp_path):
    with pytest.raises(ConfigError, match="oncal") as refused:
        loaded(tmp_path, "channels: {oncall: {webhook_env: A}}\njobs: {answers: {notify: [oncal]}}\n")
    assert "oncall" in refused.value.hint


@pytest.mark.parametrize(
    ("checks", "word"),
    [
        ("{rowz: {min: 1}}", "rows"),
        ("{rows: {}}", "no bound"),
        ("{rows: {min: 3, max: 2}}", "bounds"),
        ("{rows: {min: -1}}", "bounds"),
        ("{rows: {min: 1, then: cry}}", "then"),
    ],
)
def test_a_check_that_cannot_be_decided_by_its_text_is_refused(tmp_path, checks, word):
    with pytest.raises(ConfigError, match=word):
        loaded(tmp_path, f"jobs: {{answers: {{checks: {checks}}}}}\n")
