"""A small use case in a clone: reproduced once and promoted once for all tests, copied for each of them.

A test module asks for these fixtures with `pytest_plugins = ("promoted_clones",)`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clone_edits import SAMPLE, commit, edit_cells, source
from clones import ROOT, Clone

from workbench import files

#: Five questions of each tenant decide this gate, which is as honest as the shipped one and quick.
GATE = "      mvp: {accuracy: {min: 0.3}, cross_tenant_hits: {count: 0}, cases: {min: 10}, confidence: 0.9}\n"
CASES, ROWS = 5, 2


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory) -> Clone:
    """The small use case, reproduced and committed, with nothing promoted."""
    folder = tmp_path_factory.mktemp("reproduced")
    clone = Clone(folder=folder / "clone", home=folder / "home")
    clone.home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone.folder], check=True)
    (clone.folder / ".venv").symlink_to(sys.prefix)
    (clone.folder / ".git" / "info" / "exclude").write_text("/.venv\n")
    _make_small(clone.folder)
    clone.run("dvc", "repro")
    commit(clone, "A small use case")
    return clone


@pytest.fixture(scope="session")
def promoted(reproduced, tmp_path_factory) -> Clone:
    """The same with answers@1 in production, committed."""
    clone = copied(reproduced, tmp_path_factory.mktemp("promoted"))
    clone.run("workbench", "promote", "job/answers", "--commit")
    return clone


@pytest.fixture
def reproduced_clone(reproduced, tmp_path) -> Clone:
    """A copy of `reproduced` for one test."""
    return copied(reproduced, tmp_path)


@pytest.fixture
def promoted_clone(promoted, tmp_path) -> Clone:
    """A copy of `promoted` for one test."""
    return copied(promoted, tmp_path)


def copied(clone: Clone, folder: Path) -> Clone:
    shutil.copytree(clone.folder, folder / "clone", symlinks=True)
    (folder / "home").mkdir()
    return Clone(folder=folder / "clone", home=folder / "home")


def _make_small(root: Path) -> None:
    shutil.rmtree(root / "pipelines/jobs")
    shutil.rmtree(root / "results/jobs", ignore_errors=True)
    files.write_atomic(root / "pipelines/jobs/stages.yaml", b"promoted: {}\n")
    for path, most in (("data/handbook/questions.jsonl", CASES), (SAMPLE, ROWS)):
        lines = (root / path).read_text().splitlines(keepends=True)
        kept = [[line for line in lines if f'"{tenant}"' in line][:most] for tenant in ("acme", "globex")]
        (root / path).write_text("".join(line for part in kept for line in part))
    params = (root / "params.yaml").read_text()
    before, rest = params.split("      mvp:\n", 1)
    (root / "params.yaml").write_text(f"{before}{GATE}      mlvp:{rest.split('      mlvp:', 1)[1]}")
    edit_cells(root, _with_two_arms)


def _with_two_arms(cells: list[dict]) -> None:
    """The controls and the draft would be asked again for each prompt that a test tries."""
    cells[:] = [cell for cell in cells if "draft" not in source(cell)]
    (arms,) = (cell for cell in cells if "arms = " in source(cell))
    before, rest = source(arms).split(', "wrong_passage"')
    after = rest.partition("**arms}")[2]
    arms["source"] = (before + ', "candidate": {}}' + after).splitlines(keepends=True)
