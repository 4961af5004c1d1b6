"""docs/memory.md, followed to the letter: its spec is saved, its code and its commands run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from clones import ROOT

PAGE = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def copy(tmp_path):
    """What the page needs of the repository."""
    for name in ("data", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (spec,) = blocks("yaml")
    folder = tmp_path / "pipelines" / "memories" / "talks"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(spec)
    return tmp_path


def run(copy, *command):
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_and_the_commands_of_the_page_do_what_it_says(copy):
    program = [sys.executable, "-m", "workbench.cli"]
    run(copy, *program, "save", "memory/talks", "--reason", "the page says so")
    code = "\n".join(blocks("python"))
    assert code.count("assert") > 6
    shown = run(copy, sys.executable, "-c", code)
    assert "added    bicycles" in shown and "Travels often." in shown
    commands = [shlex.split(line) for text in blocks("console") for line in text.splitlines()]
    assert len(commands) > 5
    for command in commands:
        assert command[0] == "workbench"

        assert run(copy, *program, *command[1:]).strip()
