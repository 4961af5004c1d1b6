"""The budget of an API key: an account of its own in the ledger, beside the budgets of params.yaml."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from calls import context

from workbench.budgets.declared import DeclaredBudgets
from workbench.config import BudgetOnly, BudgetRule
from workbench.config.models import Price
from workbench.errors import BudgetExceededError, RefusedError
from workbench.identities.api_keys import ApiKey, KeyRights
from workbench.identities.grants import grant_of
from workbench.identity import GrantScope, KeyBudget
from workbench.models import ModelCard
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.granted import workspace_of

ROOT = Path(__file__).resolve().parents[3]
PRICED = dataclasses.replace(ModelCard.unsaved("m"), price_per_million=Price(input_usd=1.0, output_usd=2.0))


def of_key(name="k1", **budget):
    scope = GrantScope(kind="key", api_key=name, budget=KeyBudget(**budget) if budget else None)
    return dataclasses.replace(context(FakeClock("2026-11-30T10:00:00+00:00")), grant=scope)


def accounts(rules, where):
    return [
        (account.budget, dict(account.key), account.limits)
        for account in DeclaredBudgets(rules).accounts(where)
    ]


def test_a_key_s_budget_is_an_account_of_its_own_in_its_period():
    assert accounts({}, of_key(calls=3)) == [("API key", {"api_key": "k1"}, (None, None, 3, None))]
    (account,) = DeclaredBudgets({}).accounts(of_key(usd=1.5, per="month"))
    assert dict(account.key) == {"api_key": "k1", "month": "2026-11"} and account.enforced
    assert (account.limits[0], account.renews) == (1_500_000_000, "2026-12-01T00:00:00Z")
    assert accounts({}, of_key()) == accounts({}, context()) == []


def test_a_budget_of_params_yaml_may_be_kept_per_key_and_for_one_key():
    rules = {
        "each": BudgetRule(calls=9, per=("api_key", "day")),
        "one": BudgetRule(calls=9, only=BudgetOnly(api_key="k2")),
    }
    assert [(name, key) for name, key, _ in accounts(rules, of_key("k1", tokens=5))] == [
        ("each", {"api_key": "k1", "day": "2026-11-30"}),
        ("API key", {"api_key": "k1"}),
    ]
    assert [name for name, *_ in accounts(rules, of_key("k2"))] == ["each", "one"]
    assert accounts(rules, context()) == [], "a caller without a key takes nothing from a budget per key"


def test_two_budgets_of_one_key_and_two_keys_are_not_mixed_up():
    declared = DeclaredBudgets({})
    found = [
        declared.accounts(where)[0] for where in (of_key(calls=1), of_key(calls=2), of_key("k2", calls=1))
    ]
    assert [account.limits[2] for account in found] == [1, 2, 1]
    assert found[0].id == found[1].id != found[2].id


@pytest.fixture
def asking(tmp_path):
    """Return a function that asks the model as the bearer of a key with a budget."""
    with contextlib.ExitStack() as closing:

        def ask(key="abcdefghijkl", *, card=PRICED, **budget):
            made = Boundary(
                ROOT, mode="live", tape=Tape(tmp_path / "t"), cards=[card], places=StatePaths(home=tmp_path)
            )
            made._models["m"] = FakeModel()
            rights = KeyRights(principal="app", tenant="acme", budget=KeyBudget(**budget))
            grant = grant_of(ApiKey(id=key, digest="", rights=rights, issued="2026-11-30T09:00:00Z"))
            ws = workspace_of(grant, "answers", root=ROOT, through=made)
            closing.callback(ws.close)
            return ws.model("m").chat("hello")

        yield ask


def test_a_key_that_has_spent_its_budget_is_refused_and_another_is_not(asking):
    asking(calls=2)
    asking(calls=2)
    with pytest.raises(BudgetExceededError, match="API key") as caught:
        asking(calls=2)
    assert (caught.value.limit, caught.value.spent) == (2, 2)
    assert "workbench keys issue --calls" in caught.value.hint
    asking("another", calls=2)
    asking(calls=3)  # a budget that was raised holds what was spent
    with pytest.raises(BudgetExceededError):
        asking(calls=3)


def test_what_a_call_costs_is_taken_from_the_key_s_money(asking):
    asking(usd=1.0)
    with pytest.raises(BudgetExceededError, match="API key") as caught:
        asking(usd=0.000_001)
    assert caught.value.spent > 0


def test_money_of_a_key_is_not_spent_on_a_model_without_a_price(asking):
    with pytest.raises(RefusedError, match=r"price of m.*API key's call was not made"):
        asking(card=ModelCard.unsaved("m"), usd=1.0)
