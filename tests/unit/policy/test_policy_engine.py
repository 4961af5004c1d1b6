"""The engine's decisions: equal to Cedar's own, never an allow while the engine fails, and the same again."""

import dataclasses
import itertools
import random

import cedarpy
import pytest
from sizes import ATTEMPTS, SEED

from workbench.controls.position import OPERATIONS
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.policy import requests
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import read_builtin, read_folder
from workbench.ports.policy import Policy, PolicyRequest, Resource

#: Policies beside the built-in ones: a forbid by group, by name, by phase, and one that can fail.
MORE = """
@id("no-external-personal") @reason("Personal data stays on this machine.")
forbid (principal, action in Workbench::Action::"ask", resource is Workbench::Model)
when { resource.external && context.data_class == "personal" };

@id("no-contractors")
forbid (principal in Workbench::Group::"contractors", action in Workbench::Action::"release", resource);

@id("bob-reads-none")
forbid (principal == Workbench::User::"bob", action in Workbench::Action::"read", resource is Workbench::Item)
when { resource.owner == "eve" };

@id("overflows") @reason("Adds beyond what Cedar can count.")
forbid (principal, action, resource is Workbench::Item)
when { resource.classification + 9223372036854775807 < 0 };
"""
ENTITIES = (
    '[{"uid": {"type": "Workbench::Group", "id": "temps"}, "attrs": {}, '
    '"parents": [{"type": "Workbench::Group", "id": "contractors"}]}]'
)
NAMES = ["alice", "bob", 'ha"c\nk\\er', "principal:bob", "job:answers", "", "日本", "' || true || '"]
GROUPS = ["everyone", "people", "contractors", "temps", "principal:bob"]


def source(more=MORE):
    builtin = read_builtin()
    return dataclasses.replace(
        builtin, policies={**builtin.policies, "z.cedar": more}, entities=ENTITIES, builtin=False
    )


def generated(chance):
    """One request of any kind, valid and not."""
    kind = chance.choice([*requests.RESOURCES, "Item", "Item", "Model"])
    attributes = {}
    if kind == "Item":
        attributes = {
            "acl": chance.sample([*GROUPS, "principal:alice"], chance.randint(0, 3)),
            "classification": chance.choice([0, 0, 1, 2]),
            "owner": chance.choice(["", "eve", "bob"]),
        }
    if kind == "Model":
        attributes = {"external": chance.random() < 0.5}
    return PolicyRequest(
        principal=Principal(
            name=chance.choice(NAMES),
            kind=chance.choice(["user", "user", "job"]),
            groups=tuple(chance.sample(GROUPS, chance.randint(0, 3))),
            clearance=chance.randint(0, 2),
            assurance=chance.choice(["asserted", "authenticated"]),
            admin=chance.random() < 0.3,
        ),
        tenant=chance.choice(["acme", "globex"]),
        action=chance.choice([*requests.ACTIONS, *requests.ACTION_GROUPS["read"], "nothing"]),
        resource=Resource(
            type=kind,
            id=chance.choice(NAMES),
            tenant=chance.choice(["acme", "globex"]),
            attributes=attributes,
        ),
        context={
            "data_class": chance.choice(["", "personal"]),
            "unfiltered": chance.random() < 0.2,
            "purpose": chance.choice(["explore", "job"]),
        },
    )


class Direct:
    """Cedar asked without any of the workbench's code: one text of policies, entities written by hand."""

    def __init__(self, texts, schema, entities):
        self.policies = cedarpy.PolicySet.from_str("\n".join(texts))
        self.schema, self.groups = cedarpy.Schema.from_str(schema), entities

    def allows(self, r):
        who = {"type": f"Workbench::{r.principal.kind.title()}", "id": r.principal.name}
        what = {"type": f"Workbench::{r.resource.type}", "id": r.resource.id}
        empty = {
            "Model": {"name": "", "provider": "", "external": False, "region": ""},
            "Memory": {"name": ""},
            "Item": {
                "memory": "",
                "kind": "",
                "source": "",
                "subject": "",
                "trust": 0,
                "valid_from": 0,
                "valid_to": 0,
                "expires": 0,
                "owner": "",
                "acl": [],
            },
            "Asset": {"kind": "", "name": "", "version": 0, "label": ""},
            "Output": {"name": ""},
            "Content": {"use_case": "", "data_class": "", "principal": ""},
        }[r.resource.type]
        rights = {
            "name": r.principal.name, "tenant": r.tenant, "groups": list(r.principal.groups),
            "grants": [*r.principal.groups, f"principal:{r.principal.name}"],
            "clearance": r.principal.clearance, "assurance": r.principal.assurance,
            "admin": r.principal.admin,
        }  # fmt: skip
        entities = [
            {
                "uid": who,
                "attrs": rights,
                "parents": [{"type": "Workbench::Group", "id": name} for name in r.principal.groups],
            },
            {
                "uid": what,
                "attrs": {**empty, **r.resource.attributes, "tenant": r.resource.tenant},
                "parents": [],
            },
            *self.groups,
        ]
        context = {
            "use_case": "", "phase": "mvp", "assurance": r.principal.assurance, "external": False,
            "environment": "explore", **r.context,
        }  # fmt: skip
        action = {"type": "Workbench::Action", "id": r.action}
        answer = cedarpy.is_authorized(
            {"principal": who, "action": action, "resource": what, "context": context},
            self.policies,
            entities,
            self.schema,
        )
        errors = answer.diagnostics.errors
        names = answer.diagnostics.id_annotations_by_reason
        return answer.allowed and not errors, sorted(names[reason] for reason in answer.diagnostics.reasons)


def test_every_decision_is_cedars_own():
    made = source()
    policy = CedarPolicy(made)
    groups = [{"uid": {"type": "Workbench::Group", "id": "temps"}, "attrs": {},
               "parents": [{"type": "Workbench::Group", "id": "contractors"}]}]  # fmt: skip
    direct = Direct(made.policies.values(), made.schema, groups)
    chance, seen = random.Random(SEED), []
    for _ in range(ATTEMPTS):
        request = generated(chance)
        decision = policy.decide(request)
        seen.append((decision.allowed, bool(decision.errors)))
        assert (decision.allowed, sorted(decision.policies)) == direct.allows(request), request
    assert min(seen.count((True, False)), seen.count((False, False)), seen.count((False, True))) > 20


class Failing:
    """The engine's own function, which fails at random in each of the ways in which it can."""

    def __init__(self, real, chance):
        self.real, self.chance, self.failed = real, chance, False

    def __call__(self, requests, policies, entities, schema=None):
        self.failed = self.chance.random() < 0.5
        if not self.failed:
            return self.real(requests, policies, entities, schema)
        way = self.chance.randrange(5)
        if way == 0:
            raise ValueError("a secret value")
        if way == 1:
            raise type("PanicException", (BaseException,), {})("panicked")
        if way == 2:
            return []
        allow = {"decision": "Allow", "diagnostics": {"reason": ["read-items"], "errors": ["it broke"]}}
        odd = {"decision": "NoDecision", "diagnostics": {"reason": [], "errors": []}}
        return [cedarpy.AuthzResult(allow if way == 3 else odd) for _ in requests]


def test_an_engine_that_fails_at_random_never_allows(monkeypatch):
    chance, allowed, denied = random.Random(SEED), 0, 0
    failing = Failing(cedarpy.is_authorized_batch, chance)
    monkeypatch.setattr(cedarpy, "is_authorized_batch", failing)
    sound = CedarPolicy(source())
    for _ in range(ATTEMPTS):
        request = generated(chance)
        policy = CedarPolicy.__new__(CedarPolicy)
        policy.__dict__.update({**sound.__dict__, "_kept": {}})
        decision = policy.decide(request)
        assert not (failing.failed and decision.allowed)
        assert not (decision.allowed and decision.errors)
        if failing.failed:
            denied += 1
            assert decision.errors and "secret" not in decision.why
            assert not policy._kept, "a failed decision is asked again"
        allowed += decision.allowed
    assert allowed and denied > ATTEMPTS / 3


def test_an_interrupt_is_no_decision(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cedarpy, "is_authorized_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CedarPolicy.builtin().decide(generated(random.Random(1)))


def asked(action="memory.search", kind="Memory", **more):
    principal = more.pop("principal", Principal(name="alice"))
    resource = Resource(type=kind, id="handbook", tenant=more.pop("tenant", "acme"), attributes=more)
    return PolicyRequest(principal=principal, tenant="acme", action=action, resource=resource)


def test_the_same_request_has_the_same_id_in_every_process_and_another_set_gives_another():
    first, again = (CedarPolicy.builtin().decide(asked()) for _ in range(2))
    other = CedarPolicy(source()).decide(asked())
    assert first == again and len(first.id) == 16 and int(first.id, 16)
    assert other.allowed and other.id != first.id and other.policy_set != first.policy_set
    assert isinstance(CedarPolicy.builtin(), Policy)


def test_a_decision_names_its_policy_and_its_reason():
    decision = CedarPolicy.builtin().decide(asked())
    assert decision.policies == ("read-memories",) and "its tenant" in decision.why
    assert CedarPolicy.builtin().decide(asked(tenant="globex")).why.startswith("no policy permits it (")


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), "\ud800"])
def test_what_is_no_json_is_denied(value):
    decision = CedarPolicy.builtin().decide(asked("model.chat", "Model", name=value))
    assert not decision.allowed and decision.errors


def test_items_of_a_search_are_decided_at_once_as_each_alone():
    chance, principal = random.Random(SEED), Principal(name="bob", groups=("people",), clearance=1)
    made = [
        dataclasses.replace(
            asked(
                kind="Item", principal=principal, acl=chance.sample(GROUPS, 2),
                classification=chance.randint(0, 2),
            ),
        )
        for _ in range(60)
    ]  # fmt: skip
    numbered = [
        dataclasses.replace(request, resource=dataclasses.replace(request.resource, id=str(n)))
        for n, request in enumerate(made)
    ]
    for batch in (made, numbered):  # one id with several attributes, and many ids
        alone = [CedarPolicy(source()).decide(request) for request in batch[:20]]
        assert CedarPolicy(source()).decide_all(batch)[:20] == alone
    both = [asked(), asked(principal=principal)]
    with pytest.raises(ValueError, match="several principals"):
        CedarPolicy.builtin().decide_all(both)


@pytest.mark.parametrize("name", NAMES)
def test_a_residual_is_found_for_any_name(name):
    answer = CedarPolicy.builtin().residual(Principal(name=name), "acme", "memory.search")
    assert not answer["diagnostics"]["errors"]
    assert {"read-items", "read-memories"} <= set(answer["diagnostics"]["nontrivial_residuals"])
    assert set(answer["residuals"]) == set(CedarPolicy.builtin().policies)


def test_every_operation_of_the_ports_is_an_action():
    assert set(requests.ACTIONS) >= OPERATIONS
    assert set(requests.ACTIONS) - OPERATIONS == {"promote", "rollback", "approve", "publish", "open_content"}


def test_the_schema_takes_every_action_on_its_resources_and_no_other():
    policy, fits = CedarPolicy.builtin(), set()
    for action, kind in itertools.product(requests.ACTIONS, requests.RESOURCES):
        if not policy.decide(asked(action, kind)).errors:
            fits.add((action, kind))
    assert {action for action, _ in fits} == set(requests.ACTIONS)
    assert ("memory.search", "Item") in fits and ("memory.search", "Model") not in fits
    assert {kind for _, kind in fits} == set(requests.RESOURCES)


def test_a_request_survives_its_record():
    chance = random.Random(SEED)
    for _ in range(100):
        request = generated(chance)
        assert requests.from_record(request.to_json(), where="it") == request


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"principal": {"name": "a", "kind": "robot"}}, "job"),
        ({"extra": 1}, "extra"),
        ({"action": 3}, "action"),
        ({"principal": {"name": "a", "clearance": "high"}}, "clearance"),
    ],
)
def test_a_wrong_record_is_an_error_that_names_the_field(change, word):
    record = asked().to_json() | change
    with pytest.raises(ConfigError, match=word):
        requests.from_record(record, where="record 7")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.cedar", "permit (principal action, resource);", "a.cedar"),
        ("a.cedar", "// nothing\n", "no policy"),
        ("a.cedar", "permit (principal == ?principal, action, resource);", "template"),
        ("a.cedar", '@id("x") permit (principal, action, resource);' * 2, "'x'"),
        ("schema.cedarschema", "entity U { a: Strng };", "Strng"),
        ("schema.cedarschema", "entity {", "schema.cedarschema"),
        ("entities.json", "[{]", "entities.json"),
        ("entities.json", '[{"uid": {"type": "Workbench::Grp", "id": "a"}, "attrs": {}, "parents": []}]',
         "entities.json"),
        ("notes.txt", "x", "notes.txt"),
        ("a.cedar", b"\xff\xfe\x00", "UTF-8"),
        ("a.cedar", "x" * (1 << 20) + "x", "larger"),
    ],
)  # fmt: skip
def test_a_broken_set_is_an_error_that_names_its_file(tmp_path, name, text, word):
    (tmp_path / "good.cedar").write_text('@id("good") permit (principal, action, resource);')
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=word):
        CedarPolicy(read_folder(tmp_path))


def test_a_folder_without_policies_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"0 files NAME\.cedar"):
        read_folder(tmp_path)
