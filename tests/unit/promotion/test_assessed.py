"""Assessments and approvals: what phase mlvp demands of the models of a use case, and what it refuses."""

import dataclasses
import datetime as dt
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import config, files, layout, registry
from workbench.config import DatasetFile, ModelChoice, Pin
from workbench.config.moderation import ModerationHook, ModerationRules
from workbench.errors import ConfigError, NotFoundError, PolicyError, RefusedError
from workbench.jobs import spec as jobspec
from workbench.models import load_card
from workbench.models.approval import path_of as approvals_of
from workbench.models.approval import read_approvals, same_person
from workbench.models.assessment import MOST_DAYS, QUESTIONS, Assessment, path_of, read_assessment
from workbench.models.assessment_form import form
from workbench.promotion import assessed, promote, requirements
from workbench.promotion.approve import ApprovalOptions, approve
from workbench.testing.fakes import FakeClock

ROOT = Path(__file__).resolve().parents[3]
TODAY = dt.date(2026, 12, 1)
NAME = "smollm2-135m"
ORDER = ApprovalOptions(
    role="risk officer", reason="synthetic data", clock=FakeClock("2026-12-01T00:00:00+00:00")
)
CASE = dataclasses.replace(config.load_params(ROOT).use_cases["answers"], phase="mlvp")
FILLED = {key: {"answered": "2026-11-30", "answer": f"An answer to {key}."} for key in QUESTIONS}
RAW = {
    "model": NAME, "owner": "people", "assessed_by": "Ada", "data_classes": ["internal", "personal"],
    "expires": "2027-11-30", "answers": FILLED,
}  # fmt: skip


def write(root, raw=RAW, name=NAME, head=""):
    files.write_atomic(root / path_of(name), (head + files.yaml_text(raw)).encode())


def of(raw) -> Assessment:
    return files.parse(Assessment, raw, where="test")


def approved(root, name=NAME, order=ORDER):
    return approve(root, f"model/{name}", order)


@pytest.fixture
def root(tmp_repo):
    """A repository with the shipped models, memories and notebooks, and one complete assessment."""
    for folder in ("pipelines/models", "pipelines/memories", "pipelines/assessments", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_repo / folder)
    shutil.copy(ROOT / "params.yaml", tmp_repo)
    write(tmp_repo)
    return tmp_repo


def problems(root, case=CASE, models=None, today=TODAY):
    found = assessed.problems(
        root, "answers", case, assessed.models_of(root, case) if models is None else models, today=today
    )
    return [problem.text for problem in found]


def add_version(root, **changes):
    """Save the next version of the card with other keys."""
    raw = {**files.read_yaml(root / "pipelines/models" / NAME / "1.yaml"), **changes}
    return registry.save_version(
        root, "model", NAME, files.yaml_text(raw).encode(), author="Carl", reason="a test", parent=1
    )


# -- the file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smollm2-135m", "wordllama-256"])
def test_a_shipped_model_is_assessed_and_its_supplier_approved_nothing(name):
    found = read_assessment(ROOT, name)
    assert found is not None and found.gaps(TODAY) == []
    assert read_approvals(ROOT, name) == ()


def test_a_new_form_parses_and_lacks_everything(root):
    text = form(load_card(root, NAME), owner="", by='Ada: "x"\n# y')
    files.write_atomic(root / path_of(NAME), text.encode())
    found = read_assessment(root, NAME)
    assert found.assessed_by == 'Ada: "x"\n# y' and found.unanswered == tuple(QUESTIONS)
    assert len(found.gaps(TODAY)) == 4 and all(question in text for question in QUESTIONS.values())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"owners": "x"}, "'owner'"),
        ({"answers": {**FILLED, "intended_purposes": FILLED["data"]}}, "'intended_purpose'"),
        ({"model": "another"}, "another"),
        ({"expires": "soon"}, "expires"),
        ({"data_classes": "internal"}, "data_classes"),
        ({"answers": {**FILLED, "data": {"answer": 7}}}, "answers.data.answer"),
        ({"answers": {**FILLED, "data": {"answered": "2026-11-31", "answer": "x y z"}}}, "answers.data"),
    ],
)
def test_a_wrong_file_is_one_error_with_the_file_and_the_key(root, change, word):
    write(root, {**RAW, **change})
    with pytest.raises(ConfigError, match=f"assessments/{NAME}.yaml.*{word}"):
        read_assessment(root, NAME)
    assert any("is unassessed" in text for text in problems(root))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"owner": " "}, "owner"),
        ({"assessed_by": ""}, "assessed_by"),
        ({"data_classes": []}, "data_classes"),
        ({"expires": None}, "expires"),
        ({"expires": "2026-12-01"}, "expired"),
        ({"expires": "2030-01-01"}, str(MOST_DAYS)),
        ({"answers": {key: FILLED[key] for key in list(QUESTIONS)[1:]}}, "intended_purpose"),
        ({"answers": {**FILLED, "data": {"answered": "2026-11-30", "answer": "to do"}}}, "data"),
        ({"answers": {**FILLED, "data": {"answer": "an answer without a day"}}}, "data"),
        (
            {"answers": {**FILLED, "data": {"answered": "2026-12-02", "answer": "of a later day"}}},
            "2026-12-02",
        ),
    ],
)
def test_a_gap_is_named_and_cannot_be_approved(root, change, word):
    write(root, {**RAW, **change})
    assert any(f"{NAME}@1 is not assessed" in text and word in text for text in problems(root))
    with pytest.raises(ConfigError, match=word):
        approved(root)
    assert not (root / approvals_of(NAME)).exists()


# -- what phase mlvp demands ------------------------------------------------------------------------------


def test_every_model_of_the_use_case_is_looked_at(root):
    fallback = dataclasses.replace(CASE, model=ModelChoice(name=NAME, fallback=("spare", "spare-2@1")))
    assert assessed.models_of(root, fallback) == (NAME, "spare", "spare-2@1", "wordllama-256")
    pins = {"model": f"{NAME}@1", "model.1": "spare@3", "model.2": "spare-2@1", "memory": "handbook@1"}
    assert assessed.models_of(root, fallback, pins)[:3] == (f"{NAME}@1", "spare@3", "spare-2@1")
    texts = problems(root, fallback)
    assert sum("has no card" in text for text in texts) == 2


def test_the_model_of_a_moderation_check_is_looked_at_too(root):
    check = ModerationHook(check="classifier", direction="in", severity="flag", model="judge")
    moderated = dataclasses.replace(CASE, moderation=ModerationRules(checks=(check,)))
    assert "judge" in assessed.models_of(root, moderated)


def test_a_class_of_the_prompt_s_inputs_is_stated_by_the_use_case(root):
    shutil.copytree(ROOT / "pipelines/prompts", root / "pipelines/prompts")
    route = dataclasses.replace(CASE, prompt=Pin(name="route", version=1), handles=("internal",))
    (found,) = problems(root, route, models=[])
    assert "personal" in found and "route@1" in found
    assert problems(root, dataclasses.replace(route, handles=("personal",)), models=[]) == []


def test_the_classes_of_the_memory_and_of_the_dataset_are_stated_by_the_use_case(root):
    spec = (ROOT / "pipelines/memories/handbook/2.yaml").read_text() + "data_class: health\n"
    registry.save_version(root, "memory", "clinic", spec.encode(), author="t", reason="t", parent=None)
    dataset = DatasetFile(file="x.jsonl", classes={"question": "secret"})
    case = dataclasses.replace(CASE, memory=Pin(name="clinic", version=1), dataset=dataset)
    texts = problems(root, dataclasses.replace(case, handles=("internal",)), models=[])
    assert [word for word in ("clinic@1", "dataset") for text in texts if word in text] == [
        "clinic@1", "dataset",
    ]  # fmt: skip
    handled = dataclasses.replace(case, handles=("internal", "health", "secret"))
    assert problems(root, handled, models=[]) == []


@pytest.mark.parametrize(
    ("handles", "word"),
    [("[]", "no class"), ("[internal, internal]", "twice"), ("[a b]", "a b"), ("[persnal]", "'personal'")],
)
def test_a_wrong_class_of_a_use_case_is_an_error_of_params(root, handles, word):
    page = root / "params.yaml"
    page.write_text(page.read_text().replace("handles: [internal] ", f"handles: {handles} ", 1))
    with pytest.raises(ConfigError, match=f"use_cases.answers.handles.*{word}"):
        config.load_params(root)


def test_an_own_class_of_data_is_a_class_that_a_use_case_may_handle(root):
    page = root / "params.yaml"
    text = page.read_text().replace("handles: [internal] ", "handles: [health] ", 1)
    page.write_text(f"{text}data_classes:\n  health: {{like: personal}}\n")
    assert config.load_params(root).use_cases["answers"].handles == ("health",)


def test_a_model_that_a_frozen_cell_names_is_looked_at_too(root):
    shutil.copytree(root / "pipelines/models" / NAME, root / "pipelines/models/other")
    page = root / "notebooks/answers.ipynb"
    text = page.read_text()
    assert "other" not in assessed.models_of(root, CASE)
    page.write_text(text.replace("ws = wb.connect(", 'spare = \\"other\\"\\nws = wb.connect(', 1))
    assert "other" in assessed.models_of(root, CASE)


def test_all_assessed_and_approved_is_no_problem_and_each_missing_part_is_one(root):
    assert [text for text in problems(root) if NAME in text] == [f"the model {NAME}@1 is not approved"]
    approved(root)
    approved(root, "wordllama-256")
    assert problems(root) == []
    later = dataclasses.replace(CASE, memory=Pin(name="handbook", version=2), handles=("internal", "secret"))
    assert ["class secret" in text for text in problems(root, later)] == [True, True]
    assert "handles" in problems(root, dataclasses.replace(CASE, handles=None))[0]
    moved = dataclasses.replace(CASE, base_url="https://models.example.com/v1", provider="openai")
    assert "another endpoint" in problems(root, moved)[0]
    assert all("expired on 2027-11-30" in text for text in problems(root, today=dt.date(2027, 11, 30)))
    (root / path_of(NAME)).unlink()
    assert [text for text in problems(root) if f"there is no {path_of(NAME)}" in text]


@pytest.mark.parametrize("name", ["answers", "triage"])
def test_the_shipped_use_cases_lack_approvals_alone(name):
    case = config.load_params(ROOT).use_cases[name]
    found = assessed.problems(ROOT, name, case, assessed.models_of(ROOT, case), today=TODAY)
    assert {problem.what for problem in found} == {"is not approved"} and len(found) == 2


# -- approvals --------------------------------------------------------------------------------------------


@given(st.sampled_from(["owner", "assessed_by", "data_classes", "expires", *QUESTIONS]), st.booleans())
def test_every_change_of_an_assessment_is_another_digest(key, dated):
    raw = {**RAW, "answers": {name: dict(answer) for name, answer in FILLED.items()}}
    if key in QUESTIONS:
        raw["answers"][key] |= {"answered": "2026-11-29"} if dated else {"answer": "Another answer now."}
    else:
        raw[key] = {"data_classes": ["internal"], "expires": "2027-11-29"}.get(key, "Bea")
    assert of(raw).digest != of(RAW).digest
    assert of(RAW).digest == of(dict(reversed(RAW.items()))).digest


def test_a_comment_keeps_an_approval_and_an_answer_ends_it(root):
    approved(root)
    write(root, head="# Read by the board.\n")
    assert problems(root, models=[NAME]) == []
    write(
        root, {**RAW, "answers": {**FILLED, "data": {"answered": "2026-11-30", "answer": "Also logs, kept."}}}
    )
    assert problems(root, models=[NAME]) == [
        f"the model {NAME}@1 is not approved: its assessment changed after the approval"
    ]


def test_a_changed_card_needs_an_approval_of_its_own(root):
    approved(root)
    add_version(root, region="elsewhere")
    assert "only another version of its card is" in problems(root, models=[NAME])[0]
    assert problems(root, models=[f"{NAME}@1"]) == []
    approved(root, f"{NAME}@2")
    assert problems(root, models=[NAME]) == []
    assert [item.card for item in read_approvals(root, NAME)] == [f"{NAME}@1", f"{NAME}@2"]


def test_an_approval_ends_on_its_day(root):
    approved(root, order=dataclasses.replace(ORDER, until=dt.date(2027, 1, 1)))
    assert problems(root, models=[NAME], today=dt.date(2026, 12, 31)) == []
    found = problems(root, models=[NAME], today=dt.date(2027, 1, 1))
    assert "ended on 2027-01-01" in found[0]
    approved(root)  # a longer one beside it
    assert problems(root, models=[NAME], today=dt.date(2027, 1, 1)) == []


def test_an_approval_that_ends_within_30_days_is_named_before(root):
    soon = dataclasses.replace(ORDER, until=dt.date(2027, 1, 1))
    approved(root, order=soon)
    models = [NAME, "wordllama-256", "unknown"]
    assert assessed.ending(root, models, today=dt.date(2026, 12, 1)) == []
    assert assessed.ending(root, models, today=dt.date(2026, 12, 2)) == [(f"{NAME}@1", dt.date(2027, 1, 1))]
    assert assessed.ending(root, models, today=dt.date(2027, 1, 1)) == []  # ended: a problem
    approved(root)
    assert assessed.ending(root, models, today=dt.date(2026, 12, 2)) == []


@pytest.mark.parametrize("until", ["2026-12-01", "2020-01-01", "2027-12-01"])
def test_an_approval_ends_after_today_and_with_the_assessment(root, until):
    with pytest.raises(ConfigError, match="--until"):
        approved(root, order=dataclasses.replace(ORDER, until=dt.date.fromisoformat(until)))
    assert read_approvals(root, NAME) == ()


def git_name(root, name):
    subprocess.run(["git", "-C", root, "config", "user.name", name], check=True)


def test_nobody_approves_alone_what_they_wrote(root):
    write(root, {**RAW, "assessed_by": "TEST "})  # the tests' own name in git is Test
    with pytest.raises(RefusedError, match="another person") as caught:
        approved(root)
    assert caught.value.exit_code == 2
    add_version(root, region="elsewhere")
    git_name(root, "carl")  # who wrote version 2 of the card
    with pytest.raises(RefusedError, match="another person"):
        approved(root)
    approved(root, f"{NAME}@1")
    page = root / approvals_of(NAME)
    page.write_text(page.read_text().replace('"carl"', '"T est"'))  # a line by hand
    assert "alone" in problems(root, models=[f"{NAME}@1"])[0]
    assert not same_person("Ada", "Bea")
    assert same_person("Jos\u00e9", "jose\u0301 ")  # with the accent as a sign of its own


def test_an_approval_is_signed_by_a_name_that_git_states_or_not_at_all(root, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(ConfigError, match="name") as caught:
        approved(root)
    assert "git config user.name" in caught.value.hint and read_approvals(root, NAME) == ()
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Grace Hopper")
    assert approved(root).approval.by == "Grace Hopper"


@pytest.mark.parametrize("change", [{"role": " "}, {"reason": ""}, {"reason": "x" * 1001}])
def test_an_approval_without_a_role_or_a_reason_is_refused(root, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        approved(root, order=dataclasses.replace(ORDER, **change))


def test_only_an_assessed_model_is_approved_and_once(root):
    with pytest.raises(ConfigError, match="only models"):
        approve(root, "prompt/answer", ORDER)
    with pytest.raises(NotFoundError, match="nearest"):
        approved(root, "smollm")
    done = approved(root)
    assert "Approve model" in done.command and done.to_json()["approval"]["until"] == "2027-11-30"
    with pytest.raises(ConfigError, match="has approved"):
        approved(root)
    staged = subprocess.run(
        ["git", "-C", root, "diff", "--cached", "--name-only"], capture_output=True, text=True, check=True
    )
    assert staged.stdout.split() == sorted(map(str, (approvals_of(NAME), path_of(NAME))))
    (root / path_of(NAME)).unlink()
    with pytest.raises(NotFoundError, match="unassessed"):
        approved(root)


def test_an_approval_is_decided_by_policy_and_audited(root):
    approved(root)
    folder = root / "pipelines/policies"
    shutil.copytree(ROOT / "pipelines/policies", folder)
    (folder / "no.cedar").write_text(
        '@id("no-approvals")\n@reason("Nobody approves today.")\n'
        'forbid (principal, action == Workbench::Action::"approve", resource);\n'
    )
    with pytest.raises(PolicyError, match="Nobody approves today"):
        approved(root, "wordllama-256")
    assert read_approvals(root, "wordllama-256") == ()
    lines = [line for path in (root / layout.STATE / "audit").rglob("*") for line in found_in(path)]
    rows = [json.loads(line) for line in lines if b'"approve"' in line]
    assert [row["status"] for row in rows] == ["Begun", "Success", "Begun", "Failure"]
    assert rows[1]["facts"]["card"] == read_approvals(root, NAME)[0].digest
    assert rows[3]["status_detail"] == "PolicyError" and not any(b"synthetic data" in line for line in lines)


def found_in(path):
    return path.read_bytes().splitlines() if path.is_file() else []


@pytest.mark.parametrize("text", ["approvals:\n  - {card: x}\n", "approval: []\n", "approvals: [", ""])
def test_a_damaged_file_of_approvals_approves_nothing(root, text):
    approved(root)
    (root / approvals_of(NAME)).write_text(text)
    with pytest.raises(ConfigError, match="approvals"):
        read_approvals(root, NAME)
    assert "is not approved" in problems(root, models=[NAME])[0]


# -- promotion --------------------------------------------------------------------------------------------


def at_phase(root, phase):
    page = root / "params.yaml"
    page.write_text(page.read_text().replace("phase: mvp", f"phase: {phase}"))


@pytest.mark.parametrize(("phase", "number"), [("mvp", 0), ("mlvp", 2)])
def test_a_version_and_a_model_are_refused_in_phase_mlvp_alone(root, monkeypatch, phase, number):
    at_phase(root, phase)
    monkeypatch.setattr(assessed, "SystemClock", lambda: ORDER.clock)
    shutil.copytree(ROOT / "pipelines/jobs", root / "pipelines/jobs")
    shutil.copytree(ROOT / "pipelines/prompts", root / "pipelines/prompts")
    monkeypatch.setattr(promote.jobspec, "code_of", lambda *_: None)
    dry = promote.ReleaseOptions(label="candidate", dry_run=True)
    assert len(promote.promote(root, "job/answers@4", dry).missing) == number
    model = requirements.model_not_assessed(root, registry.resolve(root, "model", NAME))
    assert len(model) == number / 2
    case, (spec, _) = config.load_params(root).use_cases["answers"], jobspec.load(root, "answers", 4)
    notes = requirements.not_assessed_yet(root, spec, case)
    assert [f"{NAME}@1" in note for note in notes] == [True] * (not number)
    assert promote.rollback(root, "job/answers", dataclasses.replace(dry, label="production")).missing == ()
    if number:
        with pytest.raises(ConfigError, match="not approved"):
            promote.promote(root, "job/answers@4", dataclasses.replace(dry, dry_run=False))
        approved(root)
        approved(root, "wordllama-256")
        assert promote.promote(root, "job/answers@4", dry).missing == ()


def test_a_person_whom_the_policies_deny_approves_nothing(root):
    folder = root / "pipelines/policies"
    shutil.copytree(ROOT / "pipelines/policies", folder)
    (folder / "more.cedar").write_text(
        '@id("nobody") forbid (principal, action == Workbench::Action::"approve", resource);'
    )
    with pytest.raises(PolicyError, match=f"nobody.*model/{NAME}|model/{NAME}.*nobody"):
        approved(root)
    assert read_approvals(root, NAME) == ()
