"""Odd arguments of commands are one error of ours with the next command, never a traceback."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner
from small_use_case import NOTEBOOK, small_repository

from workbench.cli import app
from workbench.errors import WorkbenchError

pytestmark = pytest.mark.timeout(60)
LONG = "x" * 300
DIGITS = "9" * 5_000


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_repository(tmp_path_factory.mktemp("small"))


@pytest.fixture
def ended(root, monkeypatch, capsys):
    """Run a command as the console script does; return its exit code and what it printed as an error."""
    monkeypatch.chdir(root)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as done:
            app.main()
        return done.value.code, capsys.readouterr().err

    return run


#: Commands with a place for a name, which is `…`.
NAMED = (
    "run …", f"run {NOTEBOOK} --use-case …", f"run {NOTEBOOK} -p …", "compare … …", "gate …", "save …",
    "save prompt/…", "save memory/…", "save model/…", "save job/…", "report …", "promote …", "promote job/…",
    "promote prompt/…", "promote prompt/brief@1 --to …", "rollback …", "rollback job/…",
    "rollback prompt/brief --label …", "jobs run …", "jobs run … --at 2026-11-24", "jobs history …",
    "jobs export … --to cron", "jobs install …", "memory ingest …", "memory ingest --tenant …",
    "memory ingest --use-case …", "memory ingest --memory …", "memory restore …", "memory search x --as-of …",
    "memory stats --memory …", "memory versions --tenant …", "memory diff --sources --tenant …",
)  # fmt: skip


@pytest.mark.parametrize("command", NAMED)
def test_a_name_that_is_none_is_one_error_with_the_next_command(ended, command):
    for name in (LONG, "../x", "", f"x@{DIGITS}", "\udcff"):
        code, error = ended(*(word.replace("…", name) for word in command.split(" ")))
        assert code in {2, 3}, (name[:9], code, error)
        assert error.startswith("error: ") and "\n  -> " in error, (name[:9], error)
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compare a b --margin nan", "--margin nan is not a number from 0"),
        ("compare a b --margin inf", "--margin inf"),
        ("compare a b --margin -1", "--margin -1.0"),
        ("gate small/candidate --out .", "--out . is not the name of a file"),
        ("gate small/candidate --out /", "--out / is not"),
        ("gate small/candidate --out data", "--out data is not"),
        ("gate small/candidate --out none/gate.json", "mkdir -p none"),
        (f"gate small/candidate --out {LONG}", "more than 240 bytes"),
        (f"run {NOTEBOOK} --tape .", "--tape . is not the name of a file"),
        (f"run {NOTEBOOK} --tape none/tape.jsonl", "mkdir -p none"),
        (f"jobs export answers --to cron --out {LONG}", "more than 240 bytes"),
        (f"memory snapshot {LONG}", "more than 240 bytes"),
        (f"memory snapshot a/{LONG}", "more than 240 bytes"),
        (f"memory restore {DIGITS}", "more than 240 bytes"),
        ("memory search x --as-of 2026-02-30", "as_of: '2026-02-30' is not a day"),
        ("memory search x --as-of 20261124", "as_of: '20261124' is not a day"),
        ("memory search x --as-of=", "--as-of= is empty"),
        ("memory ingest --use-case=", "--use-case= is empty"),
        ("repro --live --ask 2", "ASK=2"),
        ("repro --ask 2 --memory weaviate", "--ask need the pipeline's own memory"),
    ],
)
def test_an_argument_out_of_bounds_is_one_error_with_the_next_command(ended, command, said):
    code, error = ended(*command.split(" "))
    assert code == 2 and error.startswith("error: ") and said in error and "\n  -> " in error
    assert not os.path.lexists("none")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_day_are_days(root, monkeypatch, day):
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app.cli, ["memory", "search", "taxi", "--as-of", day])
    assert done.exit_code == 0 and not isinstance(done.exception, WorkbenchError)


def test_an_empty_reason_is_no_mistake():
    for words in (["save", "prompt/brief", "--reason", ""], ["save", "prompt/brief", "--reason="]):
        assert app._checked(words) == words


@pytest.mark.parametrize("number", ["-1", "many"])
def test_a_number_of_questions_is_one(root, monkeypatch, number):
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app.cli, ["repro", "--ask", number])
    assert done.exit_code == 2 and "--ask" in done.output


@pytest.mark.parametrize("limit", ["0", "-1", "9" * 20, "many"])
def test_a_history_has_a_number_of_runs(root, monkeypatch, limit):
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app.cli, ["jobs", "history", "answers", "--limit", limit])
    assert done.exit_code == 2 and "--limit" in done.output
