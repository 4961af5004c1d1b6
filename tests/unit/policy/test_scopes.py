"""The control `policy` and grants: what policies see of them, and the scope that no key exceeds."""

from __future__ import annotations

import dataclasses
import json

import pytest
from calls import ask, behind, chat, search

from workbench.controls.fallback import Fallback
from workbench.controls.stack import fold
from workbench.errors import PolicyError, RefusedError, UnavailableError
from workbench.identity import GrantScope
from workbench.models.card import ModelCard
from workbench.policy.current import CurrentPolicy
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import FOLDER, read_builtin
from workbench.ports import ModelCandidate
from workbench.testing.fakes import FakeModel
from workbench.workspace.policies import control_of

CONFINED = """
@id("confined-alone") @reason("Only confined runs ask models by the owner's token.")
forbid (principal, action in Workbench::Action::"ask", resource is Workbench::Model)
when { context.api_key_kind == "owner" && context.confinement != "full" };
"""


def handled(root, *, observe=False):
    return fold(
        {"policy": control_of(CurrentPolicy(root), ModelCard.unsaved, observe=observe)}, behind(FakeModel())
    )


def granted(call, **scope):
    context = dataclasses.replace(call.context, grant=GrantScope(**{"kind": "key", "api_key": "k1", **scope}))
    return dataclasses.replace(call, context=context)


def set_of(root, text, *, schema=None):
    builtin = read_builtin()
    (root / FOLDER).mkdir(parents=True)
    (root / FOLDER / "workbench.cedar").write_text(builtin.policies["workbench.cedar"] + text)
    (root / FOLDER / "schema.cedarschema").write_text(schema or builtin.schema)


def test_policies_see_what_let_the_caller_in_and_how_far_it_is_confined(tmp_path):
    set_of(tmp_path, CONFINED)
    handler = handled(tmp_path)
    with pytest.raises(PolicyError, match="confined-alone"):
        ask(handler, granted(chat(), kind="owner", api_key=""))
    confined = granted(chat(), kind="owner", api_key="", confinement="full")
    ask(handler, confined)
    noted = json.loads(confined.span.facts["policy_request"])["context"]
    assert (noted["api_key_kind"], noted["confinement"]) == ("owner", "full")
    plain = chat()
    ask(handler, plain)
    noted = json.loads(plain.span.facts["policy_request"])["context"]
    assert not {"api_key_kind", "confinement"} & set(noted), "requests of a process are what they were"


def test_a_set_with_the_schema_of_before_decides_as_it_did(tmp_path):
    added = ("api_key_kind:", "confinement:", "entity ApiKey", "action manage_keys")
    lines = read_builtin().schema.splitlines()
    schema = "\n".join(line for line in lines if not line.strip().startswith(added))
    builtin = read_builtin().policies["workbench.cedar"].partition('@id("manage-keys")')[0]
    set_of(tmp_path, "", schema=schema)
    (tmp_path / FOLDER / "workbench.cedar").write_text(builtin)
    call = granted(chat(), kind="owner", api_key="", confinement="none")
    assert ask(handled(tmp_path), call) and call.span.facts["decision"]["policies"] == ["ask-models"]
    who, sets = call.context.principal, (CedarPolicy.of(tmp_path), CedarPolicy.builtin())
    old, new = (policy.residual(who, "acme", "memory.search") for policy in sets)
    assert set(old["residuals"]) == set(new["residuals"]) - {"manage-keys"}


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(
    ("scope", "outside"),
    [({"models": frozenset({"other"})}, "model"), ({"purposes": frozenset({"audit"})}, "purpose")],
)
def test_a_key_asks_no_model_and_for_no_purpose_outside_of_its_scope(tmp_path, scope, outside, observe):
    with pytest.raises(RefusedError, match=f"k1 .* is not for the {outside}") as caught:
        ask(handled(tmp_path, observe=observe), granted(chat(), **scope))
    assert (caught.value.status, caught.value.reason) == (403, "scope")


def test_a_key_reaches_no_memory_outside_of_its_scope(tmp_path):
    call = search()
    with pytest.raises(RefusedError, match="is not for the memory"):
        ask(handled(tmp_path), granted(call, memories=frozenset()))
    permitted = granted(call, memories=frozenset({call.target.partition("@")[0]}), models=frozenset())
    control_of(CurrentPolicy(tmp_path), ModelCard.unsaved).check(permitted)


def test_a_name_permits_each_version_and_a_version_only_itself(tmp_path):
    scope = GrantScope(models=frozenset({"gpt", "other@2"}))
    assert [scope.permits("model", name) for name in ("gpt", "gpt@3", "other@2", "other", "other@3")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert GrantScope().permits("model", "any") and scope.permits("memory", "any")


def test_a_call_of_a_control_may_ask_the_control_s_own_model(tmp_path):
    context = granted(chat(), models=frozenset({"m"}), purposes=frozenset({"audit"})).context
    own = context.of_control()
    assert own.grant == dataclasses.replace(context.grant, models=None) and own.principal == context.principal
    assert own.of_control() is own


def test_a_fall_back_outside_of_the_scope_is_not_asked(tmp_path):
    other = ModelCandidate(target="other@1", model="wire-o")
    controls = {"fallback": Fallback(), "policy": control_of(CurrentPolicy(tmp_path), ModelCard.unsaved)}
    for models, outside in ((frozenset({"small"}), True), (frozenset({"small", "other"}), False)):
        model = FakeModel([UnavailableError("away"), "yes"])
        call = dataclasses.replace(granted(chat(), models=models), fallbacks=(other,))
        if outside:
            with pytest.raises(RefusedError, match="is not for the model 'other'"):
                ask(fold(controls, behind(model)), call)
        else:
            assert ask(fold(controls, behind(model)), call)
        assert len(model.calls) == 1 + (not outside)
