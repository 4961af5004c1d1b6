"""docs/deploy.md, followed to the letter: its exports, its commands, its keys and its tables."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner
from clones import ROOT
from documented_pages import blocks_of, copy_to, page_of

from workbench.cli.app import cli
from workbench.config.operations import OPERATIONS, load_operations
from workbench.jobs.overview import TARGETS
from workbench.repository.fingerprint import Fingerprint

PAGE = page_of("deploy.md")
COMMANDS = [line.removeprefix("$ ") for block in blocks_of(PAGE, "console") for line in block.splitlines()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    copy = copy_to(tmp_path_factory.mktemp("deploy"))
    shutil.copytree(ROOT / "locks", copy / "locks")
    return copy


def test_the_exports_of_the_page_write_the_files_that_it_lists(copy, monkeypatch):
    monkeypatch.chdir(copy)
    said = ""
    for line in "".join(blocks_of(PAGE, "bash")).splitlines():
        done = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
        said += done.stdout
    (listed,) = blocks_of(PAGE, "text")
    assert said == listed
    assert all((copy / name).is_file() for name in listed.splitlines())


def test_each_scheduler_has_a_line_in_the_tables_of_the_page():
    assert re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE) == [*TARGETS, *TARGETS]


def test_the_commands_with_containers_are_those_of_the_files_they_are_about():
    told = "\n".join(
        (ROOT / "pipelines/deploy" / name).read_text()
        for name in ("Dockerfile", "jobs/compose.yaml", "jobs/kubernetes/deployment.yaml")
    )
    for command in COMMANDS:
        assert f"#   {command}" in told, command
        for path in re.findall(r"(?:pipelines|locks)/[\w./]+", command):
            assert (ROOT / path).exists(), path


def test_the_key_of_the_page_decides_on_another_environment(copy):
    (block,) = blocks_of(PAGE, "yaml")
    (copy / OPERATIONS).write_text(block)
    assert load_operations(copy).of("answers").parity == "refuse"


def test_the_table_of_the_fingerprint_has_every_part():
    rows = PAGE.partition("| must match |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z]+)`", rows)) == {field.name for field in dataclasses.fields(Fingerprint)}
