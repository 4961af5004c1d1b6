"""A label's move whose command died before it was staged, or committed as ordered, and what comes next."""

from __future__ import annotations

import pytest
from made_jobs import copied, frozen, judged_repository, judged_run
from made_repositories import git

from workbench import registry
from workbench.errors import ConfigError, NotFoundError
from workbench.promotion import release
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.testing.fakes import FakeClock


class Killed(BaseException):
    """What stands for a death: nothing of ours catches it."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture
def root(judged, tmp_path):
    """Three versions, each of which was in production."""
    root = copied(judged, tmp_path / "repo")
    for number in (1, 2, 3):
        frozen(root, number, label="production")
    return root


def order(**given):
    return ReleaseOptions(**{"clock": FakeClock("2026-11-24T06:00:00Z"), **given})


def cut_off(monkeypatch, place, name, work):
    """Do `work`, and die where `name` would be called."""

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        with pytest.raises(Killed):
            work()


def moves(root, kind="job", name="answers"):
    return [move.version for move in registry.load(root, kind, name).moves]


def staged(root):
    return git(root, "diff", "--cached", "--name-only").split()


BOTH = ["pipelines/jobs/answers/asset.yaml", "pipelines/jobs/stages.yaml"]


@pytest.mark.parametrize("to", [None, 2])
@pytest.mark.parametrize("died", ["write_stages", "settle"])
def test_a_rollback_that_was_not_staged_is_finished_and_goes_no_further_back(root, monkeypatch, died, to):
    cut_off(monkeypatch, release, died, lambda: rollback(root, "job/answers", order(), to=to))
    assert staged(root) == []
    card = rollback(root, "job/answers", order(), to=to)
    assert (card.version, card.before, moves(root), staged(root)) == (2, 3, [1, 2, 3, 2], BOTH)
    release.check_stages(root)
    assert rollback(root, "job/answers", order()).version == 1


def test_a_rollback_ordered_to_be_committed_is_committed_by_the_next_one(root, monkeypatch):
    cut_off(
        monkeypatch, release.Repository, "commit", lambda: rollback(root, "job/answers", order(commit=True))
    )
    before = git(root, "rev-parse", "HEAD")
    card = rollback(root, "job/answers", order(commit=True))
    assert (card.version, moves(root)) == (2, [1, 2, 3, 2])
    assert git(root, "rev-parse", "HEAD~1") == before and git(root, "status", "--porcelain") == ""
    assert rollback(root, "job/answers", order(commit=True)).version == 1


def test_a_promotion_that_was_not_staged_is_undone_by_a_rollback_and_not_finished(root, monkeypatch):
    rollback(root, "job/answers", order(commit=True), to=1)
    cut_off(monkeypatch, release, "settle", lambda: promote(root, "job/answers@3", order()))
    assert rollback(root, "job/answers", order(dry_run=True)).version == 1


@pytest.mark.parametrize("reference", ["job/answers@2", "prompt/answer@2", "memory/handbook@1"])
def test_a_version_whose_label_was_not_staged_is_promoted_by_the_same_command(
    judged, tmp_path, monkeypatch, reference
):
    root = copied(judged, tmp_path / "repo")
    judged_run(root)
    kind, name = reference.partition("@")[0].split("/")
    if kind == "job":
        frozen(root, 2)

    def again():
        return promote(root, reference, order())

    cut_off(monkeypatch, release, "settle", again)
    assert staged(root) == []
    again()
    assert len(moves(root, kind, name)) == 1
    assert f"pipelines/{registry.FOLDERS[kind]}/{name}/asset.yaml" in staged(root)
    with pytest.raises(ConfigError, match="is in production already"):
        again()


def test_what_dead_writers_left_beside_the_labels_is_removed_and_not_staged(root):
    places = "pipelines/jobs/answers/.asset.yaml.0123abcd", "pipelines/jobs/.stages.yaml.0123abcd"
    left = [root / place for place in places]
    for path in left:
        path.write_text("half a pa")
    rollback(root, "job/answers", order())
    assert not any(path.exists() for path in left) and staged(root) == BOTH


def test_the_first_version_has_nothing_before_it_however_often_one_asks(root):
    rollback(root, "job/answers", order(), to=1)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="has never had another version"):
            rollback(root, "job/answers", order())
