"""A small use case in a clone: reproduced once and promoted once in a run, copied for each test.

A test module asks for these fixtures with `pytest_plugins = ("promoted_clones",)`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from clone_edits import INBOX, SAMPLE, commit, edit_cells, next_command, source, without_use_case
from clones import Clone
from killed_commands import Watched
from made_once import made_once

from workbench import files

#: Three questions of each tenant decide this gate: five right of six pass, none right fails.
GATE = "      mvp: {accuracy: {min: 0.4}, cross_tenant_hits: {count: 0}, cases: {min: 6}, confidence: 0.9}\n"
CASES = [f"{tenant}-{number}" for tenant in ("acme", "globex") for number in ("001", "003", "005")]
#: The sample's rows are cases, so that a promotion finds their answers on the judge's tape. Each run of the
#: job asks its rows anew: one of each tenant, whose answer has few words and takes a second.
ROWS, UNSEEN = ["acme-003", "globex-005"], 3


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory) -> Clone:
    """The small use case, reproduced and committed, with nothing promoted."""

    def make(folder: Path) -> None:
        clone = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(folder)
        _make_small(clone.folder)
        clone.run("dvc", "repro")
        commit(clone, "A small use case")

    return Clone.at(made_once(tmp_path_factory, "reproduced", make))


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A clone after a promotion, and what was seen on the way.

    `said` is the promotion's output, `steps` are its steps, as `killed_commands` notes them, and `staged` is
    git's status after it.
    """

    clone: Clone
    said: str
    steps: list[str]
    staged: str


@pytest.fixture(scope="session")
def promoted(reproduced, tmp_path_factory) -> Promotion:
    """answers@1 in production, as a user brings it there: promote, commit as told."""

    def make(folder: Path) -> None:
        watched = Watched.of(reproduced, folder)
        clone = watched.clone
        steps = watched.finished("workbench", "promote", "job/answers", "--to", "production")
        said, staged = watched.said(), clone.status()
        clone.run("sh", "-c", next_command(said))
        seen = {"said": said, "steps": steps, "staged": staged}
        (folder / "seen.json").write_text(json.dumps(seen))

    folder = made_once(tmp_path_factory, "promoted", make)
    return Promotion(clone=Clone.at(folder), **json.loads((folder / "seen.json").read_text()))


@pytest.fixture
def small_clone(reproduced, tmp_path) -> Clone:
    """What `reproduced` committed, as a new clone has it: no results and no cache."""
    clone = reproduced.copied(tmp_path)
    clone.run("git", "clean", "-dfxq", "--exclude=.venv", "--exclude=__pycache__")
    return clone


@pytest.fixture
def reproduced_clone(reproduced, tmp_path) -> Clone:
    """A copy of `reproduced` for one test."""
    return reproduced.copied(tmp_path)


@pytest.fixture
def promoted_clone(promoted, tmp_path) -> Clone:
    """A copy of `promoted` for one test."""
    return promoted.clone.copied(tmp_path)


def _make_small(root: Path) -> None:
    shutil.rmtree(root / "pipelines/jobs")
    shutil.rmtree(root / "results/jobs", ignore_errors=True)
    files.write_atomic(root / "pipelines/jobs/stages.yaml", b"promoted: {}\n")
    without_use_case(root, "triage")  # each `dvc repro` would judge and explore it too
    (root / "dvc.lock").unlink()  # DVC reads all of it in each command, the stages that are gone too
    questions = root / "data/handbook/questions.jsonl"
    lines = {json.loads(line)["id"]: line for line in questions.read_text().splitlines(keepends=True)}
    questions.write_text("".join(line for name, line in lines.items() if name in CASES))
    kept = [
        {k: v for k, v in json.loads(lines[name]).items() if k not in {"page", "answers"}} for name in ROWS
    ]
    (root / SAMPLE).write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    inbox = pl.read_parquet(root / INBOX)
    pl.concat([inbox.head(UNSEEN), inbox.tail(1)]).write_parquet(root / INBOX)  # the last row is broken
    params = (root / "params.yaml").read_text()
    assert params.count("    concurrency: 2\n") == 1
    params = params.replace("    concurrency: 2\n", "    concurrency: 1\n")  # each more starts a server
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
