from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import threading

import pytest
from made_jobs import frozen, judged_repository, save
from made_repositories import git, saved

from workbench import files, layout, registry
from workbench.errors import ConfigError, NotFoundError
from workbench.promotion import release
from workbench.promotion.release import Released
from workbench.testing.fakes import FakeClock

PROPOSED = Released(
    what="prompt/answer", label="production", version=3, before=2, dry=True,
    rows=(("reason", "the first", "shorter <b>answers</b>"),), notes=("-old", "+new & better"),
    missing=(("no judged run used prompt/answer@3", "dvc repro"),), command="dvc repro",
)  # fmt: skip


@pytest.fixture
def repo(tmp_repo):
    saved(tmp_repo, workbench__code="1")
    return tmp_repo


def move(root, kind="job", name="answers", *, version=1, label="production", clock=None):
    asset = registry.load(root, kind, name)
    given = {"label": label, "version": version, "reason": "why", "run": "r1", "clock": clock or FakeClock()}
    return release.move(root, asset, **given)


@pytest.mark.parametrize(
    ("text", "kind", "version", "label"),
    [
        ("job/answers", "job", None, None),
        ("prompt/answer@2", "prompt", 2, None),
        ("memory/hand-book@candidate", "memory", None, "candidate"),
        ("model/tiny@0", "model", 0, None),
    ],
)
def test_a_kind_and_a_reference_are_read(text, kind, version, label):
    found, reference = release.parse(text)
    assert (found, reference.version, reference.label) == (kind, version, label)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("answers", r"'answers' names no asset"),
        ("jobs/answers", r"names no asset \(nearest: 'job'"),
        ("/answers", "names no asset"),
        ("job/", "is not a reference"),
        ("job/a/b", "is not a reference"),
        ("job/answers@", "is not a reference"),
    ],
)
def test_what_names_no_asset_is_refused_with_the_form_it_has(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        release.parse(text)
    assert "for example" in caught.value.hint


def test_there_are_two_labels_and_no_other():
    release.check_label("prompt", "candidate")
    release.check_label("prompt", "production")
    with pytest.raises(NotFoundError, match=r"no label 'prod' \(nearest: 'production'"):
        release.check_label("prompt", "prod")


# -- moving a label


def test_a_move_says_who_when_and_why_and_the_label_follows(repo):
    frozen(repo)
    clock = FakeClock("2026-11-24T06:00:00.500000+09:00")
    written = move(repo, clock=clock)
    assert written == [repo / "pipelines/jobs/answers/asset.yaml", repo / layout.PROMOTED]
    asset = registry.load(repo, "job", "answers")
    (step,) = asset.moves
    assert asset.labels == {"production": 1}
    assert (step.by, step.at, step.reason, step.run) == ("Test", "2026-11-23T21:00:00+00:00", "why", "r1")
    assert dt.datetime.fromisoformat(step.at) == clock.now().replace(microsecond=0)


def test_a_move_of_a_prompt_leaves_the_stages_alone(repo):
    save(repo, "prompt", "answer", "one")
    assert move(repo, "prompt", "answer") == [repo / "pipelines/prompts/answer/asset.yaml"]
    assert not (repo / layout.PROMOTED).exists()


def test_only_versions_that_a_label_points_to_have_a_stage(repo):
    for number in (1, 2, 3):
        frozen(repo, number)
    path = release.write_stages(repo)
    assert files.read_yaml(path) == {"promoted": {}}
    move(repo, version=3, label="candidate")
    move(repo, version=1)
    stage = {"name": "answers", "version": 1}
    assert files.read_yaml(path)["promoted"] == {"answers-1": stage, "answers-3": {**stage, "version": 3}}
    move(repo, version=3)
    assert list(files.read_yaml(path)["promoted"]) == ["answers-3"]


def test_the_list_of_stages_is_a_function_of_the_labels(repo):
    for number in (1, 2):
        frozen(repo, number)
    move(repo, version=2, label="candidate")
    move(repo, version=1)
    before = release.write_stages(repo).read_bytes()
    move(repo, version=2)
    move(repo, version=1)
    assert release.write_stages(repo).read_bytes() == before
    release.check_stages(repo)


@pytest.mark.parametrize("text", [b"promoted: {}\n", b"", None])
def test_a_list_of_stages_written_by_hand_or_gone_is_noticed(repo, text):
    frozen(repo, label="production")
    release.check_stages(repo)
    (repo / layout.PROMOTED).unlink()
    if text is not None:
        (repo / layout.PROMOTED).write_bytes(text)
    with pytest.raises(ConfigError, match=r"stages\.yaml does not list") as caught:
        release.check_stages(repo)
    assert "git checkout -- pipelines/jobs/stages.yaml" in caught.value.hint


def test_moves_of_two_jobs_at_once_are_both_in_the_list_of_stages(repo, monkeypatch):
    """One has read the labels and not yet written when the other's move is made."""
    frozen(repo)
    page = registry.load(repo, "job", "answers")
    registry.folder_of(repo, "job", "other").mkdir()
    registry.write(repo, dataclasses.replace(page, name="other"))
    begun, read = threading.Event(), release._stages

    def slow(root):
        made = read(root)
        if not begun.is_set():
            begun.set()
            other.join(0.3)  # unless it waits for us, it is done by now
        return made

    monkeypatch.setattr(release, "_stages", slow)
    other = threading.Thread(target=lambda: (begun.wait(), move(repo, name="other")))
    other.start()
    move(repo)
    other.join()
    assert list(files.read_yaml(repo / layout.PROMOTED)["promoted"]) == ["answers-1", "other-1"]


# -- staging and committing


def test_the_command_that_is_printed_commits_the_move_and_no_other_work(tmp_path):
    root = judged_repository(tmp_path / "repo")
    (root / "params.yaml").write_text("mine, not finished\n")
    before = git(root, "rev-parse", "HEAD")
    written = move(root, "prompt", "answer", version=2)
    committed, command = release.settle(
        root, written, message="Promote prompt's second", commit=False, after="workbench check"
    )
    assert committed == "" and git(root, "rev-parse", "HEAD") == before
    assert git(root, "diff", "--cached", "--name-only") == "pipelines/prompts/answer/asset.yaml"
    subprocess.run(command, shell=True, cwd=root, check=True, capture_output=True)
    assert git(root, "show", "--no-patch", "--format=%s") == "Promote prompt's second"
    assert git(root, "show", "--format=", "--name-only") == "pipelines/prompts/answer/asset.yaml"
    assert git(root, "status", "--porcelain") == "M params.yaml"


def test_told_to_commit_the_commit_is_named_and_the_next_command_is_another(repo):
    frozen(repo)
    done = release.settle(
        repo, move(repo), message="Promote", commit=True, after="workbench jobs run answers"
    )
    assert done == (git(repo, "rev-parse", "HEAD"), "workbench jobs run answers")
    named = git(repo, "show", "--format=", "--name-only").split()
    assert named == ["pipelines/jobs/answers/asset.yaml", "pipelines/jobs/stages.yaml"]


# -- the card


def test_the_card_says_what_changes_what_is_missing_and_what_to_type():
    text = str(PROPOSED)
    assert text.startswith("prompt/answer@3 would be production (before: @2): not yet, 1 missing")
    assert "missing: no judged run used prompt/answer@3\n         dvc repro" in text
    assert text.endswith("next: dvc repro")
    assert all(said in text for said in ("the first", "+new & better", "live", "new"))


def test_in_a_notebook_the_card_is_html_and_no_word_of_it_is_markup():
    page = PROPOSED._repr_html_()
    assert "shorter &lt;b&gt;answers&lt;/b&gt;" in page and "+new &amp; better" in page
    assert "missing: no judged run" in page and "not yet, 1 missing" in page


def test_a_move_that_is_made_has_no_verdict_and_says_what_it_is():
    made = dataclasses.replace(PROPOSED, dry=False, missing=(), before=None, committed="abc", rows=())
    assert str(made).startswith("prompt/answer@3 is production (before: none)\n")
    assert made.to_json()["committed"] == "abc" and made.to_json()["rows"] == ()
