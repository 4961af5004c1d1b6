"""The engine's decisions: equal to Cedar's own, never an allow while the engine fails, and the same again."""

import dataclasses
import itertools
import random

import cedarpy
import pytest
from direct_cedar import GROUPS, NAMES, Direct, generated, source
from sizes import ATTEMPTS, SEED

from workbench.controls.position import OPERATIONS
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.policy import requests
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import read_folder
from workbench.ports.policy import Policy, PolicyRequest, Resource


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
    acts = {"promote", "rollback", "approve", "publish", "open_content", "manage_keys"}
    assert set(requests.ACTIONS) - OPERATIONS == acts


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


def _policy(condition):
    return f'@id("deep") permit (principal, action, resource) when {{ {condition} }};'


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.cedar", _policy("(" * 100_000), "brackets"),
        ("a.cedar", _policy("[" * 1_000 + "]" * 1_000 + " == 1"), "brackets"),
        ("a.cedar", _policy(" && ".join(["true"] * 20_000)), "operators"),
        ("a.cedar", _policy("if true then true else " * 10_000 + "true"), "operators"),
        ("a.cedar", _policy("resource" + ".a" * 20_000), "operators"),
        ("a.cedar", _policy(" && ".join(["true"] * 900)), "nested too deep"),
        ("a.cedar", _policy(" && ".join(["true"] * 200)), r"a\.cedar: the policy 'deep' .* in a row"),
        ("schema.cedarschema", "type T = " + "Set<" * 100_000, "brackets"),
        ("entities.json", "[" * 200_000, "entities"),
    ],
)  # fmt: skip
def test_a_text_that_would_end_the_engines_process_is_an_error(tmp_path, name, text, word):
    (tmp_path / "good.cedar").write_text('@id("good") permit (principal, action, resource);')
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=word):
        CedarPolicy(read_folder(tmp_path))


def test_long_sets_texts_and_comments_are_no_depth(tmp_path):
    names = ", ".join(f'"g{n} ((((((((("' for n in range(5_000))
    text = "// " + "(" * 500 + "\n" + _policy(f"[{names}].contains(resource.name)")
    (tmp_path / "a.cedar").write_text(text + "forbid (principal, action, resource) when { 1 < 2 };" * 500)
    assert len(CedarPolicy(read_folder(tmp_path)).policies) == 501


def test_a_folder_without_policies_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"0 files NAME\.cedar"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("action", "kind"), [("model.chat", "Model"), ("memory.search", "Memory")])
def test_a_principal_without_a_tenant_is_denied(action, kind):
    request = dataclasses.replace(asked(action, kind, principal=Principal(name="eve", admin=True)), tenant="")
    decision = CedarPolicy.builtin().decide(request)
    assert not decision.allowed and not decision.errors and "tenant" in decision.why
