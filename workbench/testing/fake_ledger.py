"""Store a ledger of budgets in plain dictionaries, as the reference for other stores."""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.budgets.books import AccountEntry, Claim, Held, InterruptedTransactionError, Waiter


class SharedMemoryBooks:
    """The state that all stores of one ledger share, as the processes of a machine share a file.

    The next `interruptions` transactions fail: half of them after they were written, as a lost answer does.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state: dict[str, dict[str, Any]] = {"accounts": {}, "reservations": {}, "line": {}}
        self.numbers = itertools.count(1)
        self.interruptions = 0


class MemoryBudgets:
    """The store of one process over a shared state."""

    def __init__(self, shared: SharedMemoryBooks, *, holder: str) -> None:
        self._shared = shared
        self._holder = holder

    @contextmanager
    def transaction(self) -> Iterator[MemoryBooks]:
        """Begin a transaction; an error in the block leaves the state as it was."""
        shared = self._shared
        with shared.lock:
            state = copy.deepcopy(shared.state)
            yield MemoryBooks(state, self._holder, shared.numbers)
            if shared.interruptions:
                shared.interruptions -= 1
                if shared.interruptions % 2:
                    shared.state = state
                raise InterruptedTransactionError("the answer was lost")
            shared.state = state

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close nothing."""


class MemoryBooks:
    """One transaction over a copy of the state."""

    def __init__(self, state: dict[str, dict[str, Any]], holder: str, numbers: Iterator[int]) -> None:
        self._accounts, self._reservations = state["accounts"], state["reservations"]
        self._line = state["line"]
        self._holder = holder
        self._numbers = numbers

    def now(self) -> float:
        """Return the time of this machine."""
        return time.time()

    def entries(self, accounts: Sequence[str]) -> dict[str, AccountEntry]:
        """Return the entry of each account."""
        return {name: copy.deepcopy(self._accounts.get(name, AccountEntry())) for name in accounts}

    def save(self, entries: dict[str, AccountEntry]) -> None:
        """Write entries."""
        self._accounts.update(entries)

    def insert(self, held: Sequence[Held], *, until: float) -> None:
        """Write new reservations."""
        for item in held:
            self._reservations[item.id] = {"held": item, "holder": self._holder, "until": until, "live": True}

    def held(self, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that are reservations."""
        return self._reservations.keys() & set(ids)

    def close(self, ids: Sequence[str]) -> dict[str, bool]:
        """Remove reservations."""
        return {name: self._reservations.pop(name)["live"] for name in ids if name in self._reservations}

    def due(self, now: float) -> list[Held]:
        """Return the reservations whose lease has ended."""
        return [row["held"] for row in self._reservations.values() if row["live"] and row["until"] < now]

    def expire(self, ids: Sequence[str], now: float) -> list[Held]:
        """Mark reservations as expired."""
        due = [held for held in self.due(now) if held.id in set(ids)]
        for held in due:
            self._reservations[held.id]["live"] = False
        return due

    def renew(self, until: float) -> None:
        """Extend the leases of this process."""
        for row in self._reservations.values():
            if row["live"] and row["holder"] == self._holder:
                row["until"] = until

    def line(self, now: float) -> list[Waiter]:
        """Return the places that have not expired."""
        return sorted(
            (waiter for waiter, until in self._line.values() if until > now), key=lambda w: w.number
        )

    def wait(self, claim: Claim, *, until: float) -> int:
        """Write or renew the place of a claim."""
        number = self._line[claim.id][0].number if claim.id in self._line else next(self._numbers)
        self._line[claim.id] = Waiter(number=number, id=claim.id, accounts=claim.blocked), until
        return number

    def leave(self, ids: Sequence[str]) -> None:
        """Remove places from the line."""
        for name in ids:
            self._line.pop(name, None)

    def known(self) -> list[str]:
        """Return the ids of all accounts."""
        return sorted(self._accounts)
