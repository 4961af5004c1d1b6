"""The budgets of a repository at work: the ledger, the control and the report."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from workbench import config
from workbench.budgets import declared
from workbench.budgets.books import BudgetStore
from workbench.budgets.declared import BudgetSettings, DeclaredBudgets
from workbench.budgets.queued import QueuedLedger
from workbench.budgets.report import BudgetReport, report
from workbench.context import Context
from workbench.controls.budget import BudgetControl, PricedModel
from workbench.errors import UnavailableError
from workbench.experiments.progress import BudgetRoom
from workbench.layout import BUDGETS
from workbench.ports import Call, Control


class Spending:
    """The declared budgets of the repository that keeps the state, and their ledger.

    `home` is that repository, and `card` returns the model card of a call's target. Nothing is opened before
    a call takes from a budget, of params.yaml or of its API key.
    """

    def __init__(self, home: Path, card: Callable[[str], PricedModel] | None = None) -> None:
        settings = declared.read(home)
        self._declared = DeclaredBudgets(settings.budgets)
        self.ledger = QueuedLedger(partial(open_store, home, settings))

        self._control: BudgetControl | None = None
        if card is not None:  # without a budget of params.yaml, an API key may still have one
            self._control = BudgetControl(self.ledger, accounts=self._declared, card=card)

    @property
    def controls(self) -> dict[str, Control]:
        """The control `budget` by its name, or nothing without model cards."""
        return {} if self._control is None else {"budget": self._control}

    def peek(self, call: Call) -> None:
        """Raise BudgetExceededError for a call that is known to have no room, before it waits in a queue."""
        if self._control is not None:
            self._control.peek(call)

    async def of(self, context: Context) -> BudgetReport:
        """Return the report of the budgets that a call with this context takes from."""
        accounts = self._declared.accounts(context)
        return await report(self.ledger, accounts, of=f"{context.use_case}, tenant {context.tenant}")

    async def all(self, *, phase: str) -> BudgetReport:
        """Return the report of every account of the current periods that calls have taken from."""
        accounts = []
        if self._declared:
            now = dt.datetime.now(dt.UTC)
            accounts = self._declared.current(await self.ledger.known(), now, phase=phase)
        found = await report(self.ledger, accounts, of="this repository")
        used = {line.budget for line in found.lines}
        unused = tuple(name for name in self._declared.names if name not in used)
        return dataclasses.replace(found, unused=unused)


async def room_of(budget: Callable[[], Awaitable[BudgetReport]]) -> BudgetRoom | None:
    """Return the budget in dollars with the least left; None without one, or when it cannot be read."""
    try:
        lines = [line for line in (await budget()).lines if line.measure == "usd"]
    except UnavailableError:
        return None
    if not lines:
        return None
    least = min(lines, key=lambda line: line.left)
    return BudgetRoom(name=least.budget, limit_usd=least.limit, left_usd=least.left)


def open_store(home: Path, settings: BudgetSettings) -> BudgetStore:
    """Return the store that params.yaml names: PostgreSQL with `budget_url`, else a SQLite file."""
    from workbench.budgets.sqlite import SqliteBudgets, holder

    if settings.budget_url is None:
        return SqliteBudgets(home / BUDGETS, holder=holder())
    from workbench.budgets.postgres import PostgresBudgets

    variable = settings.budget_password_env
    password = config.secret(variable, needed_by="budget_url in params.yaml") if variable else None
    return PostgresBudgets(settings.budget_url, holder=holder(), password=password)
