"""The ledger of one process: one thread writes the reservations and settlements of its calls in groups."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import datetime as dt
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from workbench.budgets import books
from workbench.budgets.books import BudgetStore, Claim, InterruptedTransactionError, Settlement, Shortage
from workbench.budgets.refusal import exceeded, still_reserved
from workbench.context import instant, new_id
from workbench.errors import OverloadedError, UnavailableError, WorkbenchError
from workbench.ports.budget import LEASE_S, MEASURES, Account, Amounts, Balance, Reservation

T = TypeVar("T")
#: Seconds between two looks at the ledger while a call of this process waits for others.
POLL_S: Final = 0.02
#: Seconds for which orders are collected into one transaction while more than a few calls are under way.
GROUP_S: Final = 0.001
_FEW: Final = 4
#: Seconds after which what was written is forced to the disk: a power failure forgets no more.
SYNC_S: Final = 1.0
#: Seconds between two attempts to write settlements that an unavailable ledger did not take.
OWED_S: Final = 1.0
#: Seconds after the end of a wait at which a caller leaves a ledger that says nothing.
LATE_S: Final = 0.1
#: Pauses before a transaction is tried again after a lost connection or a conflict, in seconds.
_PAUSES: Final = (0.0, 0.02, 0.1, 0.3, 1.0)
#: Seconds after which a transaction is not tried again.
_TRIES_S: Final = 6.0
#: Most settlements and claims of one transaction, so that other processes get their turn.
_MOST: Final = 256


class _Order:
    """One request to the thread, and the future of the caller."""

    __slots__ = ("future", "loop", "until", "what")

    def __init__(self, what: Any, *, until: float = float("inf")) -> None:
        self.what = what
        self.until = until
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    async def answer(self, seconds: float, *, late: Any) -> Any:
        """Return the thread's answer, or `late` after so many seconds; the order stays in its place."""
        alarm = None
        if seconds < math.inf:
            alarm = self.loop.call_later(max(seconds, 0.0) + LATE_S, _resolve, [(self.future, late)])
        try:
            return await self.future
        finally:
            if alarm is not None:
                alarm.cancel()

    @property
    def failed(self) -> bool:
        """Whether the thread answered with an error."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is not None


class QueuedLedger:
    """A ledger over a store, for any number of threads, loops and tasks of one process.

    `open_store` returns the store, again after a fork. A reservation of a process that ended is free after
    `lease_s` seconds. A thread is started by the first call and renews the leases of calls under way.
    """

    def __init__(self, open_store: Callable[[], BudgetStore], *, lease_s: float = LEASE_S) -> None:
        self._open_store = open_store
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._inherited: list[_Worker] = []
        self._spent: dict[str, Amounts] = {}
        _ledgers.add(self)

    def unlock(self) -> None:
        """Free the lock in the child of a fork, in which the thread that held it does not exist."""
        self._lock = threading.Lock()

    async def reserve(
        self, accounts: Sequence[Account], amounts: Amounts, *, wait_s: float, answer_s: float = math.inf
    ) -> Reservation:
        """Reserve the amounts in all accounts or in none; wait in line for room that others only reserve."""
        claim = Claim(new_id(), accounts, amounts)
        order = _Order(claim, until=time.monotonic() + wait_s)
        self._send(order)
        made: Reservation | Shortage | None = None
        try:
            # The thread may be connecting to a database that does not answer.
            made = await order.answer(answer_s, late=None)
        finally:
            if made is None and not order.failed:  # cancelled, or too late
                claim.withdrawn = True
                # It may be granted meanwhile; written after it, by the same thread.
                self._send(_Order(_nothing_spent(claim)))
        if made is None:
            raise OverloadedError(
                "the ledger of budgets did not answer before the call's deadline", hint="workbench doctor"
            )
        if isinstance(made, Shortage):
            raise exceeded(made)
        return made

    async def settle(self, reservation: Reservation, spent: Amounts, *, answer_s: float = math.inf) -> bool:
        """Replace a reservation by what was spent; it is written even if the caller is cancelled."""
        order = _Order(Settlement(reservation=reservation, spent=spent))
        self._send(order)
        written: bool = await order.answer(answer_s, late=False)
        return written

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        """Return what the ledger holds of each account."""
        ids = sorted({account.id for account in accounts})

        def read(transaction: books.Books) -> list[Balance]:
            entries = transaction.entries(ids)
            return [_balance(entries[account.id]) for account in accounts]

        return await self._ask(read)

    async def known(self) -> list[str]:
        """Return the ids of all accounts that the ledger holds."""
        return await self._ask(lambda transaction: transaction.known())

    def check(self, accounts: Sequence[Account], amounts: Amounts) -> None:
        """Raise BudgetExceededError if what this process saw last already rules the amounts out."""
        for account in accounts:
            entry = books.AccountEntry(self._spent.get(account.id, ()))
            shortage = books.shortage_of(account, entry, amounts) if account.enforced else None
            if shortage is not None:
                raise exceeded(shortage)

    async def aclose(self) -> None:
        """Write what is outstanding and close the store."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Write what is outstanding and close the store, within some seconds."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None and worker.pid == os.getpid():
            worker.stop()

    async def _ask(self, read: Callable[[books.Books], T]) -> T:
        order = _Order(read)
        self._send(order)
        answer: T = await order.future
        return answer

    def _send(self, order: _Order) -> None:
        with self._lock:
            worker = self._worker
            if worker is None or worker.pid != os.getpid():  # a fork has none of its parent's threads
                if worker is not None:  # to close its parent's connection would end it for the parent too
                    self._inherited.append(worker)
                atexit.register(_close_at_exit, weakref.ref(self))
                worker = self._worker = _Worker(self._open_store(), self._lease_s, self._spent)
            worker.send(order)


class _Worker:
    """The thread of a ledger, with the orders that wait and the settlements that are owed."""

    def __init__(self, store: BudgetStore, lease_s: float, spent: dict[str, Amounts]) -> None:
        self.pid = os.getpid()
        self._store = store
        self._lease_s = lease_s
        self._spent = spent
        self._orders: deque[_Order] = deque()
        self._woken = threading.Event()
        self._stopping = False
        self._waiting: list[_Order] = []
        self._owed: list[_Order] = []
        self._live: set[str] = set()
        self._renew_at = self._expire_at = self._owed_at = 0.0
        self._sync_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="workbench-budgets", daemon=True)
        self._thread.start()

    def send(self, order: _Order) -> None:
        self._orders.append(order)
        if not self._woken.is_set():
            self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not (self._stopping and not self._orders):
            self._woken.wait(self._pause())
            if len(self._live) > _FEW and not self._stopping:
                time.sleep(GROUP_S)
            self._woken.clear()
            orders = [self._orders.popleft() for _ in range(min(len(self._orders), _MOST))]
            if self._orders:
                self._woken.set()
            try:
                self._turn(orders)
            except Exception as error:  # noqa: BLE001  a caller must not wait for a thread that has ended
                waiting, self._waiting = self._waiting, []
                _tell((order, error) for order in (*orders, *waiting))
        closed = UnavailableError("the ledger of budgets was closed", hint="connect again: wb.connect(…)")
        _tell((order, closed) for order in self._waiting)
        if self._owed:
            with contextlib.suppress(WorkbenchError, OSError):
                self._write(self._owed, [])
        self._store.close()

    def _pause(self) -> float | None:
        """Return the seconds until something is to be done, or None if nothing is."""
        now = time.monotonic()
        times = [now + POLL_S] * bool(self._waiting) + [self._renew_at] * bool(self._live)
        times += [self._owed_at] * bool(self._owed)
        times += [self._sync_at] if self._sync_at is not None else []
        return max(min(times) - now, 0.0) if times else None

    def _turn(self, orders: list[_Order]) -> None:
        if self._live and time.monotonic() >= self._renew_at:
            self._renew()
        settlements = [order for order in orders if isinstance(order.what, Settlement)]
        settlements, self._owed = self._owed + settlements, []
        claims = [order for order in orders if isinstance(order.what, Claim)]
        claims, self._waiting = self._without_late([*self._waiting, *claims]), []
        if settlements or claims:
            self._written(settlements, claims)
        for order in orders:
            if not isinstance(order.what, Settlement | Claim):
                self._read(order)
        if self._sync_at is not None and time.monotonic() >= self._sync_at:
            self._sync_at = None
            with contextlib.suppress(WorkbenchError, OSError):  # the commits are there, and written later
                self._store.sync()

    def _written(self, settlements: list[_Order], claims: list[_Order]) -> None:
        """Write a group and tell the callers. What is spent is written before more is reserved."""
        try:
            if claims:
                self._expire()
            made = self._write(settlements, claims)
        except (WorkbenchError, OSError) as error:
            self._owed += settlements
            self._owed_at = time.monotonic() + OWED_S
            _tell([*((order, False) for order in settlements), *((order, error) for order in claims)])
            return
        self._live.difference_update(order.what.reservation.id for order in settlements)
        if not self._live:
            self._renew_at = time.monotonic() + self._lease_s / 3
        self._live.update(name for name, result in made.items() if isinstance(result, Reservation))
        self._waiting = [order for order in claims if made[order.what.id] is None]
        told = [(order, made[order.what.id]) for order in claims if made[order.what.id] is not None]
        _tell([*((order, True) for order in settlements), *told])

    def _write(self, settlements: list[_Order], claims: list[_Order]) -> dict[str, Any]:
        settled, wanted = [order.what for order in settlements], [order.what for order in claims]
        entries, made = self._transact(
            lambda b, again: books.write(b, settled, wanted, lease_s=self._lease_s, again=again)
        )
        for name, entry in entries.items():
            self._spent[name] = Amounts(*entry.spent)
        if self._sync_at is None:
            self._sync_at = time.monotonic() + SYNC_S
        return dict(made)

    def _without_late(self, orders: list[_Order]) -> list[_Order]:
        """Return the orders whose time is not over; tell the others, and take them out of the line."""
        now = time.monotonic()
        # An order that is new is decided once, however little time it has.
        late = [order for order in orders if order.what.number is not None and now >= order.until]
        over = [*late, *(order for order in orders if order.what.withdrawn)]
        if placed := [order.what.id for order in over if order.what.number is not None]:
            with contextlib.suppress(WorkbenchError, OSError):  # a place in the line expires by itself
                self._transact(lambda b, _again: b.leave(placed))
        _tell((order, still_reserved(order.what)) for order in late)
        gone = set(map(id, over))
        return [order for order in orders if id(order) not in gone]

    def _expire(self) -> None:
        now = time.monotonic()
        if now >= self._expire_at:
            self._expire_at = now + min(0.25, self._lease_s / 4)
            self._transact(lambda b, _again: books.free_expired(b))

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + self._lease_s / 3
        with contextlib.suppress(WorkbenchError, OSError):  # tried again before the lease ends
            self._transact(lambda b, _again: b.renew(b.now() + self._lease_s))

    def _read(self, order: _Order) -> None:
        def work(transaction: books.Books, _again: bool) -> Any:  # noqa: FBT001
            books.free_expired(transaction)
            return order.what(transaction)

        try:
            _tell([(order, self._transact(work))])
        except (WorkbenchError, OSError) as error:
            _tell([(order, error)])

    def _transact(self, work: Callable[[books.Books, bool], T]) -> T:
        """Return what `work` returns in a transaction, which is tried again after a conflict."""
        began, last = time.monotonic(), Exception()
        for again, pause in enumerate(_PAUSES):
            if time.monotonic() - began > _TRIES_S:
                break
            time.sleep(pause)
            try:
                with self._store.transaction() as transaction:
                    return work(transaction, bool(again))
            except InterruptedTransactionError as error:
                last = error
        raise UnavailableError(
            f"the ledger of budgets cannot be read: {last}",
            hint="start the database that budget_url in params.yaml names, then repeat the call",
        ) from last


def _nothing_spent(claim: Claim) -> Settlement:
    reservation = Reservation(id=claim.id, accounts=claim.accounts, amounts=claim.amounts)
    return Settlement(reservation=reservation, spent=[0] * len(MEASURES))


def _balance(entry: books.AccountEntry) -> Balance:
    refused, refused_at = _counted(entry.refused)
    observed, observed_at = _counted(entry.observed)
    return Balance(
        spent=Amounts(*entry.spent), reserved=Amounts(*entry.reserved), refused=refused,
        refused_at=refused_at, would_refuse=observed, would_refuse_at=observed_at,
    )  # fmt: skip


def _counted(counter: tuple[int, float]) -> tuple[int, str]:
    """Return the number and the instant of the last one, "" without any."""
    number, at = counter
    return number, instant(dt.datetime.fromtimestamp(at, dt.UTC)) if number else ""


def _tell(answers: Iterable[tuple[_Order, Any]]) -> None:
    """Give each caller its answer or its error, with one wake-up for each loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for order, answer in answers:
        loops.setdefault(order.loop, []).append((order.future, answer))
    for loop, told in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(partial(_resolve, told))


def _resolve(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in told:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _close_at_exit(ledger: weakref.ref[QueuedLedger]) -> None:
    if (found := ledger()) is not None:
        found.close()


_ledgers: weakref.WeakSet[QueuedLedger] = weakref.WeakSet()


def _unlock_all() -> None:
    for ledger in _ledgers:
        ledger.unlock()


os.register_at_fork(after_in_child=_unlock_all)
