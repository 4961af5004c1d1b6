"""A version that is taken back: by one call, or finished after a kill at any of its steps."""

from __future__ import annotations

import dataclasses

import pytest
from made_jobs import copied, frozen, judged_repository
from made_repositories import git

from tests.support import sizes
from workbench import files, registry
from workbench.attestations.folder import read
from workbench.attestations.keys import SigningKey
from workbench.attestations.statement import Statement
from workbench.audit import Filter, acts, rows_of
from workbench.errors import NotFoundError, UnavailableError
from workbench.jobs.ledger import open_ledger
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.roles import WITHDRAWALS
from workbench.layout import AUDIT, AUDIT_KEYS
from workbench.promotion import release
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.promotion.withdrawal import finish_withdrawals, take_back
from workbench.repository.git import Repository
from workbench.testing.fakes import FakeClock

WHY = "success is worse"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """answers@1 and answers@2 were in production, answers@3 is; answers@2 is the canary."""
    root = judged_repository(tmp_path_factory.mktemp("withdrawal") / "repository")
    (root / ".gitignore").write_text("/.workbench/\n")
    for number in (1, 2, 3):
        frozen(root, number, label="production")
    order = ReleaseOptions(label="canary", show=False, commit=True, clock=FakeClock())
    promote(root, "job/answers@2", order)
    SigningKey.load(root, "job:answers", environment={})  # the copies sign the same bytes
    return root


@pytest.fixture
def root(template, tmp_path):
    return copied(template, tmp_path / "repository")


def labels(root):
    return registry.load(root, "job", "answers").labels


def taken_back(root, version=3, **given):
    clock = FakeClock()
    return take_back(root, open_ledger(root, clock), "answers", version, reason=WHY, clock=clock, **given)


def end_state(root):
    """All that a withdrawal leaves, but how often it was begun."""
    ledger = open_ledger(root, FakeClock())
    clock = FakeClock().now()
    asset = registry.load(root, "job", "answers")
    return {
        "withdrawn": [dataclasses.replace(item, at=clock) for item in ledger.withdrawals("answers")],
        "notices": [dataclasses.replace(item, posted_at=None) for item in ledger.notices("answers")],
        "labels": asset.labels,
        "moves": [(move.label, move.version, move.reason) for move in asset.moves],
        "tree": git(root, "rev-parse", "HEAD^{tree}"),
        "status": git(root, "status", "--porcelain"),
        "commits": git(root, "rev-list", "--count", "HEAD"),
        "audited": sum(
            row["activity"] == "withdraw" and row["status"] == "Success"
            for row in rows_of(root / AUDIT, Filter(), root / AUDIT_KEYS)
        ),
        "orders": list((root / WITHDRAWALS).glob("*.json")),
    }


def test_a_version_is_withdrawn_rolled_back_stated_and_told(root):
    (root / "workbench/code.py").write_text("unfinished")
    done = taken_back(root, evidence="run 77")
    assert done.labels == {"production": 2} and done.committed == git(root, "rev-parse", "HEAD")
    assert labels(root) == {"production": 2}, "what was its canary is in production now"
    named = git(root, "show", "--format=", "--name-only").split()
    statement = done.order.statement.as_posix()
    moved = ["pipelines/jobs/answers/asset.yaml", "pipelines/jobs/stages.yaml"]
    assert sorted(named) == sorted([statement, *moved])
    assert git(root, "status", "--porcelain").split() == ["M", "workbench/code.py"]
    stated = Statement.parse(read(root / statement).payload, where="statement")
    assert stated.predicate["reason"] == WHY and stated.predicate["evidence"] == "run 77"
    page = registry.path_of(root, "job", "answers", 3)
    assert stated.digest_of(page.relative_to(root).as_posix()) == files.digest(page.read_bytes())
    ledger = open_ledger(root, FakeClock())
    (withdrawn,) = ledger.withdrawals("answers")
    assert (withdrawn.version, withdrawn.by, withdrawn.evidence) == (3, "job:answers", statement)
    (notice,) = ledger.notices("answers")
    assert notice.event == "rolled_back" and "production is 2" in notice.payload["detail"]
    assert finish_withdrawals(root, ledger) == [] and "answers@2" in str(done)


def test_a_trial_ends_and_production_stays(root):
    done = taken_back(root, 2)
    assert done.labels == {"canary": 0} and labels(root) == {"production": 3}


def test_what_was_withdrawn_before_is_passed_over_and_the_first_version_is_switched_off(root):
    assert taken_back(root, 2).labels == {"canary": 0}
    assert taken_back(root, 3).labels == {"production": 1}
    done = taken_back(root, 1)
    assert done.labels == {"production": 0} and labels(root) == {}
    events = [item.event for item in open_ledger(root, FakeClock()).notices("answers")]
    assert events == ["withdrawn", "rolled_back", "rolled_back"]


def test_without_commit_the_move_is_staged_and_the_command_is_told(root):
    files.write_atomic(root / "pipelines/operations.yaml", b"defaults: {rollback: {commit: false}}\n")
    done = taken_back(root)
    assert not done.committed and done.command.startswith("git commit -m ")
    assert git(root, "diff", "--cached", "--name-only").split()[-1] == "pipelines/jobs/stages.yaml"


def test_when_git_cannot_commit_the_version_is_withdrawn_all_the_same(root, monkeypatch):
    def locked(self, paths, message):
        raise UnavailableError("another git command is running", hint="wait for it")

    monkeypatch.setattr(Repository, "commit", locked)
    done = taken_back(root)
    assert done.problems == ("another git command is running",)
    ledger = open_ledger(root, FakeClock())
    assert [item.version for item in ledger.withdrawals("answers")] == [3]
    assert len(ledger.notices("answers")) == 1
    monkeypatch.undo()
    (again,) = finish_withdrawals(root, ledger, clock=FakeClock())
    assert not again.problems and git(root, "status", "--porcelain") == ""
    assert len(ledger.notices("answers")) == 1, "a notice is told once"


def test_an_unknown_version_is_named(root):
    with pytest.raises(NotFoundError, match="version 9"):
        taken_back(root, 9)
    assert not open_ledger(root, FakeClock()).withdrawals()


class Killed(BaseException):
    """What a kill does to the process: nothing after it runs."""


def kill_at(monkeypatch, step, *, before):
    """Kill the process before or after the `step`-th effect on disk, ledger, audit log or git."""
    count = iter(range(10_000))

    def dying(effect):
        def killed(*args, **kwargs):
            mine = next(count) == step
            if mine and before:
                raise Killed
            done = effect(*args, **kwargs)
            if mine:
                raise Killed
            return done

        return killed

    for owner, name in (
        (files, "write_atomic"), (acts, "log_act"), (SqliteLedger, "withdraw"),
        (SqliteLedger, "post"), (Repository, "stage"), (Repository, "commit"), (release, "write_stages"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    return count


def test_killed_at_each_step_and_finished_the_end_is_the_same(template, tmp_path, monkeypatch):
    whole = copied(template, tmp_path / "whole")
    with monkeypatch.context() as patch:
        count = kill_at(patch, -1, before=True)
        taken_back(whole)
    steps = next(count)
    expected = end_state(whole)
    assert (
        steps > 10
        and (expected["labels"], expected["audited"]) == ({"production": 2}, 1)
        and not expected["status"]
    )
    points = [(step, before) for step in range(steps) for before in (True, False)]
    for number, (step, before) in enumerate(sizes.drawn(points, 12)):
        root = copied(template, tmp_path / str(number))
        with monkeypatch.context() as patch:
            kill_at(patch, step, before=before)
            with pytest.raises(Killed):
                taken_back(root)
        clock = FakeClock()
        ledger = open_ledger(root, clock)
        if not finish_withdrawals(root, ledger, clock=clock) and not ledger.withdrawals("answers"):
            taken_back(root)  # killed before its order was written: nothing had happened
        assert end_state(root) == expected, (step, before)


def test_a_version_that_comes_back_can_be_taken_back_again(root):
    taken_back(root)
    clock = FakeClock()
    clock.advance(60)
    ledger = open_ledger(root, clock)
    assert ledger.restore("answers", 3)
    promote(root, "job/answers@3", ReleaseOptions(show=False, commit=True, clock=clock))
    done = take_back(root, ledger, "answers", 3, reason=WHY, clock=clock)
    assert done.labels == {"production": 2} and len(ledger.notices("answers")) == 2
    assert len(list((root / "pipelines/evidence/answers/3").iterdir())) == 2


def test_a_rollback_by_hand_beside_it_is_no_problem(root):
    rollback(root, "job/answers", ReleaseOptions(show=False, commit=True, clock=FakeClock()))
    done = taken_back(root)
    assert done.labels == {} and labels(root)["production"] == 2
    assert not list((root / WITHDRAWALS).glob("*.json"))
