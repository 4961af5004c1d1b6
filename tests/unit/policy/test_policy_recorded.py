"""Recorded decisions: explained, decided again by a draft, and made on verbs that are no calls."""

import dataclasses
import json
import random
import shutil

import orjson
import pytest
from click.testing import CliRunner
from direct_cedar import ENTITIES, MORE, Direct, generated
from sizes import ATTEMPTS, SEED

from workbench import config, identity
from workbench.cli.app import cli
from workbench.errors import PolicyError
from workbench.identity import Principal
from workbench.layout import CALLS
from workbench.policy import authorise
from workbench.policy.authorise import DECISIONS
from workbench.policy.engine import CedarPolicy
from workbench.policy.explain import explain
from workbench.policy.recorded import find_decisions, recorded_decisions
from workbench.policy.requests import from_record
from workbench.policy.source import BUILTIN, FOLDER, read_builtin
from workbench.policy.what_if import what_if
from workbench.ports.policy import PolicyRequest
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.records.log import read_records
from workbench.records.segments import CallLog
from workbench.testing.fakes import FakeClock

NO_CONTRACTORS = """
@id("no-contractors") @reason("Contractors release nothing.")
forbid (principal, action in Workbench::Action::"release", resource);
"""
USE_CASE = """
use_cases:
  answers:
    {{title: t, purpose: p, owner: o, phase: mvp, notebook: n.ipynb, tenants: [acme], data: data, model: m,
      report: r, gates: {{mvp: {{cases: {{min: 1}}, confidence: 0.9}}}}, policy: {{enforce: {mode}}}{more}}}
"""


PROMOTION = PolicyRequest(
    principal=Principal(name="ada"),
    tenant="",
    action="promote",
    resource=authorise.asset("job", "answers"),
    context={"data_class": "", "unfiltered": False, "purpose": "release"},
)


def recorded(root, number, *, seed=SEED):
    """Write this many calls with decisions of the built-in set into the record, and return the requests."""
    policy, chance, log = CedarPolicy.builtin(), random.Random(seed), CallLog(root / CALLS)
    log.open()
    made = {}
    for n in range(number):
        request = generated(chance) if n else PROMOTION
        decision = policy.decide(request)
        made[decision.id] = (request, decision.allowed)
        line = {
            "trace_id": f"{n:032x}", "at": f"2026-11-{1 + n % 28:02}T00:00:00.000000+00:00",
            "use_case": "answers", "tenant": request.tenant, "principal": request.principal.name,
            "operation": request.action, "decision": {**decision.to_json(), "action": request.action},
            "policy_request": orjson.dumps(request.to_json()).decode(),
        }  # fmt: skip
        log.append(orjson.dumps(line))
    return made


def draft_of(folder, *texts):
    shutil.copytree(BUILTIN, folder)
    for number, text in enumerate(texts):
        (folder / f"more{number}.cedar").write_text(text)
    return folder


def repository(root, *, mode="enforce", more="", policies=()):
    (root / "params.yaml").write_text(USE_CASE.format(mode=mode, more=more))
    if policies:
        draft_of(root / FOLDER, *policies)
    return root


def test_a_draft_flips_exactly_the_ids_that_direct_evaluation_flips(tmp_path):
    made = recorded(tmp_path, ATTEMPTS // 5)
    builtin, release = read_builtin(), NO_CONTRACTORS.replace("no-contractors", "no-release")
    policies = {"workbench.cedar": builtin.policies["workbench.cedar"], "z.cedar": MORE + release}
    source = dataclasses.replace(builtin, policies=policies, entities=ENTITIES)
    found = what_if(CedarPolicy(source), recorded_decisions(tmp_path), name="draft")
    direct = Direct(source.policies.values(), source.schema, json.loads(ENTITIES))
    decided = {key: direct.allows(request)[0] for key, (request, _) in made.items()}
    flips = {key: allows for key, allows in decided.items() if allows != made[key][1]}
    assert {flip.id: flip.would_allow for flip in found.flips} == flips
    assert flips and found.decisions == len(made) and found.calls == ATTEMPTS // 5
    assert sum(found.counts.values()) == sum(flip.calls for flip in found.flips)
    assert all("would be denied by" in what for what in found.counts)


def test_the_same_set_flips_nothing(tmp_path):
    recorded(tmp_path, 100)
    found = what_if(CedarPolicy.builtin(), recorded_decisions(tmp_path), name="same")
    assert not found.flips and not found.unreadable and "changes 0 of" in str(found)


def test_a_request_that_cannot_be_read_is_named_and_not_decided(tmp_path):
    log = CallLog(tmp_path / CALLS)
    log.open()
    decision = {"id": "a" * 16, "allowed": True, "action": "model.chat", "policies": [], "policy_set": "b"}
    log.append(orjson.dumps({"trace_id": "1" * 32, "decision": decision, "policy_request": {"odd": 1}}))
    found = what_if(CedarPolicy.builtin(), recorded_decisions(tmp_path), name="draft")
    assert found.unreadable == ("a" * 16,) and not found.flips


@pytest.mark.parametrize(
    "request_text",
    ["", "{", "[]", "5", '"x"', '{"principal": 5}', '{"principal": {"groups": 5}, "context": []}'],
)
def test_a_torn_or_forged_request_is_shown_as_unreadable(tmp_path, monkeypatch, request_text):
    root, log = repository(tmp_path), CallLog(tmp_path / CALLS)
    log.open()
    decision = {"id": "a" * 16, "allowed": True, "action": "model.chat", "policies": [], "policy_set": "b"}
    log.append(orjson.dumps({"trace_id": "1" * 32, "decision": decision, "policy_request": request_text}))
    found = what_if(CedarPolicy.builtin(), recorded_decisions(root), name="draft")
    assert found.unreadable == ("a" * 16,)
    done = run(root, monkeypatch, "audit", "explain", "a" * 16)
    assert done.exit_code == 0 and "cannot be read" in done.stdout


def test_a_record_without_decisions_is_no_error(tmp_path):
    assert list(recorded_decisions(tmp_path)) == [] == find_decisions(tmp_path, "a" * 16)


def test_a_decision_is_explained_by_its_id_and_by_its_calls_trace(tmp_path):
    made = recorded(tmp_path, 50)
    key, (request, allowed) = next(item for item in made.items() if not item[1][1])
    (found,) = find_decisions(tmp_path, key)
    assert (found.allowed, from_record(found.request, where="it")) == (allowed, request)
    (same,) = find_decisions(tmp_path, found.trace_id)
    assert (same.id, same.calls) == (key, 1)
    shown = str(explain(CedarPolicy.builtin(), found))
    assert key in shown and "denied" in shown and "today, by the same policies: deny" in shown


def test_an_explanation_says_when_todays_policies_decide_otherwise(tmp_path):
    made = recorded(tmp_path, 5)
    key = next(k for k, (request, _) in made.items() if request == PROMOTION)
    policy = CedarPolicy(
        dataclasses.replace(read_builtin(), policies={**read_builtin().policies, "z.cedar": NO_CONTRACTORS})
    )
    (found,) = find_decisions(tmp_path, key)
    shown = str(explain(policy, found))
    assert "allowed" in shown and "by other policies: deny (no-contractors)" in shown
    assert "release-assets: A person may promote" in shown


def test_a_verb_is_decided_and_recorded(tmp_path):
    root = repository(tmp_path)
    context = authorise.system_context(root, "answers")
    decision = authorise.authorise(root, context, "promote", authorise.asset("job", "answers", version=2))
    assert decision.allowed and decision.policies == ("release-assets",)
    (line,) = read_records(root / DECISIONS)
    assert (
        line["decision"]["id"] == decision.id
        and json.loads(line["policy_request"])["resource"]["id"] == "job/answers"
    )
    (found,) = recorded_decisions(root)
    assert found.action == "promote" and find_decisions(root, decision.id)[0].allowed


def test_a_job_may_not_promote_and_the_denial_is_recorded(tmp_path):
    root = repository(tmp_path)
    context = dataclasses.replace(authorise.system_context(root), principal=identity.of_job("answers"))
    with pytest.raises(PolicyError, match="a job may not") as caught:
        authorise.authorise(root, context, "promote", authorise.asset("job", "answers"))
    assert find_decisions(root, caught.value.decision)[0].allowed is False


def test_observing_lets_a_verb_pass_that_only_the_repositorys_set_denies(tmp_path):
    root = repository(tmp_path, mode="observe", policies=(NO_CONTRACTORS,))
    about = authorise.asset("job", "answers")
    decision = authorise.authorise(root, authorise.system_context(root, "answers"), "promote", about)
    assert not decision.allowed and read_records(root / DECISIONS)[0]["decision"]["observed"]
    job = dataclasses.replace(authorise.system_context(root, "answers"), principal=identity.of_job("answers"))
    with pytest.raises(PolicyError):
        authorise.authorise(root, job, "promote", about)


def test_the_user_of_a_process_has_the_rights_of_the_use_case(tmp_path):
    root = repository(tmp_path, more=", admins: [somebody], groups: [people]")
    context = authorise.system_context(root, "answers")
    assert context.principal.groups == ("people",) and not context.principal.admin
    (root / "params.yaml").write_text("use_cases: [")
    broken = authorise.system_context(root, "answers")
    assert not broken.principal.admin and broken.phase == "mlvp"


@pytest.mark.parametrize("verb", [promote, rollback])
def test_a_release_that_is_denied_writes_nothing(tmp_path, verb):
    root = repository(tmp_path, policies=(NO_CONTRACTORS,))
    with pytest.raises(PolicyError, match="no-contractors"):
        verb(root, "prompt/answer", ReleaseOptions())
    assert not (root / "pipelines/prompts").exists()
    (line,) = read_records(root / DECISIONS)
    assert line["decision"]["action"] == verb.__name__
    with pytest.raises(PolicyError):
        verb(root, "prompt/answer", ReleaseOptions(dry_run=True))
    assert len(read_records(root / DECISIONS)) == 1, "a dry run writes nothing"


def run(root, monkeypatch, *words):
    monkeypatch.chdir(root)
    return CliRunner().invoke(cli, words, catch_exceptions=True)


def test_the_commands_explain_and_what_if(tmp_path, monkeypatch):
    root = repository(tmp_path)
    made = recorded(root, 100)
    key = next(iter(made))
    done = run(root, monkeypatch, "audit", "explain", key, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["decision"]["id"] == key
    draft = draft_of(tmp_path / "draft", NO_CONTRACTORS)
    done = run(root, monkeypatch, "audit", "what-if", str(draft), "--json")
    flips = {
        key
        for key, (r, allowed) in made.items()
        if allowed and r.action in {"promote", "rollback", "approve"}
    }
    assert {flip["id"] for flip in json.loads(done.stdout)["flips"]} == flips and flips
    done = run(root, monkeypatch, "audit", "what-if", str(draft))
    assert f"changes {len(flips)} of" in done.stdout and "no-contractors" in done.stdout


def test_the_commands_keep_use_cases_of_others_hidden(tmp_path, monkeypatch):
    root = repository(tmp_path, more=", admins: [somebody]")
    key = next(iter(recorded(root, 20)))
    done = run(root, monkeypatch, "audit", "explain", key)
    assert done.exit_code and key in str(done.exception) and "that you may see" in str(done.exception)
    done = run(root, monkeypatch, "audit", "what-if", str(BUILTIN), "--json")
    assert json.loads(done.stdout)["calls"] == 0


def test_check_demands_enforced_policies_in_phase_mlvp(tmp_path):
    from workbench.promotion.enforced import unenforced
    from workbench.promotion.requirements import not_enforced

    root = repository(tmp_path, mode="observe")
    case = config.load_params(root).use_cases["answers"]
    assert unenforced("answers", case) == "" and not [*not_enforced("answers", case)]
    case = dataclasses.replace(case, phase="mlvp")
    assert "mlvp" in unenforced("answers", case)
    (blocker,) = not_enforced("answers", case)
    assert "observed" in blocker.what and "enforce: enforce" in blocker.fix


def test_check_names_the_problems_of_the_set(tmp_path, monkeypatch):
    root = repository(
        tmp_path, policies=('@id("typo") forbid (principal, action == Workbench::Action::"x", resource);',)
    )
    done = run(root, monkeypatch, "check")
    assert "more0.cedar: typo: there is no action 'x'" in done.stdout and done.exit_code == 1


def test_a_job_publishes_for_its_tenant_unless_a_policy_forbids_it(tmp_path, monkeypatch):
    root = repository(tmp_path)
    assert authorise.authorise_publication(root, "answers", "acme").policies == ("publish-outputs",)
    assert authorise.authorise_publication(root, "unknown", None).allowed
    stop = '@id("stop") @reason("No output today.") forbid (principal is Workbench::Job, action == '
    draft_of(root / FOLDER, stop + 'Workbench::Action::"publish", resource);')
    done = run(root, monkeypatch, "jobs", "run", "answers")
    assert isinstance(done.exception, PolicyError) and "No output today." in str(done.exception)


def test_old_decisions_on_verbs_are_purged_with_the_calls(tmp_path, monkeypatch):
    root = repository(tmp_path)
    clock = FakeClock("2026-11-01T00:00:00+00:00")
    for days in (0, 20):
        clock.advance(days * 86_400)
        context = dataclasses.replace(authorise.system_context(root, "answers"), clock=clock)
        authorise.authorise(root, context, "promote", authorise.asset("job", f"a{days}"))
    done = run(root, monkeypatch, "calls", "purge", "--before", "2026-11-10")
    assert done.exit_code == 0
    (line,) = read_records(root / DECISIONS)
    assert json.loads(line["policy_request"])["resource"]["id"] == "job/a20"
    authorise.authorise(root, context, "promote", authorise.asset("job", "after"))
    assert len(read_records(root / DECISIONS)) == 2, "a log that was replaced is opened again"
