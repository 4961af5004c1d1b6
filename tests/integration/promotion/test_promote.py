from __future__ import annotations

import dataclasses
import shutil

import pytest
from made_jobs import PARAMS, copied, frozen, installed, judged_repository, judged_run, save
from made_repositories import git, saved, tree

from workbench import layout, registry
from workbench.errors import ConfigError, CorruptError, NotFoundError, UnavailableError, WorkbenchError
from workbench.promotion import release
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.repository import environments
from workbench.testing.fakes import FakeClock


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture(scope="module")
def promoted(judged, tmp_path_factory):
    """Versions 1 and 2 of the job, each of which was in production."""
    root = copied(judged, tmp_path_factory.mktemp("promoted") / "repo")
    for number in (1, 2):
        frozen(root, number, label="production")
    return root


@pytest.fixture
def root(judged, tmp_path):
    return copied(judged, tmp_path / "repo")


@pytest.fixture
def live(promoted, tmp_path):
    return copied(promoted, tmp_path / "live")


def order(**given):
    return ReleaseOptions(**{"clock": FakeClock("2026-11-24T06:00:00Z"), "show": False, **given})


def labels(root, kind="job", name="answers"):
    return registry.load(root, kind, name).labels


def held(root):
    """Every file of the pipeline, and what git has staged: what a refusal must leave alone."""
    return tree(root / "pipelines"), git(root, "diff", "--cached"), git(root, "rev-parse", "HEAD")


# -- prompts, models, memories


@pytest.mark.parametrize("reference", ["prompt/answer@2", "memory/handbook@1", "model/tiny@1", "model/tiny"])
def test_a_spec_that_a_judged_run_used_goes_into_production_with_that_run(root, reference):
    run = judged_run(root)
    card = promote(root, reference, order(reason="it is better"))
    kind, name = reference.partition("@")[0].split("/")
    asset = registry.load(root, kind, name)
    (move,) = asset.moves
    assert asset.labels == {"production": card.version} and card.before is None
    assert (move.run, move.reason, move.at) == (run.id, "it is better", "2026-11-24T06:00:00+00:00")
    staged = git(root, "diff", "--cached", "--name-only").split()
    assert staged == [f"pipelines/{registry.FOLDERS[kind]}/{name}/asset.yaml"]
    assert card.command.startswith("git commit -m ") and not card.missing


def fewer_right(root):
    judged_run(root, right=4)


def too_few_to_tell(root):
    judged_run(root, right=22)


def other_prompt(root):
    judged_run(root, prompt="answer@1")


def gate_changed_since(root):
    (root / "params.yaml").write_text(PARAMS.replace("min: 0.5", "min: 0.4"))


def not_reproduced(root):
    for path in (root / "results/answers/judged").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "change", [fewer_right, too_few_to_tell, other_prompt, gate_changed_since, not_reproduced]
)
def test_without_a_run_that_passed_a_spec_may_be_a_candidate_and_nothing_more(root, change):
    change(root)
    before = held(root)
    with pytest.raises(ConfigError, match=r"no judged run used prompt/answer@2 and passed") as caught:
        promote(root, "prompt/answer@2", order())
    assert caught.value.exit_code == 1 and "dvc repro" in caught.value.hint and held(root) == before
    dry = promote(root, "prompt/answer@2", order(dry_run=True))
    assert [what for what, _ in dry.missing] == ["no judged run used prompt/answer@2 and passed its gate"]
    assert held(root) == before

    card = promote(root, "prompt/answer@2", order(label="candidate"))
    (move,) = registry.load(root, "prompt", "answer").moves
    assert labels(root, "prompt", "answer") == {"candidate": 2} and move.run is None and not card.missing


def test_damaged_results_are_said_and_not_taken_for_none(root):
    path = root / "results/answers/judged/candidate.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptError, match=r"candidate\.parquet"):
        promote(root, "prompt/answer@2", order())


def test_the_card_of_a_prompt_shows_the_lines_that_differ(root):
    promote(root, "prompt/answer@1", order(label="candidate", commit=True))
    card = promote(root, "prompt/answer@2", order(label="candidate", dry_run=True))
    assert card.notes == ("@@ -1 +1 @@", "-prompt 1", "+prompt 2")
    assert ("version", "1", "2") in card.rows and card.before == 1


@pytest.mark.parametrize(
    ("reference", "kind", "said"),
    [
        ("prompt/anser", NotFoundError, "no prompt 'anser' .*nearest: 'answer'"),
        ("prompt/answer@9", NotFoundError, "no version 9"),
        ("prompt/answer@0", NotFoundError, "no version 0"),
        ("prompt/answer@candidate", NotFoundError, "no label 'candidate'"),
        ("job/answers@0", NotFoundError, "no job 'answers'"),
        ("job/others", NotFoundError, "declares no job 'others' .*known: 'answers'"),
        ("prompts/answer", ConfigError, "names no asset"),
    ],
)
def test_what_is_unknown_is_refused_and_nothing_is_written(root, reference, kind, said):
    before = held(root)
    with pytest.raises(kind, match=said):
        promote(root, reference, order())
    with pytest.raises(NotFoundError, match="no label 'live'"):
        promote(root, "prompt/answer", order(label="live"))
    assert held(root) == before


def test_what_has_the_label_and_is_committed_is_not_promoted_again(root):
    promote(root, "prompt/answer@2", order(commit=True))
    before = held(root)
    with pytest.raises(ConfigError, match="prompt/answer@2 is in production already"):
        promote(root, "prompt/answer@production", order())
    assert held(root) == before


# -- versions of a job that exist


def test_a_candidate_goes_into_production_as_it_was_frozen(root):
    frozen(root, 1, label="candidate", run="r" * 12)
    card = promote(root, "job/answers@candidate", order())
    assert labels(root) == {"candidate": 1, "production": 1} and card.version == 1
    assert registry.load(root, "job", "answers").moves[-1].run == "r" * 12
    assert b"answers-1" in (root / layout.PROMOTED).read_bytes()
    assert card.command.endswith(" pipelines/jobs/stages.yaml")


@pytest.mark.parametrize("verb", [promote, rollback])
def test_a_version_that_was_touched_or_whose_code_is_gone_gets_no_label(root, verb):
    frozen(root, 1, label="production")
    frozen(root, 2, label="production", commit="0" * 40, code={"workbench": "0" * 40})
    frozen(root, 3, label="production")
    before = held(root)

    def released(to):
        if verb is promote:
            return promote(root, f"job/answers@{to}", order())
        return rollback(root, "job/answers", order(), to=to)

    with pytest.raises(NotFoundError, match="answers@2 runs the code of commit 000000000000"):
        released(2)
    sample = root / "pipelines/jobs/answers/1/sample.jsonl"
    sample.write_bytes(b"x")
    with pytest.raises(CorruptError, match=r"sample\.jsonl was changed"):
        released(1)
    git(root, "checkout", "--", str(sample))
    assert held(root) == before and released(1).version == 1


# -- going back


def test_going_back_twice_goes_further_back_and_never_forth_again(live):
    frozen(live, 3, label="production")
    assert [rollback(live, "job/answers", order(commit=True)).version for _ in range(2)] == [2, 1]
    with pytest.raises(NotFoundError, match="never had another version in production before 1") as caught:
        rollback(live, "job/answers", order())
    assert "there are [1, 2, 3]" in caught.value.hint
    assert rollback(live, "job/answers", order(commit=True), to=3).version == 3
    assert rollback(live, "job/answers", order(commit=True)).version == 1


def test_going_back_takes_the_stages_along_and_says_what_changes(root):
    frozen(root, 1, label="production", pins={"prompt": "answer@1"}, input=None)
    frozen(root, 2, label="production")
    card = rollback(root, "job/answers", order(reason="complaints"))
    assert ("prompt", "answer@2", "answer@1") in card.rows
    assert ("input", "data/inbox/{date}.jsonl", "none") in card.rows
    assert ("code", card.rows[0][1], "the same") in card.rows
    assert registry.load(root, "job", "answers").moves[-1].reason == "complaints"
    release.check_stages(root)
    assert b"answers-2" not in (root / layout.PROMOTED).read_bytes()


@pytest.mark.parametrize("damage", ["a byte", "the page", "all of it"])
def test_a_version_that_is_damaged_can_be_left(live, damage):
    folder = live / "pipelines/jobs/answers/2"
    if damage == "all of it":
        shutil.rmtree(folder)
    else:
        (folder / ("job.yaml" if damage == "the page" else "tape.jsonl")).write_bytes(b"x")
    card = rollback(live, "job/answers", order())
    assert labels(live) == {"production": 1} and ("reason", "reason 2", "reason 1") in card.rows


def test_on_a_dirty_tree_only_the_move_is_committed(live):
    (live / "params.yaml").write_text("torn: [")
    (live / "workbench/code.py").write_text("unfinished")
    git(live, "add", "workbench")
    card = rollback(live, "job/answers", order(commit=True))
    assert card.committed == git(live, "rev-parse", "HEAD")
    named = git(live, "show", "--format=", "--name-only").split()
    assert named == ["pipelines/jobs/answers/asset.yaml", "pipelines/jobs/stages.yaml"]
    assert git(live, "diff", "--name-only") == "params.yaml"
    assert git(live, "diff", "--cached", "--name-only") == "workbench/code.py"


@pytest.mark.parametrize(
    ("reference", "to", "kind", "said"),
    [
        ("job/answers", 2, ConfigError, "job/answers@2 is in production already"),
        ("job/answers", 9, NotFoundError, "no version 9"),
        ("job/answers", 0, NotFoundError, "no version 0"),
        ("job/answers@1", None, ConfigError, "names a version; .* --to"),
        ("job/answers@production", None, ConfigError, "names a version"),
        ("job/answer", None, NotFoundError, "nearest: 'answers'"),
        ("prompt/answer", None, NotFoundError, "prompt/answer has no version in production"),
    ],
)
def test_where_one_cannot_go_back_to_is_said_and_nothing_is_written(live, reference, to, kind, said):
    before = held(live)
    with pytest.raises(kind, match=said) as caught:
        rollback(live, reference, order(), to=to)
    assert caught.value.hint and held(live) == before


def test_a_dry_run_says_where_it_would_go_and_writes_nothing(live):
    before = held(live)
    card = rollback(live, "job/answers", order(dry_run=True))
    assert str(card).startswith("job/answers@1 would be production (before: @2)")
    assert card.command == "workbench rollback job/answers --to 1" and held(live) == before


def test_each_label_goes_back_along_its_own_moves(live):
    for number in (3, 4):
        frozen(live, number, label="candidate")
    assert rollback(live, "job/answers", order(label="candidate", commit=True)).version == 3
    assert labels(live) == {"candidate": 3, "production": 2}


def test_a_prompt_goes_back_too(root):
    save(root, "prompt", "answer", "prompt 3\n")
    saved(root)
    promote(root, "prompt/answer@1", order(label="candidate", commit=True))
    promote(root, "prompt/answer@3", order(label="candidate", commit=True))
    card = rollback(root, "prompt/answer", order(label="candidate", commit=True))
    assert card.version == 1 and labels(root, "prompt", "answer") == {"candidate": 1}
    assert git(root, "show", "--no-patch", "--format=%s") == "Roll back prompt/answer to 1: candidate"


def test_every_refusal_is_an_error_of_ours_with_a_hint(root):
    for reference in ("job/answers", "prompt/answer"):
        for bad in (dataclasses.replace(order(), label="x"), order()):
            with pytest.raises(WorkbenchError) as caught:
                rollback(root, reference, bad)
            assert caught.value.hint


@pytest.mark.parametrize("work", [lambda root, order: rollback(root, "job/answers", order),
                                  lambda root, order: promote(root, "job/answers@1", order)])  # fmt: skip
def test_a_label_moves_only_to_a_version_whose_environment_is_installed(live, monkeypatch, work, capsys):
    shutil.rmtree(live / layout.ENVIRONMENTS)
    before = held(live)
    (note,) = work(live, order(dry_run=True)).notes
    assert "not installed" in note and "workbench jobs install answers@1" in note and held(live) == before

    def offline(root, lock, *, say):
        say("installing")
        raise UnavailableError("no network", hint="connect")

    monkeypatch.setattr(environments, "install", offline)
    with pytest.raises(UnavailableError, match="answers@1 cannot run here, and production was not moved"):
        work(live, order(show=True))
    assert held(live) == before and "installing" in capsys.readouterr().err
    monkeypatch.setattr(environments, "install", lambda root, lock, say: installed(root, lock))
    assert work(live, order()).version == 1 and labels(live) == {"production": 1}
    assert not work(copied_label(live), order(dry_run=True)).notes


def copied_label(root):
    """The repository with version 2 in production again."""
    rollback(root, "job/answers", order(), to=2)
    return root
