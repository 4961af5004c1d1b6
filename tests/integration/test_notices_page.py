"""docs/notices.md and docs/checks.md, followed to the letter: their files, commands and code."""

from __future__ import annotations

import json
import sys

import pytest
from documented_pages import blocks_of, check_shown, copy_to, page_of, run

from workbench.config.channels import KINDS
from workbench.config.operations import OPERATIONS, load_operations
from workbench.config.output_checks import MEASURES
from workbench.notices.notice import EVENTS

NOTICES, CHECKS = page_of("notices.md"), page_of("checks.md")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copy_to(tmp_path_factory.mktemp("page"))


def test_the_page_on_notices_is_true(copy):
    (channels,) = blocks_of(NOTICES, "yaml")
    (copy / OPERATIONS).write_text(channels)
    found = load_operations(copy)
    assert {channel.kind for channel in found.channels.values()} == set(KINDS)
    assert found.of("triage").notify == ("log",)
    for block in blocks_of(NOTICES, "console"):
        command, _, shown = block.removeprefix("$ ").partition("\n")
        check_shown(run(copy, sys.executable, "-m", "workbench.cli", *command.split()[1:]), shown)
    [line] = (copy / ".workbench/state/notices.jsonl").read_bytes().splitlines()
    assert json.loads(line)["event"] == "test"
    (code,), (text,) = blocks_of(NOTICES, "python"), blocks_of(NOTICES, "text")
    assert run(copy, sys.executable, "-c", code) == text


def test_the_pages_name_every_event_kind_measure_and_key():
    named = [*EVENTS, *KINDS, *MEASURES, "then", "undecided", "model_changed"]
    pages = NOTICES + CHECKS
    assert [name for name in named if name != "test" and f"`{name}" not in pages] == []


def test_the_checks_of_the_page_are_read(copy):
    (checks,) = blocks_of(CHECKS, "yaml")
    (copy / OPERATIONS).write_text(checks)
    found = load_operations(copy).of("answers")
    assert found.checks["cost_usd"].then == "roll_back"
    assert found.checks["pii_leaks"].undecided == "hold"
    assert found.checks["rows"].then == "hold"
    assert found.model_changed == "hold"
