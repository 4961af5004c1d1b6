"""A version has one label of a trial at a time, whichever way it moves, and none in production."""

from __future__ import annotations

import pytest
from made_repositories import git

from workbench import registry
from workbench.promotion.release import LabelMove, write_move
from workbench.registry import Asset, VersionEntry
from workbench.testing.fakes import FakeClock

ENTRY = VersionEntry(digest="0" * 64, author="ada", reason="r")


@pytest.fixture
def root(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "ada")
    git(tmp_path, "config", "user.email", "ada@example.com")
    registry.write(tmp_path, Asset(kind="job", name="answers", versions=dict.fromkeys((1, 2, 3), ENTRY)))
    return tmp_path


def moved(root, *steps):
    """Return the labels after moves such as `shadow 2`."""
    for step in steps:
        label, number = step.split()
        asset = registry.load(root, "job", "answers")
        write_move(root, asset, LabelMove(label=label, version=int(number), reason="r"), clock=FakeClock())
    return registry.load(root, "job", "answers").labels


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        (("shadow 2", "canary 2"), {"canary": 2}),
        (("canary 2", "shadow 2"), {"shadow": 2}),
        (("canary 2", "shadow 2", "canary 2"), {"canary": 2}),
        (("canary 2", "production 2"), {"production": 2}),
        (("shadow 2", "production 2"), {"production": 2}),
        (("canary 2", "shadow 3"), {"canary": 2, "shadow": 3}),
        (("canary 2", "canary 0", "canary 2"), {"canary": 2}),  # it was withdrawn, and restored
        (("canary 2", "candidate 2"), {"canary": 2, "candidate": 2}),
    ],
)
def test_a_version_has_one_trial_at_a_time(root, steps, labels):
    assert moved(root, "production 1", *steps) == {"production": 1, **labels}
    trials = [move.label for move in registry.load(root, "job", "answers").moves if move.version]
    assert trials == ["production", *(step.split()[0] for step in steps if not step.endswith(" 0"))]


def test_a_trial_that_ends_by_a_move_says_why(root):
    moved(root, "production 1", "canary 2", "shadow 2")
    asset = registry.load(root, "job", "answers")
    assert (
        asset.last_move("canary").reason == "answers@2 is shadow" and asset.last_move("canary").version == 0
    )
