"""The transactions of a ledger in any store: reserve, wait in line, settle and expire."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from workbench.ports.budget import LEASE_S, MEASURES, Account, Amounts, Measure, Reservation

#: Most units that an account holds, and counts as spent, of one measure: their sum fits into 64 bits.
_MOST_HELD: Final = 2**61
#: Seconds after which a waiter that no longer renews its place, because its process died, leaves the line.
_PLACE_S: Final = 3.0


class InterruptedTransactionError(Exception):
    """The store lost its connection or a conflict; the same transaction may be tried again."""


class AccountEntry:
    """The amounts of one account within a transaction, and its calls with too little left.

    `refused` and `observed` are the numbers of calls that were refused and that would have been, each with
    the time of the last one. `observing` is true when the second number changed.
    """

    __slots__ = ("changed", "observed", "observing", "refused", "reserved", "spent")

    def __init__(
        self,
        spent: Iterable[int] = (),
        reserved: Iterable[int] = (),
        *,
        refused: tuple[int, float] = (0, 0.0),
        observed: tuple[int, float] = (0, 0.0),
    ) -> None:
        self.spent = list(spent) or [0] * len(MEASURES)
        self.reserved = list(reserved) or [0] * len(MEASURES)
        self.refused = refused
        self.observed = observed
        self.changed = self.observing = False

    def refuse(self, now: float) -> None:
        """Count one call that was refused."""
        self.refused, self.changed = (self.refused[0] + 1, now), True

    def observe(self, now: float) -> None:
        """Count one call that would have been refused if the budget did."""
        self.observed, self.changed, self.observing = (self.observed[0] + 1, now), True, True

    def reserve(self, amounts: Iterable[int]) -> None:
        """Add amounts to what is reserved."""
        self.reserved = list(map(operator.add, self.reserved, amounts))
        self.changed = True

    def free(self, amounts: Iterable[int]) -> None:
        """Take amounts away from what is reserved."""
        self.reserved = list(map(operator.sub, self.reserved, amounts))
        self.changed = True

    def spend(self, amounts: Iterable[int]) -> None:
        """Add amounts to what is spent."""
        self.spent = [min(total, _MOST_HELD) for total in map(operator.add, self.spent, amounts)]
        self.changed = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A reservation as a store holds it."""

    id: str
    accounts: tuple[str, ...]
    amounts: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The enforced account, and the measure, that has less left than a call needs."""

    account: Account
    measure: Measure
    spent: int
    reserved: int
    needed: int


class Claim:
    """A reservation that is asked for, and its place in the line while it waits.

    `blocked` are the accounts without room for it. `place_until` is when its place expires.
    """

    __slots__ = ("accounts", "amounts", "blocked", "exceeded", "id", "number", "place_until", "withdrawn")

    def __init__(self, name: str, accounts: Sequence[Account], amounts: Amounts) -> None:
        self.id = name
        self.accounts = tuple(accounts)
        self.amounts = amounts
        self.number: int | None = None
        self.blocked: frozenset[str] = frozenset()
        self.place_until = 0.0
        self.withdrawn = False
        self.exceeded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a reservation has really cost, to be written."""

    reservation: Reservation
    spent: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A place in the line that all processes share, and the accounts that it waits for."""

    number: int
    id: str
    accounts: frozenset[str]


class Books(Protocol):
    """One open transaction of a store. Reading entries locks them until it ends."""

    def now(self) -> float:
        """Return the ledger's time in seconds since 1970: of its server, or of its machine."""

    def entries(self, accounts: Sequence[str]) -> dict[str, AccountEntry]:
        """Return the entry of each account, a new one for an unknown account."""

    def save(self, entries: dict[str, AccountEntry]) -> None:
        """Write entries."""

    def insert(self, held: Sequence[Held], *, until: float) -> None:
        """Write new reservations with the end of their lease."""

    def held(self, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that are reservations, expired or not."""

    def close(self, ids: Sequence[str]) -> dict[str, bool]:
        """Remove reservations; return for each removed id whether its lease had not expired."""

    def due(self, now: float) -> list[Held]:
        """Return the reservations whose lease has ended and that are not marked as expired."""

    def expire(self, ids: Sequence[str], now: float) -> list[Held]:
        """Mark reservations as expired; return those that were not marked and not renewed meanwhile."""

    def renew(self, until: float) -> None:
        """Extend the leases of this process's reservations."""

    def line(self, now: float) -> list[Waiter]:
        """Return the places that have not expired, first come first."""

    def wait(self, claim: Claim, *, until: float) -> int:
        """Write or renew the place of a claim in the line; return its number."""

    def leave(self, ids: Sequence[str]) -> None:
        """Remove places from the line."""

    def known(self) -> list[str]:
        """Return the ids of all accounts, sorted."""


class BudgetStore(Protocol):
    """Where a ledger is stored. All its methods are called from one thread."""

    def transaction(self) -> AbstractContextManager[Books]:
        """Begin a transaction, which outlives this process when the block ends.

        Raise InterruptedTransactionError if it may be tried again; after another error it was rolled back.
        """

    def sync(self) -> None:
        """Make all transactions outlive a power failure too."""

    def close(self) -> None:
        """Close files and connections."""


def write(
    books: Books,
    settlements: Sequence[Settlement],
    claims: Sequence[Claim],
    *,
    lease_s: float = LEASE_S,
    again: bool = False,
) -> tuple[dict[str, AccountEntry], dict[str, Reservation | Shortage | None]]:
    """Replace reservations by what was spent, then decide each claim in order of arrival.

    Return the entries of all accounts, and for each claim a reservation, a shortage, or None while it waits.
    A reservation that is no longer held was settled before, and is not counted again. `again` repeats a
    transaction that may have been written: what it reserved is not reserved twice.
    """
    several = (*(s.reservation.accounts for s in settlements), *(claim.accounts for claim in claims))
    entries = books.entries(_accounts(several))
    if settlements:
        _settle(books, entries, settlements)
    found = _Decisions(books, claims, entries, again=again).made(lease_s) if claims else {}
    _save(books, entries)
    return entries, found


def free_expired(books: Books) -> None:
    """Free what reservations of ended leases hold; they stay, marked, because a settlement may come later."""
    now = books.now()
    due = books.due(now)
    if not due:
        return
    entries = books.entries(sorted({account for held in due for account in held.accounts}))
    for held in books.expire([held.id for held in due], now):
        for account in held.accounts:
            entries[account].free(held.amounts)
    _save(books, entries)


def _settle(books: Books, entries: dict[str, AccountEntry], settlements: Sequence[Settlement]) -> None:
    closed = books.close([s.reservation.id for s in settlements])
    for settlement in settlements:
        live = closed.pop(settlement.reservation.id, None)
        for account in settlement.reservation.accounts if live is not None else ():
            if live:
                entries[account.id].free(settlement.reservation.amounts)
            entries[account.id].spend(settlement.spent)


class _Decisions:
    """The decisions on the claims of one transaction."""

    def __init__(
        self, books: Books, claims: Sequence[Claim], entries: dict[str, AccountEntry], *, again: bool
    ) -> None:
        self._books = books
        self._claims = sorted(
            claims, key=lambda claim: float("inf") if claim.number is None else claim.number
        )
        self._again = again
        self._now = books.now()
        self._entries = entries
        self._granted: list[Held] = []
        self._left: list[str] = []

    def made(self, lease_s: float) -> dict[str, Reservation | Shortage | None]:
        held = self._books.held([claim.id for claim in self._claims]) if self._again else set()
        found: dict[str, Reservation | Shortage | None] = {}
        for claim, ahead in self._in_line():
            made = _reservation(claim) if claim.id in held else self._decide(claim, ahead)
            found[claim.id] = made
            if made is None:
                ahead.update(claim.blocked)
            elif claim.number is not None:
                self._left.append(claim.id)
        if self._granted:
            self._books.insert(self._granted, until=self._now + lease_s)
        if self._left:
            self._books.leave(self._left)
        return found

    def _in_line(self) -> Iterator[tuple[Claim, set[str]]]:
        """Yield each claim with the accounts that somebody before it waits for."""
        ours = {claim.id for claim in self._claims}
        others = iter([waiter for waiter in self._books.line(self._now) if waiter.id not in ours])
        ahead: set[str] = set()
        following = next(others, None)
        for claim in self._claims:
            while following and (claim.number is None or following.number < claim.number):
                ahead |= following.accounts
                following = next(others, None)
            yield claim, ahead

    def _decide(self, claim: Claim, ahead: set[str]) -> Reservation | Shortage | None:
        blocked, exceeded = set(), []
        for account in claim.accounts:
            entry = self._entries[account.id]
            if (shortage := shortage_of(account, entry, claim.amounts)) is not None:
                if account.enforced:
                    entry.refuse(self._now)
                    return shortage
                exceeded.append(account)
            elif account.enforced and (account.id in ahead or not _has_room(account, entry, claim.amounts)):
                blocked.add(account.id)
            if not _countable(entry, claim.amounts):
                blocked.add(account.id)  # also of an account without this limit: it could not be counted
        if blocked:
            self._wait(claim, frozenset(blocked))
            return None
        for account in claim.accounts:
            self._entries[account.id].reserve(claim.amounts)
        for account in exceeded:
            self._entries[account.id].observe(self._now)
        claim.exceeded = tuple(map(str, exceeded))
        accounts = tuple(account.id for account in claim.accounts)
        self._granted.append(Held(id=claim.id, accounts=accounts, amounts=claim.amounts))
        return _reservation(claim)

    def _wait(self, claim: Claim, blocked: frozenset[str]) -> None:
        """Write a claim's place in the line, unless it is written and half of its time is left."""
        if self._again or blocked != claim.blocked or self._now > claim.place_until - _PLACE_S / 2:
            claim.blocked, claim.place_until = blocked, self._now + _PLACE_S
            claim.number = self._books.wait(claim, until=claim.place_until)


def _reservation(claim: Claim) -> Reservation:
    return Reservation(id=claim.id, accounts=claim.accounts, amounts=claim.amounts, exceeded=claim.exceeded)


def shortage_of(account: Account, entry: AccountEntry, amounts: Amounts) -> Shortage | None:
    """Return the first measure that no settlement of others can make room for; None if there is none."""
    for index, limit in enumerate(account.limits):
        needed = amounts[index]
        if limit is not None and needed and entry.spent[index] + needed > limit:
            spent, reserved = entry.spent[index], entry.reserved[index]
            return Shortage(
                account=account, measure=MEASURES[index], spent=spent, reserved=reserved, needed=needed
            )
    return None


def _has_room(account: Account, entry: AccountEntry, amounts: Amounts) -> bool:
    for limit, spent, held, more in zip(account.limits, entry.spent, entry.reserved, amounts, strict=True):
        if limit is not None and more and spent + held + more > limit:
            return False
    return True


def _countable(entry: AccountEntry, amounts: Amounts) -> bool:
    """Return whether the reserved amounts fit into 64 bits, also of a measure without a limit."""
    return bool(max(map(operator.add, entry.reserved, amounts)) <= _MOST_HELD)


def _accounts(several: Iterable[tuple[Account, ...]]) -> list[str]:
    """Return the ids of accounts in the order in which every transaction locks them."""
    return sorted({account.id for account in itertools.chain.from_iterable(several)})


def _save(books: Books, entries: dict[str, AccountEntry]) -> None:
    if changed := {name: entry for name, entry in entries.items() if entry.changed}:
        books.save(changed)
        for entry in changed.values():
            entry.changed = entry.observing = False
