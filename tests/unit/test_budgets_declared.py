"""Budgets as params.yaml declares them, and the accounts of a call."""

import contextlib
import dataclasses
import datetime as dt

import pytest
from calls import context
from small_use_case import small_repository

from workbench import _sync, config, files
from workbench.budgets import declared
from workbench.budgets.declared import DeclaredBudgets
from workbench.config import BudgetOnly, BudgetRule
from workbench.errors import ConfigError
from workbench.ports.budget import Account, Amounts
from workbench.testing.fakes import FakeClock
from workbench.workspace.spending import Spending


def at(when, **more):
    return dataclasses.replace(context(FakeClock(f"{when}+00:00")), **more)


def keys(rules, where):
    return [(account.budget, dict(account.key)) for account in DeclaredBudgets(rules).accounts(where)]


def test_a_call_takes_from_one_account_of_every_budget_that_applies():
    rules = {
        "all": BudgetRule(usd=1),
        "tenants": BudgetRule(usd=1, per=("tenant", "month")),
        "others": BudgetRule(usd=1, only=BudgetOnly(tenant="globex")),
        "both": BudgetRule(usd=1, per=("day",), only=BudgetOnly(tenant=("acme", "globex"), purpose="test")),
    }
    assert keys(rules, at("2026-11-30T23:59:59")) == [
        ("all", {}),
        ("tenants", {"tenant": "acme", "month": "2026-11"}),
        ("both", {"day": "2026-11-30"}),
    ]


def test_a_budget_per_job_or_run_applies_inside_of_one_only():
    rules = {"jobs": BudgetRule(calls=1, per=("job", "run"))}
    assert keys(rules, at("2026-11-30T10:00:00")) == []
    inside = at("2026-11-30T10:00:00", job="nightly", run="r1")
    assert keys(rules, inside) == [("jobs", {"job": "nightly", "run": "r1"})]


@pytest.mark.parametrize(
    ("per", "when", "renews"),
    [
        (("day",), "2026-12-31T23:59:59", "2027-01-01T00:00:00Z"),
        (("month",), "2026-12-31T23:59:59", "2027-01-01T00:00:00Z"),
        (("month",), "2028-01-31T00:00:00", "2028-02-01T00:00:00Z"),
        (("month", "day"), "2026-11-03T00:00:00", "2026-11-04T00:00:00Z"),
        (("tenant",), "2026-11-03T00:00:00", None),
    ],
)
def test_a_period_ends_at_midnight_of_utc(per, when, renews):
    (account,) = DeclaredBudgets({"b": BudgetRule(calls=1, per=per)}).accounts(at(when))
    assert account.renews == renews


def test_the_day_is_that_of_utc_wherever_the_clock_is():
    clock = FakeClock("2026-11-30T23:30:00-05:00")
    (account,) = DeclaredBudgets({"b": BudgetRule(calls=1, per=("day",))}).accounts(context(clock))
    assert account.key == {"day": "2026-12-01"}


def test_a_clock_that_is_set_back_finds_the_earlier_account_again():
    made = DeclaredBudgets({"b": BudgetRule(calls=1, per=("day",))})
    first = made.accounts(at("2026-11-30T10:00:00"))
    made.accounts(at("2026-12-01T10:00:00"))
    assert made.accounts(at("2026-11-30T11:00:00")) == first


def test_limits_are_whole_units_and_never_below_what_is_written():
    (account,) = DeclaredBudgets({"b": BudgetRule(usd=0.1, seconds=2.5, tokens=7)}).accounts(
        at("2026-11-30T00:00:00")
    )
    assert account.limits == (100_000_000, 7, None, 2_500_000)
    assert Amounts.of(usd=1.2e-9, tokens=3, calls=1, seconds=0.0000015) == (2, 3, 1, 2)


def test_accounts_of_other_names_have_other_ids():
    limits = (None, None, 1, None)
    ids = [
        Account(budget="b", key={"tenant": "a", "purpose": "b"}, limits=limits).id,
        Account(budget="b", key={"tenant": "a", "purpose": "c"}, limits=limits).id,
        Account(budget="b", key={"tenant": 'a","purpose":"b'}, limits=limits).id,
        Account(budget="c", key={"tenant": "a", "purpose": "b"}, limits=limits).id,
    ]
    assert len(set(ids)) == 4


PARAMS = """\
use_cases: {{}}
other: anything
budgets:
  monthly: {rule}
{more}
"""


def read(tmp_path, rule, more=""):
    (tmp_path / "params.yaml").write_text(PARAMS.format(rule=rule, more=more))
    return declared.read(tmp_path)


def test_budgets_are_read_beside_keys_of_a_later_version(tmp_path):
    found = read(tmp_path, "{usd: 50, per: [tenant, month], only: {use_case: answers}}")
    assert found.budgets["monthly"].usd == 50 and found.budgets["monthly"].enforced("mlvp")
    assert declared.read(tmp_path / "nowhere").budgets == {}


@pytest.mark.parametrize(
    ("rule", "more", "word"),
    [
        ("{per: [tenant]}", "", "no limit"),
        ("{usd: 0}", "", "above 0"),
        ("{usd: -1}", "", "above 0"),
        ("{usd: .inf}", "", "JSON|number|above"),
        ("{usd: 1, per: [team]}", "", "per"),
        ("{usd: 1, per: [day, day]}", "", "twice"),
        ("{usd: 1, only: {tenants: acme}}", "", "nearest: 'tenant'"),
        ("{usd: 1, only: {tenant: []}}", "", "only.tenant names nothing"),
        ('{usd: 1, only: {job: ""}}', "", "only.job names nothing"),
        ('{usd: 1, only: {use_case: [a, ""]}}', "", "only.use_case names nothing"),
        ("{usd: 1, enforce: never}", "", "enforce"),
        ("{usd: 1, enforce: {beta: observe}}", "", "enforce"),
        ("{euro: 1}", "", "euro"),
        ("{calls: 1.5}", "", "calls"),
        ("{usd: 1, call_seconds: 0}", "", "call_seconds"),
        ("{usd: 1}", "budget_url: mysql://u@h/d", "postgresql://"),
        ("{usd: 1}", "budget_url: postgresql://u:secret@h/d", "without a password"),
        ("{usd: 1}", "budget_password_env: hunter2!", "NAME"),
    ],
)
def test_a_wrong_budget_is_an_error_with_its_place(tmp_path, rule, more, word):
    with pytest.raises(ConfigError, match=word) as caught:
        read(tmp_path, rule, more)
    assert "secret" not in str(caught.value) and "params.yaml" in str(caught.value)


def test_params_yaml_is_as_strict(tmp_path):
    raw = {"use_cases": {}, "budgets": {"b": {"usd": 1, "pre": []}}}
    with pytest.raises(ConfigError, match="nearest: 'per'"):
        files.parse(config.Params, raw, where="params.yaml")


def test_current_accounts_are_those_of_declared_budgets_and_the_present_period():
    made = DeclaredBudgets({"b": BudgetRule(calls=1, per=("day",)), "c": BudgetRule(calls=1)})
    accounts = [Account(budget="b", key={"day": f"2026-11-{day}"}, limits=(None,) * 4) for day in (29, 30)]
    gone = Account(budget="gone", key={}, limits=(None,) * 4)
    ids = [account.id for account in (*accounts, gone, Account(budget="c", key={}, limits=(None,) * 4))]
    now = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)
    found = made.current(ids, now, phase="mvp")
    assert [account.id for account in found] == [accounts[1].id, ids[3]]


def test_the_dimensions_of_an_account_are_shown_in_the_order_of_the_file():
    made = DeclaredBudgets({"b": BudgetRule(calls=1, per=("tenant", "day"))})
    (account,) = made.accounts(at("2026-11-30T12:00:00"))
    (found,) = made.current([account.id], dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC), phase="mvp")
    assert list(found.key) == list(account.key) == ["tenant", "day"] and found.id == account.id


def test_the_report_of_a_repository_names_the_budgets_of_which_nothing_is_spent(tmp_path):
    root = small_repository(tmp_path / "small")
    spending = Spending(root)
    assert "no budget applies" in str(_sync.run(spending.all(phase="mvp")))
    with (root / "params.yaml").open("a") as params:
        params.write("budgets:\n  daily: {usd: 0.01, per: [tenant, day]}\n")
    spending = Spending(root)
    with contextlib.closing(spending.ledger):
        found = _sync.run(spending.all(phase="mvp"))
    assert found.unused == ("daily",) and found.to_json()["unused"] == ["daily"]
    assert "nothing is spent in this period of daily" in str(found) and "no budget applies" not in str(found)
