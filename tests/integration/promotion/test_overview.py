from __future__ import annotations

import datetime as dt
import re
import shutil

import pytest
from made_jobs import PARAMS, a_spec, copied, frozen, installed, judged_repository

from workbench import config, files, layout
from workbench.errors import ConfigError, NotFoundError
from workbench.jobs import overview, versions
from workbench.jobs.ledger import Slot
from workbench.promotion.promote import ReleaseOptions, rollback
from workbench.testing.fakes import FakeClock

NOW = "2026-11-24T07:00:00Z"
FIRST = "  another: {use_case: answers, sample: data/inbox/sample.jsonl}\n"


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture
def root(judged, tmp_path):
    root = copied(judged, tmp_path / "repo")
    (root / "params.yaml").write_text(PARAMS.replace("\njobs:\n", f"\njobs:\n{FIRST}"))
    return root


def ran(root, outcome="published", run="aa11"):
    book = overview.jobs.ledger(root, FakeClock(NOW))
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
    book.claim(slot, run=run, version=1, input_digest="i")
    book.started(run, 1)
    book.finished(run, outcome, rows=21, quarantined=1, cost_usd=0.25, folder="published/x")


def test_jobs_that_are_declared_and_promoted_are_listed_with_what_is_due(root):
    frozen(root, 1, label="production")
    frozen(root, 2, label="candidate")
    ran(root)
    found = overview.overview(root, clock=FakeClock(NOW))
    assert found.to_json() == [
        {"job": "another", "production": "", "candidate": "", "shadow": "", "canary": "", "versions": "",
         "due next": "", "last run": "never here", "environment": "", "stopped": ""},
        {"job": "answers", "production": "1", "candidate": "2", "shadow": "", "canary": "",
         "versions": "1, 2", "due next": "2026-11-25 06:00Z", "last run": "published 2026-11-24 06:00Z",
         "environment": "", "stopped": ""},
    ]  # fmt: skip
    assert str(found).endswith("next: workbench jobs run answers"), "the one that can run"
    assert "<table" in found._repr_html_()


def test_a_pause_and_a_withdrawn_version_are_listed_and_no_refused_command_is_proposed(root):
    frozen(root, 1, label="production")
    frozen(root, 2, label="shadow")
    book = overview.jobs.ledger(root, FakeClock(NOW))
    book.pause("answers", by="ada", reason="the inbox is wrong")
    book.withdraw("answers", 2, by="ada", reason="worse")
    found = overview.overview(root, clock=FakeClock(NOW))
    row = found.to_json()[1]
    assert row["shadow"] == "2" and found.command == "workbench jobs resume answers"
    assert row["stopped"] == (
        "the job is paused since 2026-11-24 07:00Z: the inbox is wrong;"
        " version 2 is withdrawn and does not run: worse"
    )


def test_a_job_that_was_switched_off_says_by_whom_and_why(root):
    frozen(root, 1, label="production")
    options = ReleaseOptions(show=False, clock=FakeClock(NOW), commit=True, reason="wrong answers")
    rollback(root, "job/answers", options, to="none")
    row = overview.overview(root, clock=FakeClock(NOW)).to_json()[1]
    assert row["production"] == "" and "switched off" in row["stopped"] and "wrong answers" in row["stopped"]


def test_where_nothing_is_live_the_next_command_promotes(root):
    found = overview.overview(root, clock=FakeClock(NOW))
    assert found.command == "workbench promote job/another --to production --dry-run"
    frozen(root, 1, label="production", schedule=None)
    row = overview.overview(root, clock=FakeClock(NOW)).to_json()[1]
    assert row["due next"] == "when asked"


def test_the_history_is_the_newest_first_and_an_unknown_job_is_answered_with_the_nearest(root):
    ran(root, "failed", "aa11")
    ran(root, "published", "bb22")
    rows = overview.history_of(root, "answers", clock=FakeClock(NOW)).to_json()
    assert [row["ended"] for row in rows] == ["published", "failed"]
    assert rows[0]["slot"] == "answers/all/20261124T060000Z" and rows[0]["cost"] == "0.25"
    assert len(overview.history_of(root, "answers", limit=1, clock=FakeClock(NOW)).rows) == 1
    assert "nothing yet" in str(overview.history_of(root, "another", clock=FakeClock(NOW)))
    assert len(overview.history_of(root, None, clock=FakeClock(NOW)).rows) == 2, "without a job: all jobs"
    with pytest.raises(NotFoundError, match="nearest: 'answers'"):
        overview.history_of(root, "answer", clock=FakeClock(NOW))


@pytest.mark.parametrize("target", overview.TARGETS)
def test_what_is_exported_calls_the_job_by_name_and_lists_its_next_times(root, target, monkeypatch):
    frozen(root, 1, label="production")
    monkeypatch.setattr(overview.exports, "system_timezone", lambda: "UTC")
    found = overview.exported(root, "answers", target=target, clock=FakeClock(NOW))
    text = "\n".join(found.values())
    words = " ".join(re.findall(r"[\w@]+", text))
    assert "jobs run answers" in words and "2026-11-25" in text and "@1" not in text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("schedule", "answers@1 has no schedule"),
        ("input", "does not say where a scheduled run finds its input"),
    ],
)
def test_what_cannot_run_by_itself_is_not_exported_and_the_key_it_lacks_is_named(root, missing, said):
    frozen(root, 1, label="production", **{missing: None})
    with pytest.raises(ConfigError, match=said) as caught:
        overview.exported(root, "answers", target="cron", clock=FakeClock(NOW))
    assert f"jobs.answers.{missing}" in caught.value.hint
    assert missing in config.Job.__dataclass_fields__


def test_a_labelled_version_without_its_environment_is_named_with_the_command(root):
    frozen(root, 1)
    frozen(root, 2, label="production")
    shutil.rmtree(root / layout.ENVIRONMENTS)
    assert [spec.reference for spec in versions.without_environment(root)] == ["answers@2"]
    found = overview.overview(root, clock=FakeClock(NOW))
    assert [row["environment"] for row in found.to_json()] == ["", "missing for answers@2"]
    assert found.command == "workbench jobs install answers@2"
    assert overview.without_environment(root, "answers") == "answers@2"


def test_environments_that_no_labelled_version_needs_are_pruned(root):
    frozen(root, 1, label="production")
    frozen(root, 2, digests={**a_spec().digests, "lock": files.digest(b"older")})
    needed, old = installed(root), installed(root, b"older")
    looked = overview.prune(root, dry_run=True)
    assert [row["environment"] for row in looked.to_json()] == [str(old.relative_to(root))]
    assert old.exists() and looked.command == "workbench jobs prune"
    overview.prune(root)
    assert needed.exists() and not old.exists()
    assert "0 environments, 0 MB" in str(overview.prune(root))
