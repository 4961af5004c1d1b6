"""The rows of calls and acts: what a row has, and that no name of a person and no content is in it."""

import dataclasses
import os
from pathlib import Path

import pytest

import workbench as wb
from workbench import layout
from workbench.audit import Act, CallAudit, Chain, Filter, audited, chain_at, log_act, rows_of, verify
from workbench.audit.calls import row_of_call
from workbench.audit.signing import AuditPseudonyms, Signer
from workbench.errors import ConfigError, RefusedError, UnavailableError
from workbench.identity import Principal, from_system, of_job
from workbench.models import ModelCard
from workbench.records.calls import read_calls
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths

ROOT = Path(__file__).resolve().parents[2]
ADA = Principal(name="ada.lovelace", assurance="authenticated")


@pytest.fixture
def ws(tmp_path):
    """A repository of its own with one model."""
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    boundary = Boundary(
        tmp_path, mode="live", tape=Tape(tmp_path / "t"), cards=[ModelCard.unsaved("m")],
        places=StatePaths(home=tmp_path),
    )  # fmt: skip
    boundary._models["m"] = FakeModel()
    made = wb.connect("answers", root=tmp_path, through=boundary)
    yield made
    made.close()


def rows(root, **which) -> list[dict]:
    return rows_of(root / layout.AUDIT, Filter(**which), root / layout.AUDIT_KEYS)


def written(root) -> bytes:
    return b"".join(path.read_bytes() for path in (root / layout.AUDIT).iterdir())


def test_every_call_has_a_row_and_no_name_of_a_person_or_content_is_in_it(ws):
    bound = ws.bind(subject="cust-4711").session("chat-jane")
    reply = bound.model("m").chat("The CANARY sings")
    ws.boundary._models["m"] = FakeModel(lambda _: RefusedError("no CANARY key", status=401))
    with pytest.raises(RefusedError):
        bound.model("m").chat("CANARY again")
    ws.close()
    first, second, checkpoint = rows(ws.root)
    assert (first["metadata"]["uid"], first["tenant_uid"]) == (reply.trace_id, "acme")
    assert (first["api"], first["status"], first["status_code"]) == (
        {"operation": "model.chat"}, "Success", "ok",
    )  # fmt: skip
    assert (second["status"], second["status_code"], second["status_detail"]) == (
        "Failure", "refused", "RefusedError",
    )  # fmt: skip
    assert checkpoint["activity"] == "checkpoint"
    for secret in (b"CANARY", b"cust-4711", b"chat-jane", from_system().name.encode()):
        assert secret not in written(ws.root)


def test_every_record_has_one_row(ws):
    for n in range(5):
        ws.model("m").chat(f"question {n}")
    traces = read_calls(ws.root / layout.CALLS)["trace_id"].to_list()
    assert [row["metadata"]["uid"] for row in rows(ws.root, action="model.chat")] == traces


def test_the_row_is_written_before_the_answer_is_given(ws):
    assert list(ws.model("m").stream("hello"))  # its events are read ahead, so the row may come before them
    assert len(rows(ws.root, action="model.chat")) == 1
    ws.model("m").chat("hello")
    assert len(rows(ws.root, action="model.chat")) == 2


def test_a_person_and_a_subject_have_the_same_pseudonym_in_every_row(ws):
    for subject in ("cust-1", "cust-1", "cust-2"):
        ws.bind(subject=subject).model("m").chat("hello")
    found = rows(ws.root)
    assert len({row["actor"]["uid"] for row in found}) == 1
    one, again, two = (row["subject_uid"] for row in found)
    assert one == again != two
    ours = AuditPseudonyms.load(ws.root / layout.AUDIT_KEYS)
    assert one == ours.of("subject", "acme", "cust-1") != ours.of("subject", "globex", "cust-1")
    assert [len(rows(ws.root, principal=name)) for name in (from_system().name, "nobody")] == [3, 0]


def test_a_call_fails_before_the_model_is_asked_when_the_log_cannot_be_written(ws):
    (ws.root / layout.AUDIT).parent.mkdir(parents=True, exist_ok=True)
    (ws.root / layout.AUDIT).write_text("a file where the folder goes")
    asked = []
    ws.boundary._models["m"] = FakeModel(lambda body: asked.append(body) or "hi")
    with pytest.raises(UnavailableError, match="audit"):
        ws.model("m").chat("hello")
    assert asked == []


def test_a_damaged_key_of_pseudonyms_stops_the_call(ws):
    keys = ws.root / layout.AUDIT_KEYS
    keys.mkdir(parents=True)
    (keys / "pseudonyms.key").write_text("short")
    with pytest.raises(ConfigError, match=r"pseudonyms\.key"):
        ws.model("m").chat("hello")


def test_a_decision_and_what_privacy_and_moderation_did_are_in_the_row(tmp_path):
    record = {
        "trace_id": "t1", "at": "2026-11-30T09:00:00.000000+00:00", "principal": "grace", "tenant": "acme",
        "assurance": "asserted", "use_case": "answers", "port": "model", "operation": "chat", "model": "m",
        "target": "m", "outcome": "refused", "error": "PolicyError", "key": "ab" * 32,
        "data_class": "personal",
        "decision": {
            "id": "1" * 16, "allowed": False, "policies": ["no-external"], "policy_set": "2" * 12,
            "action": "model.chat", "observed": False,
        },
        "findings": [{"kind": "person", "count": 2}], "would_refuse": ["grace a month"],
    }  # fmt: skip
    chain = Chain(tmp_path / "audit", tmp_path / "keys")
    CallAudit(chain)(record)
    chain.close()
    row, checkpoint = rows_of(tmp_path / "audit", Filter(), tmp_path / "keys")
    assert row["decision"]["policies"] == ["no-external"] and row["decision"]["allowed"] is False
    assert row["findings"] == [{"kind": "person", "count": 2}] and row["would_refuse"] == ["budget"]
    assert row["request_uid"] not in ("", "ab" * 32) and checkpoint["policy_set"] == "2" * 12
    assert "grace" not in str(row)


def test_an_act_has_a_row_when_it_begins_and_one_when_it_ends(tmp_path):
    act = Act(
        activity="promote", principal=ADA, type="Job", name="answers", reason="Jane asked", subject="s",
        tenant="acme", facts={"label": "production"},
    )  # fmt: skip
    with audited(tmp_path, act) as facts:
        facts["version"] = 3
    with pytest.raises(RefusedError), audited(tmp_path, act):
        raise RefusedError("no")
    chain_at(tmp_path).close()
    found = rows(tmp_path, action="promote")
    assert [(row["status"], row["facts"].get("version")) for row in found] == [
        ("Begun", None), ("Success", 3), ("Begun", None), ("Failure", None),
    ]  # fmt: skip
    assert found[3]["status_detail"] == "RefusedError"
    assert b"Jane" not in written(tmp_path) and b"lovelace" not in written(tmp_path)
    ours = AuditPseudonyms.load(tmp_path / layout.AUDIT_KEYS)
    assert found[0]["reason_uid"] == ours.of("reason", "Jane asked")


def test_an_act_whose_row_cannot_be_written_is_not_done(tmp_path):
    (tmp_path / layout.AUDIT).parent.mkdir(parents=True)
    (tmp_path / layout.AUDIT).write_text("a file")
    done = []
    act = Act(activity="publish", principal=of_job("answers"), type="Job", name="answers@1")
    with pytest.raises(UnavailableError), audited(tmp_path, act):
        done.append(1)
    assert done == []


def test_the_row_of_an_act_is_on_the_disk_at_once(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr("workbench.audit.chain.os.fsync", lambda fd: synced.append(fd) or real(fd))
    log_act(tmp_path, Act(activity="approve", principal=ADA, type="Model", name="m@1"))
    assert synced
    chain_at(tmp_path).close()


def test_erasing_a_person_changes_no_row(ws):
    ws.bind(subject="cust-4711").model("m").chat("hello")
    ws.close()
    key = ws.root / "public.pem"
    key.write_bytes(Signer.load(ws.root / layout.AUDIT_KEYS).public_pem())
    (ws.root / layout.AUDIT_KEYS / "pseudonyms.key").unlink()  # nobody can link a pseudonym from now on
    assert verify(ws.root / layout.AUDIT, [key]).passed


def test_the_principal_of_a_row_is_the_bound_one(ws):
    own = ws.context.principal
    ws.model("m").chat("hello")
    narrowed = dataclasses.replace(own, groups=("everyone",))
    ws.bind(principal=narrowed).model("m").chat("hello")
    assert len({row["actor"]["uid"] for row in rows(ws.root)}) == 1


def test_rules_that_would_refuse_are_named_and_budgets_are_not():
    names = ["policy:no-external", "grace: a month", "moderation:instructions", "budget of ada", "policy"]
    record = dict.fromkeys(
        ("tenant", "port", "operation", "target", "principal", "assurance", "trace_id"), "m"
    )
    record |= {"at": "2026-11-30T09:00:00+00:00", "use_case": "answers", "outcome": "ok"}
    row = row_of_call({**record, "would_refuse": names}, AuditPseudonyms(key=b"k" * 32))
    assert row["would_refuse"] == ["budget", "moderation:instructions", "policy:no-external"]
