"""Report of budgets: limit, spent, reserved, left, renewal, and what was or would have been refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workbench.budgets.refusal import shown
from workbench.display import Card, Shown
from workbench.ports.budget import MEASURES, SCALES, Account, Balance, BudgetLedger, Measure

if TYPE_CHECKING:
    import polars as pl

_HEAD = ("budget", "key", "limit", "spent", "reserved", "left", "renews", "refused", "would have refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """One measure of one account, in dollars, tokens, calls or seconds.

    `refused` counts the calls that the budget refused, and `would_refuse` those that it would have refused
    while it only observed; the last ones were at `refused_at` and `would_refuse_at`.
    """

    budget: str
    key: str
    measure: Measure
    limit: float
    spent: float
    reserved: float
    left: float
    renews: str | None
    enforce: Literal["observe", "refuse"]
    refused: int
    refused_at: str | None
    would_refuse: int = 0
    would_refuse_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReport(Shown):
    """The budgets of a workspace or of a repository, one line for each measure with a limit.

    `unused` names the budgets that no call of the current periods has taken from.
    """

    of: str
    lines: tuple[BudgetLine, ...] = field(repr=False)
    unused: tuple[str, ...] = ()

    def frame(self) -> pl.DataFrame:
        """Return the lines as a frame."""
        import polars as pl

        number, text = pl.Float64, pl.String
        kinds: dict[str, Any] = dict.fromkeys((item.name for item in dataclasses.fields(BudgetLine)), text)
        kinds |= dict.fromkeys(("limit", "spent", "reserved", "left"), number)
        kinds |= dict.fromkeys(("refused", "would_refuse"), pl.Int64)
        return pl.DataFrame([dataclasses.asdict(line) for line in self.lines], schema=kinds)

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        lines = [dataclasses.asdict(line) for line in self.lines]
        return {"of": self.of, "budgets": lines, "unused": list(self.unused)}

    def card(self) -> Card:
        """Return the card."""
        notes = []
        if self.lines:
            notes.append("amounts of calls under way are reserved; periods are days and months of UTC")
        if self.unused:
            notes.append(f"nothing is spent in this period of {', '.join(self.unused)}")
        if not notes:
            notes.append("no budget applies; write one under budgets: in params.yaml (docs/budgets.md)")
        return Card(title=f"budgets of {self.of}", head=_HEAD, rows=list(map(_row, self.lines)), notes=notes)


async def report(ledger: BudgetLedger, accounts: Sequence[Account], *, of: str) -> BudgetReport:
    """Return the report of accounts; raise UnavailableError if the ledger cannot be read."""
    balances = await ledger.balances(accounts) if accounts else []
    pairs = zip(accounts, balances, strict=True)
    lines = [line for account, balance in pairs for line in _lines(account, balance)]
    return BudgetReport(of=of, lines=tuple(lines))


def _lines(account: Account, balance: Balance) -> list[BudgetLine]:
    made = []
    for index, measure in enumerate(MEASURES):
        if (limit := account.limits[index]) is None:
            continue
        scale, spent, reserved = SCALES[index], balance.spent[index], balance.reserved[index]
        line = BudgetLine(
            budget=account.budget,
            key=", ".join(f"{name} {value}" for name, value in account.key.items()),
            measure=measure,
            limit=limit / scale,
            spent=spent / scale,
            reserved=reserved / scale,
            left=max(limit - spent - reserved, 0) / scale,
            renews=account.renews,
            enforce="refuse" if account.enforced else "observe",
            refused=balance.refused,
            refused_at=balance.refused_at or None,
            would_refuse=balance.would_refuse,
            would_refuse_at=balance.would_refuse_at or None,
        )
        made.append(line)
    return made


def _row(line: BudgetLine) -> tuple[str, ...]:
    def units(value: float) -> str:
        return shown(line.measure, round(value * SCALES[MEASURES.index(line.measure)]))

    def counted(number: int, last: str | None) -> str:
        return f"{number}, last at {last}" if number else ""

    amounts = map(units, (line.limit, line.spent, line.reserved, line.left))
    observed = counted(line.would_refuse, line.would_refuse_at) or "0" * (line.enforce == "observe")
    refusals = (counted(line.refused, line.refused_at), observed)
    return (line.budget, line.key, *amounts, line.renews or "never", *refusals)
