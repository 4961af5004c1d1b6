"""A gate that was lowered after its verdict is named with the verdict, and promoted with a reason alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from made_jobs import PARAMS, clean, copied, judged_repository, judged_run
from made_repositories import git, saved, tree

from workbench import layout, registry
from workbench.cli import app
from workbench.errors import ConfigError
from workbench.pipeline import stages
from workbench.promotion import freezing, promote, requirements
from workbench.promotion.promote import ReleaseOptions
from workbench.repository import environments
from workbench.testing.fakes import FakeClock

FILE = layout.verdicts_of("answers")
#: Of 40 cases, so many are right: `min: 0.9` fails, `min: 0.4` passes, and 0.6 is undecided.
RIGHT = 24
PROMOTE = ("promote", "job/answers", "--to", "production")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo", right=RIGHT)


@pytest.fixture
def root(judged, tmp_path, monkeypatch):
    """A repository whose clean run finds nothing, in which the test stands. DVC is left out."""
    monkeypatch.setattr(freezing, "clean_run", lambda root, draft, case, show: (clean(), []))
    monkeypatch.setattr(promote, "_reproduce", lambda root, show: None)
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: [])
    monkeypatch.setattr(environments, "python_of", lambda root, lock, install_hint: Path("python"))
    root = copied(judged, tmp_path / "repo")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a command as the console script does; its exit code and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as done:
            app.main()
        said = capsys.readouterr()
        return done.value.code, said.out + said.err

    return run


def state(root, gate, *, right=RIGHT, cases=40, **settings):
    """Write this gate, judge the task by it as the pipeline does, and commit; return the report."""
    (root / "params.yaml").write_text(PARAMS.replace("accuracy: {min: 0.5}", gate))
    judged_run(root, right=right, cases=cases, **settings)
    report = stages.gate(root, "answers")
    saved(root, f"Judge by {gate}")
    return report


def lowered(root):
    """A bound that was missed, and then lowered."""
    assert state(root, "accuracy: {min: 0.9}").verdict == "fail"
    assert state(root, "accuracy: {min: 0.4}").verdict == "pass"


def promoted(root, reference="job/answers", **given):
    return promote.promote(
        root, reference, ReleaseOptions(show=False, clock=FakeClock("2026-11-24T06:00:00Z"), **given)
    )


def refused(root, reference="job/answers", **given):
    """The error of a promotion that is refused and leaves the repository as it was."""
    before = tree(root / "pipelines"), git(root, "status", "--porcelain")
    with pytest.raises(ConfigError) as caught:
        promoted(root, reference, **given)
    assert (tree(root / "pipelines"), git(root, "status", "--porcelain")) == before
    return caught.value


def test_a_lowered_bound_is_named_by_the_card_and_promoted_with_a_reason_that_the_version_keeps(root, ended):
    lowered(root)
    code, card = ended("gate", "answers/candidate")
    assert code == 0 and "loosened: a text with accuracy >= 0.9" in card and "said fail" in card

    code, said = ended(*PROMOTE)
    assert code == 1 and "loosened: a text with accuracy >= 0.9" in said and "--reason" in said
    assert "add rows to the dataset of use_cases.answers" in said
    code, said = ended("promote", "job/answers", "--to", "candidate", "--dry-run")
    assert code == 1 and "workbench promote job/answers --to candidate --reason" in said
    code, said = ended(*PROMOTE, "--reason", " \t")
    assert code == 1 and not (root / "pipelines/jobs/answers").exists()

    code, said = ended(*PROMOTE, "--reason", "0.9 was a typing error", "--dry-run")
    assert code == 0 and f"next: workbench {' '.join(PROMOTE)} --reason '0.9 was a typing error'" in said
    code, said = ended(*PROMOTE, "--reason", "0.9 was a typing error", "--commit")
    asset = registry.load(root, "job", "answers")
    assert code == 0 and asset.labels == {"production": 1}, said
    assert asset.moves[-1].reason == asset.versions[1].reason == "0.9 was a typing error"
    assert "0.9 was a typing error" in (root / "pipelines/jobs/answers/asset.yaml").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("accuracy: {min: 0.6}", "accuracy: {min: 0.4}"),  # undecided is no pass either
        ("accuracy: {min: 0.4}\n        latency_p95_s: {max: 0.01}", "accuracy: {min: 0.4}"),
        ("accuracy: {min: 0.4}\n        unscored_rate: {max: 0.0001}", "accuracy: {min: 0.4}"),
    ],
)
def test_each_way_to_loosen_a_text_after_its_verdict_wants_a_reason(root, before, after):
    assert state(root, before).verdict != "pass"
    assert state(root, after).verdict == "pass"
    error = refused(root)
    assert error.exit_code == 1 and "loosened" in error.message and "--reason" in error.hint
    assert promoted(root, reason="the first text was wrong").version == 1


def test_more_cases_clear_it(root):
    lowered(root)
    refused(root)
    report = state(root, "accuracy: {min: 0.4}", right=30, cases=50)
    assert report.verdict == "pass" and report.loosened == ""
    assert promoted(root).version == 1


def test_fewer_cases_do_not_clear_it(root):
    lowered(root)
    assert "loosened" in state(root, "accuracy: {min: 0.4}", right=24, cases=30).loosened
    assert "--reason" in refused(root).hint


@pytest.mark.parametrize("text", ["accuracy: {min: 0.4}", "accuracy: {min: 0.3}"])
def test_a_text_that_was_lowered_twice_is_still_lowered(root, text):
    lowered(root)
    assert state(root, text).loosened.startswith("loosened: ")
    assert "accuracy >= 0.9" in refused(root).message


def test_a_text_that_stood_before_a_stricter_one_was_tried_needs_no_reason(root):
    for gate in ("accuracy: {min: 0.4}", "accuracy: {min: 0.9}"):
        state(root, gate)
    assert state(root, "accuracy: {min: 0.4}").loosened == ""
    assert promoted(root).version == 1


def test_another_task_on_the_same_cases_is_a_note_that_blocks_nothing(root):
    state(root, "accuracy: {min: 0.9}", prompt_digest="p" * 64)
    report = state(root, "accuracy: {min: 0.4}")
    assert "judged another task" in report.loosened
    assert promoted(root).version == 1


def test_a_verdict_that_was_removed_blocks_with_any_reason_until_it_is_back(root):
    lowered(root)
    lines = (root / FILE).read_text()
    (root / FILE).write_text(lines.partition("\n")[2])
    error = refused(root, reason="it looks better")
    assert f"uncommitted: {FILE}" in error.message and "lacks 1 of the verdicts" in error.message
    saved(root, "Tidy up")
    error = refused(root, reason="it looks better")
    assert "lacks 1 of the verdicts that were committed, first fail" in error.message
    assert "git log -p" in error.hint and str(FILE) in error.hint and error.exit_code == 2
    assert "loosened" in refused(root).message, "what was committed still counts"
    (root / FILE).write_text(lines)
    saved(root, "Restore")
    assert promoted(root, reason="0.9 was a typing error").version == 1


def test_a_file_of_verdicts_that_was_deleted_blocks_too(root):
    lowered(root)
    (root / FILE).unlink()
    saved(root, "Tidy up")
    assert "lacks 2 of the verdicts" in refused(root, reason="it looks better").message


def test_a_verdict_that_is_not_committed_blocks(root):
    lowered(root)
    git(root, "reset", "--quiet", "HEAD~1", "--", str(FILE))
    error = refused(root, reason="it was a typing error")
    assert f"uncommitted: {FILE}" in error.message and "git add" in error.hint


@pytest.mark.parametrize("reference", ["prompt/answer@2", "memory/handbook@1", "model/tiny@1"])
def test_a_spec_that_passed_a_loosened_text_alone_goes_into_production_with_a_reason(root, reference):
    lowered(root)
    error = refused(root, reference)
    kind, name = reference.partition("@")[0].split("/")
    assert error.exit_code == 1 and "loosened: a text with accuracy >= 0.9" in error.message
    assert f'workbench promote {reference} --to production --reason "' in error.hint
    assert refused(root, reference, reason=" ").exit_code == 1
    assert promoted(root, reference, dry_run=True).missing[0][0].startswith("loosened: ")
    promoted(root, reference, reason="0.9 was a typing error")
    (move,) = registry.load(root, kind, name).moves
    assert (move.label, move.reason) == ("production", "0.9 was a typing error")
