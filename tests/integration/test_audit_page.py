"""docs/audit.md, followed to the letter: its code and its commands run."""

from __future__ import annotations

import shlex
import sys

from click.testing import CliRunner
from documented_pages import blocks_of, copy_to, page_of, run

from workbench.cli.app import cli

PAGE = page_of("audit.md")


def called(commands: str) -> list[str]:
    """Return the outputs of the commands of a block."""
    done = [CliRunner().invoke(cli, shlex.split(line)[2:]) for line in commands.splitlines()]
    assert [result.exit_code for result in done] == [0] * len(done), done
    return [result.stdout for result in done]


def test_the_code_and_the_commands_of_the_page_do_what_it_says(tmp_path, monkeypatch):
    copy = copy_to(tmp_path)
    monkeypatch.chdir(copy)
    first, second = blocks_of(PAGE, "python")
    commands, of_content = blocks_of(PAGE, "console")
    run(copy, sys.executable, "-c", first)
    show, chosen, export, verify = called(commands)
    assert "model.chat" in show and "acme" in chosen and "audit-2026" in export
    assert "PASS" in verify and "cust-4711" not in show
    (block,) = blocks_of(PAGE, "yaml")
    params = copy / "params.yaml"
    params.write_text(params.read_text().replace("\n  answers:\n", f"\n  answers:\n    {block}", 1))
    assert "content" in run(copy, sys.executable, "-c", second)
    listed, erased, purged = called(of_content)
    assert "sealed" in listed and "destroyed" in erased and "removed 0" in purged
