"""docs/rollout.md, followed to the letter: its operations and commands, and the keys that it names."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys

from documented_pages import blocks_of, page_of
from made_jobs import frozen, judged_repository
from made_repositories import saved

from workbench import registry
from workbench.config.operations import load_operations
from workbench.config.rollout import GUARDS, Rollout

PAGE = page_of("rollout.md")


def followed(root, block):
    """Run the commands of a console block; return their exit codes and outputs."""
    found = []
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("$ "))
        command = [sys.executable, "-m", "workbench.cli", *words[1:]]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
        found.append((done.returncode, done.stdout + done.stderr))
    return found


def test_what_the_page_says_is_so(tmp_path):
    root = judged_repository(tmp_path / "repository")
    frozen(root, 1, label="production")
    frozen(root, 2)
    (operations,) = blocks_of(PAGE, "yaml")
    saved(root, "Operations", **{"pipelines/operations.yaml": operations})
    stated = load_operations(root).of("answers")
    assert (stated.rollout.usd, stated.rollback.commit) == (5.0, True)
    rollout, off = blocks_of(PAGE, "console")
    (shadow, canary, shown, promoted) = followed(root, rollout)
    assert [code for code, _ in (shadow, canary, shown, promoted)] == [0, 0, 4, 0], (shadow, canary, shown)
    assert "answers@2 in canary against @1: undecided" in shown[1]
    assert registry.load(root, "job", "answers").labels == {"production": 2}
    ((code, said),) = followed(root, off)
    assert code == 0 and "has no version in production" in said
    ((code, said),) = followed(root, "$ workbench jobs run answers --input data/inbox/sample.jsonl")
    assert code and "switched off" in said and "workbench promote job/answers@2" in said


def test_the_page_names_every_key_and_guard():
    keys = [item.name for item in dataclasses.fields(Rollout)]
    assert not [name for name in (*keys, *GUARDS) if f"`{name}`" not in PAGE]
