"""Promoting a job's notebook, with what the clean run gives told by the test and DVC left out."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
from made_jobs import PARAMS, clean, copied, frozen, judged_repository, judged_run
from made_repositories import git, saved, tree
from told_jobs import recorded

from workbench import files, layout, registry
from workbench.errors import ConfigError, CorruptError, UnavailableError
from workbench.jobs import spec as jobspec
from workbench.promotion import freezing, judgement, promote, release, requirements
from workbench.promotion.promote import ReleaseOptions
from workbench.promotion.requirements import Blocker
from workbench.repository import environments
from workbench.testing.fakes import FakeClock


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture
def gives(monkeypatch):
    """What the clean run gives: a list whose last entry counts."""
    given = [(clean(), [])]
    monkeypatch.setattr(freezing, "clean_run", lambda root, one, case, show: given[-1])
    monkeypatch.setattr(promote, "_reproduce", lambda root, show: None)
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: [])
    monkeypatch.setattr(environments, "python_of", lambda root, lock, install_hint: Path("python"))
    return given


@pytest.fixture
def root(judged, gives, tmp_path):
    return copied(judged, tmp_path / "repo")


def promoted(root, reference="job/answers", **given):
    order = ReleaseOptions(**{"clock": FakeClock("2026-11-24T06:00:00Z"), "show": False, **given})
    return promote.promote(root, reference, order)


def asset(root):
    return registry.load(root, "job", "answers")


def test_a_promotion_writes_a_whole_version_and_stages_all_of_it(root):
    card = promoted(root)
    spec, folder = jobspec.load(root, "answers", 1)
    entry = asset(root).versions[1]
    assert (entry.author, entry.parent, entry.run) == ("Test", None, spec.run)
    assert entry.reason == f"mvp gate passed on run {spec.run}"
    assert asset(root).labels == {"production": 1} and asset(root).before("production") is None
    assert {p.name for p in folder.iterdir()} == {
        "evidence", "job.yaml", "memories", "models", "prompts", "sample.jsonl", "tape.jsonl", "task.ipynb"
    }  # fmt: skip
    assert spec.sample_outputs == clean().outputs and spec.digests["tape"] == files.digest(b"tape")
    assert (
        git(root, "diff", "--name-only") == ""
        and git(root, "ls-files", "--others", "--exclude-standard") == ""
    )
    assert card.version == 1 and "ran clean alone: 1 of 2 sample rows answered" in card.notes

    subprocess.run(card.command, shell=True, cwd=root, check=True, capture_output=True)
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "show", "--no-patch", "--format=%s") == "Promote job/answers@1 to production"


def test_what_is_in_production_and_committed_is_not_promoted_again(root, gives):
    promoted(root, commit=True)
    before = tree(root)
    gives.append((clean(tape=b"the same answers, slower"), []))
    with pytest.raises(ConfigError, match="nothing to promote: job/answers@1 is in production") as caught:
        promoted(root)
    assert caught.value.hint == "workbench jobs run answers"
    told = (".git/", ".workbench/state/audit/", ".workbench/state/decisions.jsonl")  # that it was tried
    assert {k: v for k, v in tree(root).items() if not k.startswith(told)} == {
        k: v for k, v in before.items() if not k.startswith(told)
    }


def test_the_same_answers_of_another_model_make_another_version(root):
    """Its gate judged that model, so that a version which another model paused has one that is not."""
    tape = layout.judge_tape_of("answers")
    saved(root, "Judged", **{str(tape): recorded("tiny-1").decode()})
    promoted(root, commit=True)
    with pytest.raises(ConfigError, match="nothing to promote"):
        promoted(root)
    saved(root, "Judged anew", **{str(tape): recorded("tiny-2").decode()})
    assert promoted(root, commit=True).version == 2
    with pytest.raises(ConfigError, match="nothing to promote: job/answers@2"):
        promoted(root)


def test_a_promotion_that_was_not_committed_is_finished_and_makes_no_second_version(root):
    first = promoted(root)
    git(root, "reset", "--quiet")
    (root / layout.PROMOTED).write_text("promoted: {}\n")  # as if it died before it wrote this
    again = promoted(root)
    assert again.command == first.command and len(asset(root).moves) == len(asset(root).versions) == 1
    release.check_stages(root)


def test_a_folder_that_a_killed_promotion_left_is_nobodys_and_written_over(root):
    left = root / "pipelines/jobs/answers"
    files.write_atomic(left / "1" / "task.ipynb", b"half")
    files.write_atomic(left / "1" / "stray", b"x")
    files.write_atomic(left / ".1.0123abcd" / "task.ipynb", b"quarter")
    assert promoted(root).version == 1
    assert jobspec.load(root, "answers", 1)
    assert sorted(p.name for p in left.iterdir()) == ["1", "asset.yaml"]


def test_a_candidate_becomes_production_without_another_version(root):
    promoted(root, label="candidate", commit=True)
    card = promoted(root, commit=True)
    assert card.version == 1 and asset(root).labels == {"candidate": 1, "production": 1}
    assert [move.label for move in asset(root).moves] == ["candidate", "production"]


def test_other_code_is_another_version_beside_the_one_it_follows(root):
    promoted(root, commit=True)
    saved(root, "Faster", workbench__code_py="2")
    card = promoted(root, reason="it is faster", commit=True)
    assert asset(root).versions[2].parent == 1 and asset(root).versions[2].reason == "it is faster"
    rows = {what: (live, new) for what, live, new in card.rows}
    assert rows["code"][0] != rows["code"][1] != "the same" and rows["prompt"] == ("answer@2", "the same")
    assert rows["accuracy"][0] and "(+0" in rows["accuracy"][1], "beside the live version's own run"
    assert promote.rollback(root, "job/answers", ReleaseOptions(commit=True)).version == 1


def test_other_limits_and_parameters_are_shown_and_are_another_version(root):
    promoted(root, commit=True)
    text = PARAMS.replace("{k: 5}", "{k: 7}").replace("broken: 0.25", "broken: 0.5")
    (root / "params.yaml").write_text(text)
    judged_run(root)
    saved(root)
    card = promoted(root, commit=True)
    assert ("parameter k", "5", "7") in card.rows
    assert ("limits", "60 s, 25% broken", "60 s, 50% broken") in card.rows and card.version == 2


def test_a_dry_run_says_all_of_it_and_writes_nothing(root):
    before = tree(root)
    card = promoted(root, dry_run=True)
    assert str(card).startswith("job/answers@1 would be production (before: none)")
    assert card.command == "workbench promote job/answers --to production" and not card.missing
    assert any("task.ipynb" in note for note in card.notes)
    assert tree(root) == before


@pytest.mark.parametrize("code", [1, 2])
def test_what_only_the_clean_run_shows_refuses_it_and_nothing_is_written(root, gives, code):
    gives.append((None, [Blocker(what="it does not run clean", fix="mend the cell", exit_code=code)]))
    before = tree(root / "pipelines")
    card = promoted(root, dry_run=True)
    assert card.missing == (("it does not run clean", "mend the cell"),) and card.command == "mend the cell"
    with pytest.raises(ConfigError, match="job/answers cannot be promoted:\n  - it does not run") as caught:
        promoted(root)
    assert caught.value.exit_code == code and tree(root / "pipelines") == before


def test_nothing_is_run_while_something_is_missing(root, gives):
    gives.clear()  # a clean run would find nothing to give
    (root / "workbench/code.py").write_text("2")
    with pytest.raises(ConfigError, match="uncommitted"):
        promoted(root)


def test_whoever_is_second_gets_the_next_number_and_overwrites_nothing(root, monkeypatch):
    def meanwhile(root_, one, case, show):
        frozen(root, 1, label="production")
        return clean(), []

    monkeypatch.setattr(freezing, "clean_run", meanwhile)
    card = promoted(root)
    assert card.version == 2 and asset(root).labels == {"production": 2}
    assert jobspec.load(root, "answers", 1) and jobspec.load(root, "answers", 2)[0].version == 2


def test_a_live_version_that_was_touched_is_said_before_anything_is_compared_with_it(root):
    promoted(root, commit=True)
    saved(root, "Other", workbench__code_py="2")
    (root / "pipelines/jobs/answers/1/tape.jsonl").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"tape\.jsonl was changed"):
        promoted(root)


def test_a_pipeline_that_stops_leaves_a_version_that_the_same_command_finishes(root, monkeypatch):
    def stops(root, show):
        raise UnavailableError("`dvc repro` stopped")

    with monkeypatch.context() as broken:
        broken.setattr(promote, "_reproduce", stops)
        with pytest.raises(UnavailableError, match="stopped"):
            promoted(root)
    assert promoted(root, commit=True).version == 1
    assert git(root, "status", "--porcelain") == "" and len(asset(root).versions) == 1


def test_production_is_what_a_run_of_the_same_cases_is_compared_with(root):
    run = freezing.judged_run(root, "answers", promote.config.load_params(root).use_cases["answers"])
    assert judgement.baseline_of(root, "answers", run) is None
    promoted(root, label="candidate", commit=True)
    assert judgement.baseline_of(root, "answers", run) is None, "a candidate is no baseline"
    promoted(root, commit=True)
    assert judgement.baseline_of(root, "answers", run).id == run.id
    assert judgement.baseline_of(root, "triage", run) is None
    assert judgement.baseline_of(root, "answers", dataclasses.replace(run, dataset_digest="other")) is None


def test_a_dry_run_says_what_takes_its_time(root, capsys):
    promoted(root, dry_run=True, show=True)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("checking commits, results and verdict (git, dvc status")
    assert second.startswith("running the frozen notebook alone on its sample")
    promoted(root, dry_run=True)
    assert capsys.readouterr().err == ""
