"""Acts on assets and keys have their rows in the audit log: promote, roll back, approve, grant, revoke."""

import shutil
from pathlib import Path

import pytest

from workbench import files, layout
from workbench.audit import Filter, rows_of
from workbench.audit.acts import Act, audited, refusals_audited
from workbench.errors import NotFoundError, PolicyError, UnavailableError
from workbench.identity import Principal
from workbench.models.approval import path_of as approvals_of
from workbench.models.assessment import QUESTIONS, path_of
from workbench.promotion import promote
from workbench.promotion.approve import ApprovalOptions, approve
from workbench.promotion.promote import ReleaseOptions
from workbench.promotion.release import Released
from workbench.testing.fakes import FakeClock
from workbench.workspace import memory_admin
from workbench.workspace.memory_admin import Which

ROOT = Path(__file__).resolve().parents[3]
DONE = Released(what="job/answers", label="production", version=3, before=2)
NAME = "smollm2-135m"


@pytest.fixture
def root(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def acts(root) -> list[tuple[str, str, str]]:
    found = rows_of(root / layout.AUDIT, Filter(), root / layout.AUDIT_KEYS)
    return [(row["activity"], row["resource"]["name"], row["status"]) for row in found if "resource" in row]


@pytest.mark.parametrize("verb", ["promote", "rollback"])
def test_a_move_of_a_label_has_two_rows(root, monkeypatch, verb):
    monkeypatch.setattr(promote, f"_{verb}d" if verb == "promote" else "_rolled_back", lambda *_: DONE)
    getattr(promote, verb)(root, "job/answers", ReleaseOptions(reason="it is better"))
    assert acts(root) == [(verb, "answers", "Begun"), (verb, "answers", "Success")]
    last = rows_of(root / layout.AUDIT, Filter(), root / layout.AUDIT_KEYS)[-1]
    assert last["facts"] == {"label": "production", "version": 3, "before": 2} and last["reason_uid"]


def test_a_refused_promotion_and_a_dry_run(root):
    with pytest.raises(NotFoundError):
        promote.promote(root, "job/answers", ReleaseOptions(label="nowhere"))
    assert acts(root) == [("promote", "answers", "Begun"), ("promote", "answers", "Failure")]
    with pytest.raises(NotFoundError):
        promote.promote(root, "job/answers", ReleaseOptions(label="nowhere", dry_run=True))
    assert len(acts(root)) == 2


def test_nothing_is_promoted_when_the_audit_log_cannot_be_written(root, monkeypatch):
    (root / layout.AUDIT).parent.mkdir(parents=True)
    (root / layout.AUDIT).write_text("a file where the folder goes")
    moved = []
    monkeypatch.setattr(promote, "_promoted", lambda *_: moved.append(1) or DONE)
    with pytest.raises(UnavailableError):
        promote.promote(root, "job/answers", ReleaseOptions())
    assert moved == []


def test_an_approval_has_two_rows_and_is_not_written_without_them(tmp_repo):
    for folder in ("pipelines/models", "pipelines/assessments"):
        shutil.copytree(ROOT / folder, tmp_repo / folder)
    shutil.copy(ROOT / "params.yaml", tmp_repo)
    answers = {key: {"answered": "2026-11-30", "answer": f"An answer to {key}."} for key in QUESTIONS}
    raw = {
        "model": NAME, "owner": "people", "assessed_by": "Ada", "data_classes": ["internal"],
        "expires": "2027-11-30", "answers": answers,
    }  # fmt: skip
    files.write_atomic(tmp_repo / path_of(NAME), files.yaml_text(raw).encode())
    before = (tmp_repo / approvals_of(NAME)).exists()
    order = ApprovalOptions(
        role="risk officer", reason="synthetic data", clock=FakeClock("2026-12-01T00:00:00+00:00")
    )
    (tmp_repo / layout.AUDIT).parent.mkdir(parents=True)
    (tmp_repo / layout.AUDIT).write_text("a file where the folder goes")
    with pytest.raises(UnavailableError):
        approve(tmp_repo, f"model/{NAME}", order)
    assert (tmp_repo / approvals_of(NAME)).exists() == before
    (tmp_repo / layout.AUDIT).unlink()
    done = approve(tmp_repo, f"model/{NAME}", order)
    name = done.approval.card
    assert acts(tmp_repo) == [("approve", name, "Begun"), ("approve", name, "Success")]


@pytest.mark.parametrize("verb", ["grant", "revoke"])
def test_keys_of_tenants_have_their_rows(root, monkeypatch, verb):
    monkeypatch.setattr(memory_admin, "_on_server", lambda *_, **__: {"acme": "s3cret-key"})
    which = Which(use_case="answers", memory="handbook", tenant="acme")
    assert getattr(memory_admin, verb)(root, which, admin_key_env="ADMIN") == {"acme": "s3cret-key"}
    assert acts(root) == [(f"{verb}_key", "handbook", "Begun"), (f"{verb}_key", "handbook", "Success")]
    assert all(b"s3cret" not in path.read_bytes() for path in (root / layout.AUDIT).iterdir())


def test_a_promotion_has_the_decision_on_it_in_its_row(root, monkeypatch):
    monkeypatch.setattr(promote, "_promote_job", lambda *_: DONE)
    promote.promote(root, "job/answers", ReleaseOptions(reason="it is better", label="candidate"))
    last = rows_of(root / layout.AUDIT, Filter(), root / layout.AUDIT_KEYS)[-1]
    assert last["decision"]["allowed"] and len(last["decision"]["id"]) == 16 and last["decision"]["policies"]
    assert "decision" not in last["facts"]


def test_a_refused_act_has_the_decision_that_refused_it(root):
    refusal = PolicyError("no", policies=("only-admins",), decision="0123456789abcdef")
    what = Act(activity="publish", principal=Principal(name="ada"), type="Job", name="answers")
    for block in (audited, refusals_audited):
        with pytest.raises(PolicyError), block(root, what):
            raise refusal
        row = rows_of(root / layout.AUDIT, Filter(), root / layout.AUDIT_KEYS)[-1]
        wanted = {"id": "0123456789abcdef", "allowed": False, "policies": ["only-admins"]}
        assert row["decision"] == wanted and row["status"] == "Failure"
    with pytest.raises(NotFoundError), refusals_audited(root, what):
        raise NotFoundError("another error is not of the policies")
    assert [status for _, _, status in acts(root)] == ["Begun", "Failure", "Failure"]
