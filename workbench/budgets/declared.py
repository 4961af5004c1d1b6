"""The budgets that params.yaml declares, and the accounts of a call in them, by the UTC calendar."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import orjson

from workbench import config, files
from workbench.budgets.refusal import OF_KEY
from workbench.config import BudgetRule
from workbench.context import Context, instant
from workbench.identity import GrantScope, KeyBudget
from workbench.layout import PARAMS
from workbench.ports.budget import MEASURES, Account, Amounts, Measure

#: Dimensions that name a period; the others are properties of a call.
_PERIODS: Final = {"day": "%Y-%m-%d", "month": "%Y-%m"}
_DAY_S: Final = 86_400
#: Most calls of different kinds whose accounts are kept in memory.
_MOST_KEPT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """The keys of params.yaml that concern budgets."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    budgets: dict[str, BudgetRule] = field(default_factory=dict)
    budget_url: str | None = None
    budget_password_env: str | None = None


def read(root: Path) -> BudgetSettings:
    """Return the budgets of a repository, none if it has no params.yaml; raise ConfigError for a wrong key.

    The other keys are not checked: a promoted job reads the budgets of today beside the code of its version.
    """
    return _read(root / PARAMS)


@files.until_changed
def _read(path: Path) -> BudgetSettings:
    hint = "see docs/budgets.md for every key"
    found = config.read_sections(path.parent, BudgetSettings, words=("budget",), hint=hint)
    config.check_budgets(found.budgets, found.budget_url, found.budget_password_env, where=str(path))
    return found


class DeclaredBudgets:
    """The accounts of calls in the declared budgets, and in that of their API key.

    Days and months are those of UTC by the clock of the call's context. A clock that is set back counts into
    the earlier period's account, which still holds what was spent in it.
    """

    def __init__(self, rules: Mapping[str, BudgetRule]) -> None:
        self._rules = dict(rules)
        self._kept: dict[tuple[str | int | KeyBudget | None, ...], tuple[Account, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the budgets."""
        return tuple(self._rules)

    def accounts(self, context: Context) -> tuple[Account, ...]:
        """Return the accounts that a call with this context takes from, in the order of params.yaml."""
        if not self._rules and context.grant.budget is None:
            return ()
        now = context.clock.now()
        seen = (
            context.use_case, context.tenant, context.principal.name, context.purpose, context.job,
            context.run, context.phase, context.grant.api_key, context.grant.budget,
            int(now.timestamp() // _DAY_S),
        )  # fmt: skip
        found = self._kept.get(seen)
        if found is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            found = self._kept[seen] = tuple(self._applying(context, now))
        return found

    def call_seconds(self, accounts: tuple[Account, ...]) -> float | None:
        """Return the longest model time of one call, or None if no account limits model time."""
        timed = [account for account in accounts if account.limits[3] is not None]
        return min((self._rules[account.budget].call_seconds for account in timed), default=None)

    def current(self, ids: list[str], now: dt.datetime, *, phase: str) -> list[Account]:
        """Return the accounts with these ids that are of a declared budget and of the current period."""
        found = []
        for name, key in map(orjson.loads, ids):
            rule = self._rules.get(name)
            if rule is None or set(key) != set(rule.per):
                continue  # the budget was removed, or is kept by other dimensions since
            if all(now.strftime(form) == key[unit] for unit, form in _PERIODS.items() if unit in key):
                written: dict[str, str] = {unit: key[unit] for unit in rule.per}  # as in the file
                found.append(_account(name, rule, written, now, phase))
        return found

    def _applying(self, context: Context, now: dt.datetime) -> Iterator[Account]:
        of_call = _properties(context)
        for name, rule in self._rules.items():
            key: dict[str, str] = {
                unit: now.astimezone(dt.UTC).strftime(_PERIODS[unit]) if unit in _PERIODS else of_call[unit]
                for unit in rule.per
            }
            # A call outside of a job or a run takes nothing from a budget per job or run.
            if all(key.values()) and _named(rule, of_call):
                yield _account(name, rule, key, now, context.phase)
        if context.grant.budget is not None:
            yield _account_of_key(context.grant, context.grant.budget, now)


def least(rule: BudgetRule, amounts: Amounts) -> Measure | None:
    """Return the first measure of a budget that is smaller than one call's amounts, or None."""
    for measure, limit, needed in zip(MEASURES, _limits(rule), amounts, strict=True):
        if limit is not None and needed > limit:
            return measure
    return None


def _properties(context: Context) -> dict[str, str]:
    return {
        "tenant": context.tenant,
        "principal": context.principal.name,
        "purpose": context.purpose,
        "use_case": context.use_case,
        "job": context.job,
        "run": context.run,
        "api_key": context.grant.api_key,
    }


def _named(rule: BudgetRule, of_call: Mapping[str, str]) -> bool:
    for item in fields(rule.only):
        wanted = getattr(rule.only, item.name)
        names = (wanted,) if isinstance(wanted, str) else wanted
        if names is not None and of_call[item.name] not in names:
            return False
    return True


def _account(name: str, rule: BudgetRule, key: Mapping[str, str], now: dt.datetime, phase: str) -> Account:
    return Account(
        budget=name,
        key=key,
        limits=_limits(rule),
        enforced=rule.enforced(phase),
        renews=_renews(rule, now.astimezone(dt.UTC)),
    )


def _account_of_key(scope: GrantScope, budget: KeyBudget, now: dt.datetime) -> Account:
    """Return the account of an API key's own budget, which refuses in every phase."""
    periods: tuple[Literal["day", "month"], ...] = (budget.per,) if budget.per else ()
    rule = BudgetRule(usd=budget.usd, tokens=budget.tokens, calls=budget.calls, per=periods)
    named: dict[str, str] = {unit: now.astimezone(dt.UTC).strftime(_PERIODS[unit]) for unit in periods}
    return _account(OF_KEY, rule, {"api_key": scope.api_key, **named}, now, phase="")


def _limits(rule: BudgetRule) -> tuple[int | None, ...]:
    stated = {measure: getattr(rule, measure) for measure in MEASURES}
    units = Amounts.of(**{measure: limit for measure, limit in stated.items() if limit is not None})
    return tuple(None if stated[m] is None else unit for m, unit in zip(MEASURES, units, strict=True))


def _renews(rule: BudgetRule, now: dt.datetime) -> str | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if "day" in rule.per:
        return instant(midnight + dt.timedelta(days=1))
    if "month" in rule.per:
        return instant((midnight.replace(day=1) + dt.timedelta(days=32)).replace(day=1))
    return None
