"""What the README shows is what happens: its card, its commands, its code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from clones import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_verdict_card_is_the_pipelines(shipped):
    shown = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL)[1]
    card = shipped.run("workbench", "gate", "answers/candidate")
    lines = [re.sub(r"  +.*", "", line) if "by tenant" in line else line for line in card.splitlines()]
    for line in shown.splitlines():
        wanted = line.rstrip(" …")
        assert any(found.startswith(wanted) for found in [*lines, *card.splitlines()]), line
    first_screen = README[: README.index(shown)].count("\n") + shown.count("\n")
    assert first_screen <= 40


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_of_the_readme_runs(block):
    code = block + "\nassert len(ws.calls())\n" if "ws.calls" in block else block
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_readme_has_code():
    assert len(BLOCKS) == 2
