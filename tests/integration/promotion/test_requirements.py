from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_jobs import PARAMS, copied, judged_repository, judged_run, save, stored
from made_repositories import saved

from workbench import config, registry
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.promotion import freezing, judgement, requirements
from workbench.promotion.requirements import Blocker
from workbench.repository import dvc, environments


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture
def root(judged, tmp_path, monkeypatch):
    """A judged repository in which DVC has nothing to say and the lock is the installed one."""
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: [])
    monkeypatch.setattr(environments, "python_of", lambda root, lock, install_hint: Path("python"))
    return copied(judged, tmp_path / "repo")


def drafted(root):
    params = config.load_params(root)
    case = params.use_cases["answers"]
    run = freezing.judged_run(root, "answers", case)
    gate = judgement.judged(root, "answers", case, run)
    return freezing.draft(root, "answers", params.jobs["answers"], case, gate, run), case


def missing(root):
    draft, case = drafted(root)
    return requirements.missing(root, draft, case)


def test_nothing_is_missing_of_what_is_committed_reproduced_judged_and_saved(root):
    assert missing(root) == []


def test_a_draft_holds_what_the_judged_run_resolved_to(root):
    draft, _ = drafted(root)
    assert draft.spec.pins == {"prompt": "answer@2", "memory": "handbook@1", "model": "tiny@1"}
    assert draft.spec.values() == {"k": 5} and draft.spec.version == 1
    assert draft.copies.keys() == {
        "prompts/answer/2.prompty", "memories/handbook/1.yaml", "models/tiny/1.yaml",
        "evidence/environment.json",
    }  # fmt: skip
    assert draft.spec.code.keys() == {
        "workbench", "locks/workbench.lock", "params.yaml", "pipelines/models", "pipelines/prompts",
        "pipelines/memories", "notebooks/answers.ipynb",
    }  # fmt: skip
    assert b"print(k)" not in draft.task and b"answered = [inputs, k]" in draft.task


# -- each thing that can be missing, alone, with the command that mends it


def uncommitted(root):
    (root / "workbench" / "code.py").write_text("2")


def another_cell(root):
    stored(root / "notebooks/answers.ipynb", ('inputs = ""\nk = 3', "parameters"), ("answered = [k]", ""))
    saved(root)


def gate_missed(root):
    judged_run(root, right=4)


def gate_open(root):
    judged_run(root, right=22)


def gate_changed(root):
    (root / "params.yaml").write_text(PARAMS.replace("min: 0.5", "min: 0.6"))
    saved(root)


def draft_judged(root):
    judged_run(root, prompt="answer@draft")


def unsaved_memory(root):
    judged_run(root, memory="handbook@7")


def prompt_replaced(root):
    page = registry.load(root, "prompt", "answer")
    path = registry.path_of(root, "prompt", "answer", 2)
    path.write_text("another")
    entry = dataclasses.replace(page.versions[2], digest=registry.files.digest(b"another"))
    registry.write(root, dataclasses.replace(page, versions={**page.versions, 2: entry}))
    saved(root)


def no_schedule_of_ours(root):
    (root / "params.yaml").write_text(PARAMS.replace("0 6 * * *", "@daily"))
    saved(root)


def no_zone(root):
    (root / "params.yaml").write_text(PARAMS.replace("timezone: UTC", "timezone: Berlin"))
    saved(root)


def untyped(root):
    stored(root / "notebooks/answers.ipynb", ('inputs = ""\nk = 3\nwho = None', "parameters"))
    saved(root)
    judged_run(root)


def no_inputs(root):
    stored(root / "notebooks/answers.ipynb", ("k = 3", "parameters"), ("answered = [k]", ""))
    saved(root)
    judged_run(root)


def secret(root):
    stored(
        root / "notebooks/answers.ipynb", ('inputs = ""\nk = 3', "parameters"), ('key = "/Users/ada/x"', "")
    )
    saved(root)
    judged_run(root)


@pytest.mark.parametrize(
    ("change", "said", "fix", "code"),
    [
        (uncommitted, "uncommitted: workbench/code.py", "git add --all && git commit", 2),
        (another_cell, "notebooks/answers.ipynb holds task", "dvc repro", 2),
        (gate_missed, "the mvp gate says fail: accuracy >= 0.5", "workbench gate answers/candidate", 1),
        (gate_open, "the mvp gate says undecided: accuracy >= 0.5", "workbench gate answers/candidate", 4),
        (gate_changed, "the gate's text is not the one the run was made under", "dvc repro", 1),
        (draft_judged, "the judged run used prompt answer@draft, which is not saved", "draft.save", 2),
        (
            unsaved_memory,
            "the judged run used memory handbook@7, which is not saved",
            "save memory/handbook",
            2,
        ),
        (prompt_replaced, "the judged run used another answer@2", "dvc repro", 2),
        (no_schedule_of_ours, "jobs.answers.schedule: a schedule has five fields", "0 0 * * *", 2),
        (no_zone, "there is no time zone 'Berlin'", "in params.yaml", 2),
        (untyped, "parameter 'who' of notebooks/answers.ipynb has no type", "who: TYPE = None", 2),
        (no_inputs, "declares no parameter 'inputs'", 'inputs = ""', 2),
        (secret, "cell 2, line 1: ", "relative to the repository", 2),
    ],
)
def test_what_is_missing_is_named_alone_with_what_mends_it(root, change, said, fix, code):
    change(root)
    (found,) = missing(root)
    assert said in found.what and fix in found.fix and found.exit_code == code


def test_all_that_is_missing_is_listed_at_once_the_gravest_first(root):
    no_inputs(root)
    uncommitted(root)
    found = missing(root)
    assert found[0].what == "uncommitted: workbench/code.py" and len(found) == 2
    with pytest.raises(ConfigError) as caught:
        requirements.checked(found, "answers")
    assert all(one.what in caught.value.message and one.fix in caught.value.message for one in found)
    assert caught.value.hint == found[0].fix


def test_the_exit_code_is_of_the_first_thing_that_is_missing():
    requirements.checked([], "answers")
    for code in (1, 2, 4):
        with pytest.raises(ConfigError) as caught:
            requirements.checked(
                [Blocker(what="w", fix="m", exit_code=code), Blocker(what="x", fix="n")], "a"
            )
        assert caught.value.exit_code == code


def test_what_an_earlier_promotion_and_the_pipeline_wrote_is_not_uncommitted_work(root):
    for name in ("pipelines/jobs/x", "results/y", "published/z", "dvc.lock", "reports/readiness.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert missing(root) == []
    for number in range(7):
        (root / f"new{number}").write_text("x")
    (found,) = missing(root)
    assert found.what == "uncommitted: new0, new1, new2, new3, new4 and 2 more"


def test_stale_results_and_another_environment_are_said(root, monkeypatch):
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: ["prepare@answers"])
    (found,) = missing(root)
    assert found == Blocker(
        what="the results are not of what is committed: prepare@answers", fix="make repro"
    )

    def absent(root, lock, install_hint):
        raise UnavailableError("not installed")

    monkeypatch.setattr(environments, "python_of", absent)
    assert [one.what for one in missing(root)][1:] == [
        "this environment is not the one of locks/workbench.lock"
    ]


def test_stale_stages_are_what_dvc_names(tmp_path, monkeypatch):
    asked = []
    answer = {"remember@u": [], "prepare@u": []}
    monkeypatch.setattr(dvc, "status", lambda root, *stages: asked.append(stages) or answer)
    assert requirements.stale_stages(tmp_path, "u") == ["prepare@u", "remember@u"]
    assert asked == [("settings@u", "prepare@u", "remember@u", "judge@u")]


def test_a_sample_or_a_lock_that_is_not_there_is_named(root):
    (root / "data/inbox/sample.jsonl").unlink()
    with pytest.raises(NotFoundError, match=r"cannot read .*sample\.jsonl: No such file"):
        drafted(root)


def test_the_next_version_has_the_next_number(root):
    save(root, "job", "answers", "x")
    assert drafted(root)[0].spec.version == 2
