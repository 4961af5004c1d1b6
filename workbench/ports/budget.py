"""The budget port: accounts, amounts, reservations, and the ledger that keeps spent + reserved <= limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from workbench import files

Measure = Literal["usd", "tokens", "calls", "seconds"]
MEASURES: Final[tuple[Measure, ...]] = ("usd", "tokens", "calls", "seconds")
#: Whole units of a ledger in one unit of a measure: nanodollars, tokens, calls and microseconds.
SCALES: Final = (10**9, 1, 1, 10**6)
#: Most units of one amount, as many as the highest limit has: their sums must fit into 64 bits.
_MOST_UNITS: Final = 10**18
#: Seconds after which the reservation of a process that stopped renewing it ends.
LEASE_S: Final = 60.0


class Amounts(NamedTuple):
    """Amounts of all measures in whole units: nanodollars, tokens, calls and microseconds of model time."""

    usd: int = 0
    tokens: int = 0
    calls: int = 0
    seconds: int = 0

    @classmethod
    def of(cls, *, usd: float = 0, tokens: int = 0, calls: int = 0, seconds: float = 0) -> Amounts:
        """Return amounts given in dollars, tokens, calls and seconds, rounded up to whole units."""
        money, time = (_units(value) for value in (usd * SCALES[0], seconds * SCALES[3]))
        return cls(money, min(tokens, _MOST_UNITS), calls, time)


def _units(value: float) -> int:
    # Rounded first, because 0.1 * 10**9 may lie just above a whole number.
    return math.ceil(round(value, 3)) if value < _MOST_UNITS else _MOST_UNITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One period and key of one budget, such as the tenant acme in the month 2026-11.

    `limits` has the whole units of each measure, or None for a measure without a limit. An account that is
    not `enforced` is counted and refuses nothing. `renews` is the instant at which its period ends.
    """

    budget: str
    key: Mapping[str, str]
    limits: tuple[int | None, ...]
    enforced: bool = True
    renews: str | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        named = files.canonical([self.budget, dict(self.key)]).decode()
        object.__setattr__(self, "id", named)

    def __str__(self) -> str:
        key = ", ".join(f"{name} {value}" for name, value in self.key.items())
        return f"{self.budget} ({key})" if key else self.budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one attempt of a call holds in each of its accounts until it is settled or released.

    `exceeded` names the budgets that only observe and would have refused the call.
    """

    id: str
    accounts: tuple[Account, ...]
    amounts: Amounts
    exceeded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a ledger holds of one account.

    `refused` counts the calls that the budget refused, and `would_refuse` those that it would have refused
    while it only observed; the last ones were at the instants `refused_at` and `would_refuse_at`. A version
    of the workbench that does not tell them apart counts both as `refused`.
    """

    spent: Amounts = field(default_factory=Amounts)
    reserved: Amounts = field(default_factory=Amounts)
    refused: int = 0
    refused_at: str = ""
    would_refuse: int = 0
    would_refuse_at: str = ""


@runtime_checkable
class BudgetLedger(Protocol):
    """A ledger of budgets, shared by threads and processes.

    For every enforced account and every measure with a limit, spent + reserved <= limit.
    """

    async def reserve(
        self, accounts: Sequence[Account], amounts: Amounts, *, wait_s: float, answer_s: float = math.inf
    ) -> Reservation:
        """Reserve the amounts in all accounts in one transaction, or in none.

        Wait in order of arrival, `wait_s` seconds at most, while only the reservations of other calls stand
        in the way. Raise BudgetExceededError if an enforced account has less left than is needed,
        OverloadedError after `wait_s`, or after `answer_s` in which the ledger says nothing, and
        UnavailableError if the ledger cannot be read or written.
        """

    async def settle(self, reservation: Reservation, spent: Amounts, *, answer_s: float = math.inf) -> bool:
        """Replace a reservation by what was spent; a second settlement of the same one changes nothing.

        An expired reservation is counted as spent too. Return False if the ledger is unavailable or does not
        answer for `answer_s` seconds: the settlement is kept and written when it is available again.
        Releasing is settling with no amounts.
        """

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        """Return what the ledger holds of each account, zero for an unknown one."""

    async def known(self) -> list[str]:
        """Return the ids of all accounts that the ledger holds, sorted."""

    def check(self, accounts: Sequence[Account], amounts: Amounts) -> None:
        """Raise BudgetExceededError if what this process saw last already rules the amounts out.

        Nothing is read, reserved or counted: for a call that would wait in a queue before it is reserved.
        """

    async def aclose(self) -> None:
        """Write what is outstanding and close the ledger."""
