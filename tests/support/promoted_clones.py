"""A small use case in a clone: reproduced once and promoted once in a run, copied for each test.

A test module asks for these fixtures with `pytest_plugins = ("promoted_clones",)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from clone_edits import commit, edit_cells, make_small, next_command, source
from clones import Clone
from killed_commands import Watched
from made_once import made_once

#: Three questions of each tenant decide the gate: five right of six pass, none right fails.
CASES = [f"{tenant}-{number}" for tenant in ("acme", "globex") for number in ("001", "003", "005")]
#: The sample's rows are cases, so that a promotion finds their answers on the judge's tape. Each run of the
#: job asks its rows anew: one of each tenant, whose answer has few words and takes a second.
ROWS = ["acme-003", "globex-005"]


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory) -> Clone:
    """The small use case, reproduced and committed, with nothing promoted."""

    def make(folder: Path) -> None:
        clone = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(folder)
        make_small(clone.folder, cases=CASES, rows=ROWS)
        edit_cells(clone.folder, _with_two_arms)
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


def _with_two_arms(cells: list[dict]) -> None:
    """The controls and the draft would be asked again for each prompt that a test tries."""
    cells[:] = [cell for cell in cells if "draft" not in source(cell)]
    (arms,) = (cell for cell in cells if "arms = " in source(cell))
    before, rest = source(arms).split(', "wrong_passage"')
    after = rest.partition("**arms}")[2]
    arms["source"] = (before + ', "candidate": {}}' + after).splitlines(keepends=True)
