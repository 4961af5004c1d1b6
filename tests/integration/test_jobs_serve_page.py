"""docs/operations.md, followed to the letter: its file is valid, its commands run, its table has each key."""

from __future__ import annotations

import dataclasses
import logging
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner
from documented_pages import blocks_of, page_of
from made_jobs import frozen, judged_repository
from made_repositories import saved

from workbench import layout, rehearsal
from workbench.cli.app import cli
from workbench.config.operations import JobOperation, Operations, load_operations
from workbench.context import SystemClock
from workbench.errors import ConfigError
from workbench.jobs.ledger import open_ledger
from workbench.scheduler.server import ServeOptions
from workbench.scheduler.starting import open_server

PAGE = page_of("operations.md")


@pytest.fixture
def root(tmp_path, monkeypatch):
    made = judged_repository(tmp_path / "repository")
    frozen(made, 1, label="production")
    monkeypatch.chdir(made)
    yield made
    logging.getLogger("workbench.scheduler").handlers.clear()  # its stream was this test's


def test_the_file_of_the_page_is_valid_and_says_what_the_page_says(root):
    (block,) = blocks_of(PAGE, "yaml")
    saved(root, "Operate", **{"pipelines/operations.yaml": block})
    found = load_operations(root)
    assert found.capacity.runs == 4 and found.of("answers").tenants == ("acme", "globex")
    assert found.of("triage").retries.times == 3  # of the defaults
    assert found.of("triage").catch_up == "none"


def test_a_server_greets_with_what_is_due_and_names_what_cannot_run_with_the_command(root):
    def greeting():
        return open_server(root, ServeOptions(once=True)).greeting

    assert re.fullmatch(r"the server of jobs serves 1 job, the next is answers at \S+ 06:00Z", greeting())
    shutil.rmtree(root / layout.ENVIRONMENTS)
    assert "answers@1 cannot run" in greeting() and "workbench jobs install answers@1" in greeting()
    told = CliRunner().invoke(cli, ["jobs", "export", "answers", "--to", "systemd"], catch_exceptions=False)
    assert "workbench jobs install answers@1" in told.stderr and told.exit_code == 0
    assert "warning" not in told.stdout
    page = root / "pipelines/jobs/answers/1/job.yaml"
    page.write_text(page.read_text().replace("task", "tusk"))
    assert greeting().startswith("the server of jobs serves"), "one bad page stops no server"


def test_the_table_names_every_key_with_its_default():
    rows = dict(re.findall(r"^\| (`.+?) \| (.+?) \|", PAGE, re.MULTILINE))
    named = {key.partition(".")[0] for cell in rows for key in re.findall(r"`([a-z_.]+)`", cell)}
    stated = {item.name for kind in (JobOperation, Operations) for item in dataclasses.fields(kind)}
    assert stated - {"jobs", "defaults"} <= named
    for key in ("catch_up", "start_deadline_s", "late_after_s", "overlap", "priority"):
        assert rows[f"`{key}`"].strip("`") == f"{getattr(JobOperation(), key)}".removesuffix(".0")


def test_the_commands_of_the_page_do_what_it_says(root, monkeypatch):
    _, _, by_hand, rehearse = blocks_of(PAGE, "console")
    ledger = open_ledger(root, SystemClock())
    with monkeypatch.context() as patch:
        patch.delenv(rehearsal.VARIABLE, raising=False)
        patch.setenv(rehearsal.VARIABLE, "")
        assert "no runs" in run(rehearse)
    dry, fill, *rest = by_hand.strip().splitlines()
    assert "would wait" in run(dry) and "fired before" not in run(fill)
    assert len(ledger.unfinished("answers")) == 3
    trigger, pause, resume = rest
    assert "20261124T060000Z" in run(trigger)
    run(pause)
    assert [item.reason for item in ledger.pauses()] == ["the inbox is wrong"]
    run(resume)
    assert ledger.pauses() == []


def test_a_server_is_warm_as_the_page_says(root, monkeypatch):
    _, warm, _, rehearse = blocks_of(PAGE, "console")
    assert warm.strip() == "$ make serve ARGS=--warm"
    monkeypatch.setenv(rehearsal.VARIABLE, "")
    assert "no runs" in run(f"{rehearse.strip()} --warm")


@pytest.mark.parametrize(
    "line",
    [
        "{templates: -1}",
        "{templates: 101}",
        "{memory_mb: 0}",
        "{idle_s: 0}",
        "{idle_s: 1.0e+12}",
        "{idle: 60}",
    ],
)
def test_a_limit_of_templates_that_no_server_could_keep_is_refused(root, line):
    (root / "pipelines/operations.yaml").write_text(f"warm: {line}\n")
    with pytest.raises(ConfigError, match="warm"):
        load_operations(root)


def run(line):
    arguments = shlex.split(line.strip().removeprefix("$ "))[1:]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output
