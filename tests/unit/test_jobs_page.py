"""The page of jobs, their card and their frame: what is shown, what is said where nothing was measured."""

from __future__ import annotations

import dataclasses
import datetime as dt
import html.parser
import re
from types import SimpleNamespace

import pytest
from made_job_runs import NOW, daily, many

from workbench import registry
from workbench.cli.app import cli
from workbench.config.operations import JobOperation
from workbench.errors import NotFoundError
from workbench.jobs.health import JobHealth
from workbench.jobs.ledger import Pause, PostedNotice, Slot, Withdrawal, open_ledger
from workbench.jobs.schedule import Schedule
from workbench.jobs.status import JobStatus, jobs_frame, status_card, statuses
from workbench.pipeline import jobs_page as module
from workbench.pipeline.jobs_charts import ShownDays, charts
from workbench.pipeline.jobs_page import jobs_page, write_jobs_page
from workbench.registry import Asset, Move, VersionEntry
from workbench.testing.fakes import FakeClock

VOID = {"meta", "line", "rect", "polyline", "br"}


class Balanced(html.parser.HTMLParser):
    """Reads a page, and keeps its tags, its text and what is open."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def asset(*moves, name="answers", versions=(6, 7)):
    entries = {n: VersionEntry(digest="d", author="Ada", reason=f"reason {n}") for n in versions}
    labels = {move.label: move.version for move in moves}
    return Asset(kind="job", name=name, versions=entries, labels=labels, moves=moves)


LIVE = Move(
    label="production", version=7, by="Ada", at="2026-11-20T15:00:00+00:00", reason="better <b>answers</b>"
)


def status(runs=(), *, job="answers", page=None, scheduled=True, **rest):
    operation = JobOperation()
    page = asset(LIVE, name=job) if page is None else page
    schedule = Schedule.parse("0 6 * * *", where="test") if scheduled else None
    health = JobHealth.of(runs, operation, NOW, scheduled=scheduled, expected=28)
    values = {"gates": {7: "pass"}, **rest}
    return JobStatus(
        job=job, asset=page, operation=operation, schedule=schedule, runs=tuple(runs), health=health, **values
    )


def shown(*found):
    """The page of these jobs, read; every tag is closed."""
    page = Balanced()
    page.feed(jobs_page(found, NOW).decode())
    page.close()
    assert page.open == []
    return page


def text_of(page):
    return " ".join(" ".join(page.text).split())


def test_a_job_without_runs_says_so_and_shows_no_number():
    text = text_of(shown(status()))
    assert "There are no runs yet on this machine" in text and "no runs yet" in text
    assert "version 7, due next 2026-12-01 06:00Z" in text
    assert "error budget" not in text and "0 of 0" not in text and "nan" not in text.lower()
    assert not re.search(r"\bNone\b|\b0 USD", text)


def test_a_repository_without_jobs_says_so():
    assert "No job is declared" in text_of(shown())


def test_a_job_that_was_never_promoted_shows_the_command():
    text = text_of(
        shown(status(page=Asset(kind="job", name="answers", versions={}), scheduled=False, gates={}))
    )
    assert "no version" in text and "workbench promote job/answers --to production" in text
    assert "No label of this job ever moved" in text


def test_the_section_of_a_job_shows_objective_budget_times_versions_and_changes():
    text = text_of(shown(status(daily("failed", "held", *["published"] * 8))))
    assert "fail The objective is missed" in text and "used up: 2 of 1.4 bad slots" in text
    assert "95 % of the slots of 28 days are published within 3600 s" in text
    assert "8 of 10 [0.493, 0.963]" in text and "median 41 s, 95 % within 41 s" in text
    assert "production is version 7 2026-11-20 15:00Z, Ada better <b>answers</b>" in text
    assert "8 good, 0 late, 2 bad" in text and "0.2 USD" in text


def test_what_stops_a_job_and_who_was_told_is_on_the_page():
    at = dt.datetime(2026, 11, 29, 7, tzinfo=dt.UTC)
    page = shown(
        status(
            pauses=(Pause(job="answers", tenant="acme", version=0, by="Ada", reason="audit", at=at),),
            withdrawals=(
                Withdrawal(job="answers", version=7, by="job:answers", reason="worse", evidence="", at=at),
                Withdrawal(job="answers", version=3, by="Ada", reason="old", evidence="", at=at),
            ),
            notices=(
                PostedNotice(key="k", job="answers", event="rolled_back", channels=("oncall",), posted_at=at),
            ),
        )
    )
    text = text_of(page)
    assert "the job is paused for acme since 2026-11-29 07:00Z: audit" in text
    assert "version 7 is withdrawn and does not run: worse" in text
    assert "version 3 is withdrawn and does not run" not in text  # no label names it
    assert "notice: rolled back 2026-11-29 07:00Z, to oncall" in text
    changes = text.partition("What changed when")[2]
    assert changes.index("version 3 is withdrawn") < changes.index("production is version 7")  # newest first


def test_the_checks_of_the_newest_checked_run_are_shown_and_an_undecided_one_is_said():
    checks = [
        {"name": "input_drift", "state": "breach", "value": 0.43218, "bound": "at most 0.2", "then": "hold"},
        {"name": "grounded", "state": "undecided", "value": None, "bound": "at least 0.8", "then": "tell",
         "note": "no passages"},
    ]  # fmt: skip
    facts = {"checks": checks, "model_changed": ["asked a, answered b"]}
    runs = daily("published", "held", "failed")
    runs[1] = dataclasses.replace(runs[1], facts=facts)
    text = text_of(shown(status(runs)))
    assert "input_drift 0.432 at most 0.2, else hold breach" in text
    assert "grounded undecided at least 0.8, else tell undecided no passages" in text
    assert "asked a, answered b" in text and "Of the run for 2026-11-29 06:00Z" in text
    assert "No output was checked" in text_of(shown(status(daily("published"))))


def test_approvals_are_in_the_timeline_and_one_that_does_not_count_is_said(repository, monkeypatch):
    def approvals_of(root, job, version, label, *, now):
        assert (job, version, label) == ("answers", 7, "candidate")  # whatever label it is for
        counted = SimpleNamespace(
            at="2026-11-19T09:00:00Z", label="production", until="2027-01-01", principal="bo@example.org",
            reason="read it",
        )  # fmt: skip
        return SimpleNamespace(counted=(counted,), refused=(("approval-1", "it expired"),))

    monkeypatch.setattr(module, "approvals_of", approvals_of)
    registry.write(repository, asset(LIVE))
    path = write_jobs_page(repository, clock=FakeClock(NOW.isoformat()))
    page = Balanced()
    page.feed(path.read_text())
    assert "version 7 is approved for production, until 2027-01-01 2026-11-19 09:00Z, bo read it" in text_of(
        page
    )
    assert "version 7: approval-1 does not count 2026-11-30 16:00Z it expired" in text_of(page)
    assert "example.org" not in text_of(page)


def test_every_text_is_escaped():
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    runs = [dataclasses.replace(run, detail=evil) for run in daily("failed", "published")]
    move = dataclasses.replace(LIVE, by=evil, reason=evil)
    page = shown(status(runs, page=asset(move), problem=evil))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img"} and not any(
        name.startswith("on") for _, a in page.tags for name in a
    )
    assert text_of(page).count("<script>alert(1)</script>") == 5  # of two runs, by, reason and problem


def test_the_page_asks_for_nothing_from_elsewhere():
    page = jobs_page([status(daily("published"))], NOW).decode()
    assert "<script" not in page and "http" not in page and "url(" not in page and "@import" not in page


def test_the_page_of_many_slots_is_as_long_as_that_of_few():
    few, most = (len(jobs_page([status(many(n))], NOW)) for n in (300, 3_000))
    assert most < few * 2


def test_drift_is_drawn_from_the_facts_of_the_runs_and_a_breach_is_counted():
    def checked(value, state):
        return {"checks": [{"name": "input_drift", "value": value, "state": state}]}

    runs = daily(*["published"] * 4)
    facts = [checked(0.4, "breach"), checked(0.1, "pass"), checked(None, "undecided"), {}]
    runs = [dataclasses.replace(run, facts=fact) for run, fact in zip(runs, facts, strict=True)]
    window = ShownDays(first=NOW - dt.timedelta(days=28), last=NOW)
    found = {chart.title: chart for chart in charts(status(runs).health, window, seconds=3600.0)}
    chart = found["Drift of the input"]
    assert chart.summary == "at most 0.4, beyond its bound in 1 of 2 runs"
    assert [bar.colour for bar in chart.bars] == ["line", "fail"] and "Drift of the answers" not in found


def test_shapes_stay_inside_of_their_charts_whatever_the_budget():
    for runs in (many(2_500), daily(*["failed"] * 28), daily("published"), daily("failed", "running")):
        window = ShownDays(first=NOW - dt.timedelta(days=28), last=NOW)
        found = charts(status(runs).health, window, seconds=3600.0)
        assert found[0].title == "Slots" and found[0].bars
        for chart in found:
            boxes = [tuple(map(float, (b.x, b.y, b.width, b.height))) for b in chart.bars]
            ends = [end for x, y, width, height in boxes for end in (x, y, x + width, y + height)]
            ends += [float(n) for point in chart.line.split() for n in point.split(",")]
            ends += [float(tick.y) for tick in chart.ticks] + ([float(chart.rule)] if chart.rule else [])
            assert all(-0.01 <= end <= 100.01 for end in ends), chart.title


def test_the_charts_of_outcomes_count_every_slot():
    window = ShownDays(first=NOW - dt.timedelta(days=28), last=NOW)
    found = status(daily("skipped", "failed", *["published"] * 5, "running")).health
    assert charts(found, window, seconds=3600.0)[0].summary == (
        "5 good, 0 late, 1 bad, 1 not ended yet, 1 left out by the job's own rules"
    )
    assert charts(status().health, window, seconds=3600.0) == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a declared job, and one promoted version whose page is unreadable."""
    params = 'jobs:\n  answers: {use_case: a, sample: s.jsonl, schedule: {cron: "0 6 * * *"}}\n'
    (tmp_path / "params.yaml").write_text(CASE + params)
    monkeypatch.chdir(tmp_path)
    return tmp_path


CASE = """\
use_cases:
  a: {title: A, purpose: p, owner: o, phase: mvp, notebook: n.ipynb, tenants: [acme], data: d, model: m,
      report: reports/a, parameters: {}, gates: {mvp: {accuracy: {min: 0.5}}}}
"""


def finished(root, *outcomes, clock):
    """Runs of the last days in the ledger of a repository."""
    ledger = open_ledger(root, clock)
    for n, outcome in enumerate(outcomes):
        at = NOW.replace(hour=6) - dt.timedelta(days=len(outcomes) - 1 - n)
        ledger.claim(Slot(job="answers", tenant="", at=at), run=f"r{n}", version=1, input_digest="i")
        ledger.finished(f"r{n}", outcome, rows=10, quarantined=1, cost_usd=0.5)


def test_the_status_is_read_from_the_ledger_and_the_registry(repository):
    clock = FakeClock(NOW.isoformat())
    assert statuses(repository, clock=clock)[0].runs == ()
    finished(repository, "failed", "published", clock=clock)
    found = statuses(repository, "answers", clock=clock)
    assert [run.outcome for run in found[0].runs] == ["published", "failed"]
    row = status_card(repository, clock=clock).to_json()[0]
    assert row["job"] == "answers" and row["good slots"] == "1 of 2" and row["cost USD"] == "1"
    with pytest.raises(NotFoundError, match="nowhere"):
        statuses(repository, "nowhere", clock=clock)


def test_the_frame_has_nulls_where_nothing_was_measured(repository):
    clock = FakeClock(NOW.isoformat())
    assert jobs_frame(repository, clock=clock).is_empty()  # declared, and no version of it
    finished(repository, "failed", "published", clock=clock)
    row = jobs_frame(repository, clock=clock).row(0, named=True)
    assert (row["job"], row["version"], row["slots"], row["good"], row["success"]) == (
        "answers",
        1,
        2,
        1,
        0.5,
    )
    assert row["success_low"] < 0.5 < row["success_high"] and row["since"] is None and row["gate"] == ""
    finished(repository, clock=clock)
    assert jobs_frame(repository, clock=FakeClock("2027-06-01T00:00:00+00:00")).is_empty()


def test_the_command_writes_the_page_and_names_it(repository):
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, ["jobs", "report", "--json"], catch_exceptions=False)
    assert done.exit_code == 0 and "reports/jobs.html" in done.output
    assert b"There are no runs yet" in (repository / "reports/jobs.html").read_bytes()
    done = CliRunner().invoke(cli, ["jobs", "status"], catch_exceptions=False)
    assert done.exit_code == 0 and "no runs yet" in done.output


def test_a_page_for_another_place_is_written_there_alone(repository, tmp_path):
    written = write_jobs_page(repository, path=tmp_path / "here.html", clock=FakeClock(NOW.isoformat()))
    assert written.read_bytes().startswith(b"<!DOCTYPE html>")
    assert not (repository / "reports").exists()
