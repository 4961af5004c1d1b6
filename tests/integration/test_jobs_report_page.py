"""docs/jobs-page.md, followed to the letter on a ledger with runs: its commands, its frame, its settings."""

from __future__ import annotations

import datetime as dt

import pytest
from click.testing import CliRunner
from clones import ROOT
from documented_pages import blocks_of, check_shown, copy_to, page_of

import workbench as wb
from workbench import registry
from workbench.cli.app import cli
from workbench.config.operations import OPERATIONS, load_operations
from workbench.context import SystemClock
from workbench.jobs.ledger import Slot, open_ledger

PAGE = page_of("jobs-page.md")
LIVE = registry.load(ROOT, "job", "answers").labels["production"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of this repository without its pipeline's results, where yesterday's run failed once."""
    copy = copy_to(tmp_path_factory.mktemp("jobs"))
    for name in ("dvc.yaml", "notebooks"):
        (copy / name).symlink_to(ROOT / name)
    (copy / OPERATIONS).write_text("\n".join(blocks_of(PAGE, "yaml")))
    ledger, now = open_ledger(copy, SystemClock()), dt.datetime.now(dt.UTC).replace(microsecond=0)
    for days, outcome in ((2, "published"), (1, "failed"), (1, "published"), (0, "held")):
        slot = Slot(job="answers", tenant="", at=now - dt.timedelta(days=days))
        run = f"{days}{outcome}"
        ledger.claim(slot, run=run, version=LIVE, input_digest="i")
        ledger.finished(run, outcome, rows=4, quarantined=1, cost_usd=0.25, detail=f"<b>{outcome}</b>")
    return copy


def test_the_commands_of_the_page_show_what_it_says(repository, monkeypatch):
    monkeypatch.chdir(repository)
    told = {}
    for block in blocks_of(PAGE, "console"):
        lines = block.splitlines()
        for line in (line for line in lines if line.startswith("$ ")):
            done = CliRunner().invoke(cli, line.split()[2:], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            told[line] = done.output
            if shown := "\n".join(text for text in lines if not text.startswith("$ ")):
                check_shown(done.output, shown)
    assert (
        "2 of 3" in told["$ workbench jobs status"]
        and "used up: 1 of 0.28" in told["$ workbench jobs status"]
    )
    assert "0 removed" in told["$ workbench jobs purge"]
    page = (repository / "reports/jobs.html").read_text()
    assert "&lt;b&gt;held&lt;/b&gt;" in page and "2 of 3" in page and "<b>" not in page
    assert "There are no runs yet" in page  # of the other job


def test_the_frame_of_the_page_has_a_row_for_each_version(repository, monkeypatch):
    monkeypatch.chdir(repository)
    ws = wb.connect("answers")
    frame = eval(blocks_of(PAGE, "python")[0], {"ws": ws})
    ws.close()
    assert set(frame["job"]) == {"answers", "triage"} and frame.height >= 11
    row = frame.filter((frame["job"] == "answers") & (frame["version"] == LIVE)).row(0, named=True)
    assert (row["slots"], row["good"], row["cost_usd"], row["gate"]) == (3, 2, 1.0, "pass")
    assert row["labels"] == ["production"] and row["budget_left"] < 0
    assert frame.filter(frame["job"] == "triage")["success"].null_count() == frame["job"].to_list().count(
        "triage"
    )


def test_the_settings_of_the_page_are_valid_and_its_defaults_are_those_of_the_code(repository):
    found = load_operations(repository)
    assert (found.of("answers").objective.success, found.of("triage").objective.seconds) == (0.99, 3600)
    assert (found.retention.executed_days, found.retention.history_days) == (30, 400)
    default = load_operations(repository / "nowhere").of("answers").objective
    for name in ("success", "seconds", "days"):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.rstrip(" |").endswith(f"| {getattr(default, name):g}")
