"""Notices reach real receivers, once; one that is down, slow or refuses blocks nothing and is tried again."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import stat
import time

import psutil
import pytest
from notice_receivers import FakeOutbox, Row, http_receiver, mail_receiver

from workbench.config.channels import ChannelSettings, MailChannel
from workbench.errors import ConfigError, UnavailableError
from workbench.jobs.ledger import PostedNotice
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.notices import JobNotice, channels, deliver, deliver_async
from workbench.notices.delivery import TRIES
from workbench.testing.fakes import FakeClock

AT = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
NOTICE = JobNotice.of_slot("failed", "answers", "acme", AT, version=7, run="r1", detail="cell 2: ValueError")


@pytest.fixture(scope="module")
def hook():
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _fresh(hook, monkeypatch):
    hook.got.clear()
    hook.status, hook.wait_s, hook.drip = 200, 0.0, False
    monkeypatch.setenv("ONCALL", f"http://127.0.0.1:{hook.port}/hooks/a?token=t%20t")


def send(root, channel, notice=NOTICE, **options):
    asyncio.run(channels.send(root, "oncall", channel, notice, **options))


WEBHOOK = ChannelSettings(webhook_env="ONCALL")


def test_a_webhook_gets_the_text_and_the_fields_of_the_notice(tmp_path, hook):
    send(tmp_path, WEBHOOK)
    [(path, headers, body)] = hook.got
    assert path == "/hooks/a?token=t+t"
    assert headers["Content-Type"] == "application/json" and headers["Idempotency-Key"] == NOTICE.key
    assert body["title"] == "Job answers failed: 2026-11-24T06:00:00Z"
    assert body["message"] == NOTICE.text
    assert body["type"] == "failure"
    assert body["notice"] == {
        "event": "failed", "job": "answers", "tenant": "acme", "version": 7, "run": "r1", "key": NOTICE.key,
        "at": "2026-11-24T06:00:00Z", "detail": "cell 2: ValueError", "title": body["title"],
        "command": "workbench jobs history answers",
    }  # fmt: skip


def test_any_address_of_apprise_is_a_channel(tmp_path, hook, monkeypatch):
    monkeypatch.setenv("UNKNOWN", "nosuchservice://secret-token@host")
    monkeypatch.setenv("JSON", f"json://127.0.0.1:{hook.port}/any")
    send(tmp_path, ChannelSettings(url_env="JSON"))
    assert [path for path, _, _ in hook.got] == ["/any"]
    with pytest.raises(UnavailableError, match="no service") as refused:
        send(tmp_path, ChannelSettings(url_env="UNKNOWN"))
    assert "secret-token" not in str(refused.value)


def test_mail_arrives_with_subject_text_and_recipients(tmp_path):
    with mail_receiver() as mails:
        mail = MailChannel(
            host="127.0.0.1", port=mails.port, tls="none", sender="jobs@example.com",
            to=("ann@example.com", "bob@example.com"),
        )  # fmt: skip
        send(tmp_path, ChannelSettings(mail=mail))
    assert {to for recipients, _ in mails.got for to in recipients} == {"ann@example.com", "bob@example.com"}
    message = mails.got[0][1]
    assert message["Subject"] == "Job answers failed: 2026-11-24T06:00:00Z"
    assert "jobs@example.com" in message["From"] and message["X-Idempotency-Key"] == NOTICE.key
    body = message.get_body(("plain",)).get_content()
    assert "Why: cell 2: ValueError" in body
    assert "Next: workbench jobs history answers" in body


def test_a_mail_server_that_refuses_the_recipient_is_a_failed_try(tmp_path):
    with mail_receiver(refusing=True) as mails:
        mail = MailChannel(
            host="127.0.0.1", port=mails.port, tls="none", sender="j@example.com", to=("nobody@example.com",)
        )
        with pytest.raises(UnavailableError, match="oncall"):
            send(tmp_path, ChannelSettings(mail=mail))
    assert not mails.got


@pytest.mark.parametrize("status", [500, 302])
def test_another_status_than_success_is_named_and_a_redirect_is_not_followed(tmp_path, hook, status):
    hook.status = status
    with pytest.raises(UnavailableError, match=f"status {status}"):
        send(tmp_path, WEBHOOK)
    assert len(hook.got) == 1


def test_a_receiver_that_is_away_is_named_without_its_address(tmp_path, monkeypatch, free_port):
    monkeypatch.setenv("ONCALL", f"http://127.0.0.1:{free_port}/?token=secret-token")
    with pytest.raises(UnavailableError, match="could not be reached") as away:
        send(tmp_path, WEBHOOK)
    assert "secret-token" not in str(away.value)


def test_an_answer_byte_by_byte_ends_at_the_limit_with_its_process(tmp_path, hook):
    hook.drip = True
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="not finished"):
        send(tmp_path, WEBHOOK, limit_s=1.5)
    assert time.monotonic() - began < 5


def test_a_missing_variable_and_one_that_is_no_address_are_errors_that_name_the_variable(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("ONCALL")
    with pytest.raises(ConfigError, match="ONCALL"):
        send(tmp_path, WEBHOOK)
    monkeypatch.setenv("ONCALL", "ftp://secret-token@host/")
    with pytest.raises(ConfigError, match="ONCALL") as refused:
        send(tmp_path, WEBHOOK)
    assert "secret-token" not in str(refused.value)


def test_a_command_reads_the_notice_and_its_children_end_with_it(tmp_path):
    out = tmp_path / "said.json"
    script = f"cat > {out}; sleep 60 & echo $! > {tmp_path / 'child'}"
    send(tmp_path, ChannelSettings(command=("/bin/sh", "-c", script)))
    told = json.loads(out.read_bytes())
    assert (told["event"], told["text"]) == ("failed", NOTICE.text)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail("the child of the command lives on")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("/bin/sh", "-c", "exit 3"), "code 3"),
        (("/no/such/program",), "cannot start"),
        (("/bin/sleep", "60"), "not finished"),
    ],
)
def test_a_command_that_fails_hangs_or_is_missing_is_a_failed_try(tmp_path, command, word):
    with pytest.raises(UnavailableError, match=word):
        send(tmp_path, ChannelSettings(command=command), limit_s=0.3)


def test_a_file_gets_a_line_and_only_its_owner_may_read_it(tmp_path):
    send(tmp_path, ChannelSettings(file="state/notices.jsonl"))
    path = tmp_path / "state" / "notices.jsonl"
    assert [json.loads(line)["key"] for line in path.read_bytes().splitlines()] == [NOTICE.key]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_gets_a_notice_once_though_its_writer_is_killed_before_it_notes_it(tmp_path):
    channel = ChannelSettings(file="state/notices.jsonl")
    other = dataclasses.replace(NOTICE, detail="cell 2: ValueError, and more")
    for notice in (NOTICE, other, NOTICE):
        send(tmp_path, channel, notice)
    lines = (tmp_path / "state/notices.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["detail"] for line in lines] == [NOTICE.detail, other.detail]


def posted(outbox, *names, notice=NOTICE):
    return outbox.post(Row(**notice.posting(names)))


def test_a_notice_is_told_once_for_each_channel_and_tried_again_with_growing_pauses(tmp_path, hook):
    clock = FakeClock("2026-11-24T06:00:00+00:00")
    outbox = FakeOutbox(clock)
    known = {"oncall": WEBHOOK, "log": ChannelSettings(file="n.jsonl")}
    assert posted(outbox, "oncall", "log")
    assert not posted(outbox, "oncall", "log")
    hook.status = 500
    first = deliver(tmp_path, outbox, known, clock=clock)
    assert (first.made, first.failed, first.given_up) == (1, 1, 0)
    assert "status 500" in first.said[0]
    assert deliver(tmp_path, outbox, known, clock=clock).made == 0
    clock.advance(30)
    assert deliver(tmp_path, outbox, known, clock=clock).failed == 1
    clock.advance(30)
    assert deliver(tmp_path, outbox, known, clock=clock).failed == 0, "the second pause is longer"
    clock.advance(30)
    hook.status = 200
    assert deliver(tmp_path, outbox, known, clock=clock).made == 1
    clock.advance(86_400)
    assert deliver(tmp_path, outbox, known, clock=clock).made == 0
    assert len(hook.got) == 3
    assert len((tmp_path / "n.jsonl").read_bytes().splitlines()) == 1


def test_a_channel_that_never_takes_a_notice_is_given_up(tmp_path):
    clock = FakeClock("2026-11-24T06:00:00+00:00")
    outbox = FakeOutbox(clock)
    known = {"oncall": ChannelSettings(command=("/bin/false",))}
    posted(outbox, "oncall", "gone")
    ended = []
    while outbox.undelivered():
        ended.append(deliver(tmp_path, outbox, known, clock=clock))
        clock.advance(3_600)
    assert [(done.failed, done.given_up) for done in ended] == [(2, 0)] * (TRIES - 1) + [(0, 2)]
    assert "operations.yaml" in outbox.due[NOTICE.key, "gone"][2]


def test_a_slow_channel_delays_no_other(tmp_path):
    clock = FakeClock("2026-11-24T06:00:00+00:00")
    outbox = FakeOutbox(clock)
    slow = ChannelSettings(command=("/bin/sh", "-c", "sleep 1.2"))
    quick = ChannelSettings(command=("/bin/sh", "-c", f"date +%s.%N > {tmp_path / 'quick'}"))
    posted(outbox, "slow", "quick")
    began = time.time()
    assert deliver(tmp_path, outbox, {"slow": slow, "quick": quick}, clock=clock).made == 2
    assert float((tmp_path / "quick").read_text()) - began < 1


def test_two_servers_on_one_ledger_tell_once(tmp_path, hook):
    clock = FakeClock("2026-11-24T06:00:00+00:00")
    ledgers = [SqliteLedger(tmp_path / "jobs.db", clock=clock) for _ in range(2)]
    notices = [JobNotice.of_slot("failed", f"job{n}", "", AT) for n in range(2)]
    for notice in notices:
        assert ledgers[0].post(PostedNotice(**notice.posting(("oncall",))))

    async def both():
        return await asyncio.gather(
            *(deliver_async(tmp_path, book, {"oncall": WEBHOOK}, clock=clock) for book in ledgers)
        )

    assert sum(done.made for done in asyncio.run(both())) == 2
    assert sorted(body["notice"]["key"] for _, _, body in hook.got) == [notice.key for notice in notices]
    assert ledgers[0].undelivered() == []
