# ruff: noqa: PT017, PT018 - a contract is made of assertions, and a name says what it promises
"""Contract of budget ledgers, as a suite to subclass.

    class TestMyLedger(BudgetLedgerContract):
        def open_store(self, holder): return MyBudgets(..., holder=holder)

Stores with different holders stand for processes that share one ledger. Each test has accounts of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from workbench.budgets import books
from workbench.budgets.books import BudgetStore, Claim
from workbench.budgets.queued import QueuedLedger
from workbench.context import new_id
from workbench.errors import BudgetExceededError, OverloadedError
from workbench.ports.budget import Account, Amounts, Balance, Reservation

T = TypeVar("T")
#: The lease of these tests, in seconds.
LEASE_S = 0.6


class BudgetLedgerContract:
    """The promises of a ledger. Subclass it and write `open_store`."""

    def open_store(self, holder: str) -> BudgetStore:
        """Return a store of the one ledger for a process with this name."""
        raise NotImplementedError

    def account(self, *, calls: int | None = None, tokens: int | None = None, **more: Any) -> Account:
        """Return a new account with limits of calls and tokens."""
        key = {"test": new_id()}
        return Account(budget="b", key=key, limits=(None, tokens, calls, None), **more)

    def ledger(self, holder: str = "") -> QueuedLedger:
        """Return the ledger of a new process."""
        name = holder or new_id()
        return QueuedLedger(lambda: self.open_store(name), lease_s=LEASE_S)

    def run(self, *bodies: Callable[[QueuedLedger], Awaitable[T]]) -> list[T]:
        """Run each body with the ledger of a process of its own, at once; close them."""

        async def main() -> list[T]:
            async with contextlib.AsyncExitStack() as stack:
                ledgers = [await stack.enter_async_context(_opened(self.ledger())) for _ in bodies]
                pairs = zip(bodies, ledgers, strict=True)
                return list(await asyncio.gather(*(body(ledger) for body, ledger in pairs)))

        return asyncio.run(main())

    def killed(self, account: Account, amounts: Amounts) -> Reservation:
        """Reserve as a process does that is killed at once: nobody renews the lease."""
        store, claim = self.open_store(new_id()), Claim(new_id(), (account,), amounts)
        with store.transaction() as transaction:
            _, made = books.write(transaction, [], [claim], lease_s=LEASE_S)
        store.close()
        reservation = made[claim.id]
        assert isinstance(reservation, Reservation)
        return reservation

    def balance(self, *accounts: Account) -> list[Balance]:
        """Return what another process reads."""
        (found,) = self.run(lambda ledger: ledger.balances(accounts))
        return found

    def test_what_is_spent_replaces_what_was_reserved(self) -> None:
        account = self.account(calls=10, tokens=1000)

        async def body(ledger: QueuedLedger) -> Balance:
            held = await ledger.reserve([account], Amounts(7, 100, 1, 9), wait_s=1)
            (between,) = await ledger.balances([account])
            assert await ledger.settle(held, Amounts(3, 40, 1, 5))
            return between

        assert self.run(body) == [Balance(reserved=Amounts(7, 100, 1, 9))]
        assert self.balance(account) == [Balance(spent=Amounts(3, 40, 1, 5))]

    def test_a_release_leaves_nothing(self) -> None:
        account = self.account(calls=1)

        async def body(ledger: QueuedLedger) -> None:
            for _ in range(3):
                await ledger.settle(await ledger.reserve([account], Amounts(calls=1), wait_s=1), Amounts())

        self.run(body)
        assert self.balance(account) == [Balance()]

    def test_an_unknown_account_is_empty_and_a_known_one_is_listed(self) -> None:
        account = self.account(calls=1)
        assert self.balance(account) == [Balance()]

        async def body(ledger: QueuedLedger) -> list[str]:
            await ledger.settle(await ledger.reserve([account], Amounts(calls=1), wait_s=1), Amounts(calls=1))
            return await ledger.known()

        assert account.id in self.run(body)[0]

    def test_the_last_unit_is_granted_and_the_next_call_is_refused_with_the_numbers(self) -> None:
        account = self.account(tokens=100, renews="2026-12-01T00:00:00Z")

        async def body(ledger: QueuedLedger) -> BudgetExceededError:
            await _spend(ledger, account, 70)
            await _spend(ledger, account, 30)
            return await _refused(ledger.reserve([account], Amounts(tokens=1), wait_s=30))

        (error,) = self.run(body)
        assert (error.measure, error.limit, error.spent, error.needed) == ("tokens", 100, 100, 1)
        assert error.renews == "2026-12-01T00:00:00Z" and "budgets.b.tokens" in error.hint
        assert self.balance(account)[0].refused == 1 and self.balance(account)[0].refused_at

    def test_several_accounts_are_reserved_in_all_or_in_none(self) -> None:
        wide, narrow = self.account(tokens=100), self.account(tokens=10)

        async def body(ledger: QueuedLedger) -> None:
            await _refused(ledger.reserve([wide, narrow], Amounts(tokens=11), wait_s=1))
            assert await ledger.balances([wide]) == [Balance()]
            held = await ledger.reserve([wide, narrow], Amounts(tokens=10), wait_s=1)
            await ledger.settle(held, Amounts(tokens=10))

        self.run(body)
        assert [b.spent.tokens for b in self.balance(wide, narrow)] == [10, 10]

    def test_a_call_that_fits_waits_for_reservations_of_other_processes(self) -> None:
        account, reserved = self.account(calls=1), asyncio.Event()

        async def first(ledger: QueuedLedger) -> str:
            held = await ledger.reserve([account], Amounts(calls=1), wait_s=1)
            reserved.set()
            await asyncio.sleep(0.2)
            await ledger.settle(held, Amounts())
            return "released"

        async def second(ledger: QueuedLedger) -> str:
            await reserved.wait()
            await ledger.settle(
                await ledger.reserve([account], Amounts(calls=1), wait_s=20), Amounts(calls=1)
            )
            return "granted"

        assert self.run(first, second) == ["released", "granted"]
        assert self.balance(account) == [Balance(spent=Amounts(calls=1))]

    def test_a_waiting_call_is_refused_as_soon_as_it_fits_no_more(self) -> None:
        account, reserved = self.account(calls=1), asyncio.Event()

        async def first(ledger: QueuedLedger) -> None:
            held = await ledger.reserve([account], Amounts(calls=1), wait_s=1)
            reserved.set()
            await asyncio.sleep(0.1)
            await ledger.settle(held, Amounts(calls=1))

        async def second(ledger: QueuedLedger) -> None:
            await reserved.wait()
            await _refused(ledger.reserve([account], Amounts(calls=1), wait_s=20))

        self.run(first, second)

    def test_a_wait_ends_at_its_deadline_and_the_place_in_the_line_with_it(self) -> None:
        account = self.account(calls=2)

        async def body(ledger: QueuedLedger) -> OverloadedError:
            held = await ledger.reserve([account], Amounts(calls=1), wait_s=1)
            try:
                await ledger.reserve([account], Amounts(calls=2), wait_s=0.1)
            except OverloadedError as error:
                await ledger.settle(await ledger.reserve([account], Amounts(calls=1), wait_s=1), Amounts())
                await ledger.settle(held, Amounts())
                return error
            raise AssertionError("it was reserved twice")

        (error,) = self.run(body)
        assert "reserved by other calls" in error.message and str(account) in error.message

    def test_a_cancelled_call_leaves_the_line_and_holds_nothing(self) -> None:
        account = self.account(calls=1)

        async def body(ledger: QueuedLedger) -> None:
            held = await ledger.reserve([account], Amounts(calls=1), wait_s=1)
            waiting = asyncio.create_task(ledger.reserve([account], Amounts(calls=1), wait_s=30))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await ledger.settle(held, Amounts())
            await ledger.settle(await ledger.reserve([account], Amounts(calls=1), wait_s=1), Amounts())
            hasty = asyncio.create_task(ledger.reserve([account], Amounts(calls=1), wait_s=30))
            await asyncio.sleep(0)
            hasty.cancel()
            await asyncio.gather(hasty, return_exceptions=True)
            assert await ledger.balances([account]) == [Balance()]

        self.run(body)

    def test_a_small_call_does_not_overtake_a_large_one_that_waits(self) -> None:
        account = self.account(calls=10)
        order: list[str] = []

        async def body(ledger: QueuedLedger, other: QueuedLedger) -> None:
            held = await ledger.reserve([account], Amounts(calls=8), wait_s=1)

            async def asks(from_: QueuedLedger, name: str, calls: int) -> None:
                got = await from_.reserve([account], Amounts(calls=calls), wait_s=20)
                order.append(name)
                await from_.settle(got, Amounts())

            large = asyncio.create_task(asks(ledger, "large", 10))
            await asyncio.sleep(0.15)
            small = asyncio.create_task(asks(other, "small", 1))
            await asyncio.sleep(0.15)
            assert not order, "two calls are free, and the large one is first"
            await ledger.settle(held, Amounts())
            await asyncio.gather(large, small)

        async def main() -> None:
            async with _opened(self.ledger()) as one, _opened(self.ledger()) as two:
                await body(one, two)

        asyncio.run(main())
        assert order == ["large", "small"]

    def test_who_waits_for_one_account_does_not_stand_in_the_way_in_another(self) -> None:
        full, shared = self.account(calls=1), self.account(calls=100)

        async def body(ledger: QueuedLedger) -> None:
            held = await ledger.reserve([full], Amounts(calls=1), wait_s=1)
            waiting = asyncio.create_task(ledger.reserve([full, shared], Amounts(calls=1), wait_s=20))
            await asyncio.sleep(0.1)
            await ledger.settle(await ledger.reserve([shared], Amounts(calls=1), wait_s=1), Amounts())
            assert not waiting.done()
            await ledger.settle(held, Amounts())
            await ledger.settle(await waiting, Amounts())

        self.run(body)

    def test_an_account_that_only_observes_refuses_nothing_and_counts_what_it_would_have(self) -> None:
        account = self.account(tokens=10, enforced=False)

        async def body(ledger: QueuedLedger) -> list[tuple[str, ...]]:
            exceeded = []
            for _ in range(3):
                held = await ledger.reserve([account], Amounts(tokens=6), wait_s=0)
                exceeded.append(held.exceeded)
                await ledger.settle(held, Amounts(tokens=6))
            return exceeded

        assert self.run(body) == [[(), (str(account),), (str(account),)]]
        (found,) = self.balance(account)
        assert found.spent.tokens == 18 and (found.would_refuse, found.refused) == (2, 0)
        assert found.would_refuse_at and not found.refused_at

    def test_refused_calls_and_those_that_would_have_been_are_counted_apart(self) -> None:
        observing = self.account(tokens=10, enforced=False)
        enforcing = dataclasses.replace(observing, enforced=True)  # as params.yaml changes it

        async def body(ledger: QueuedLedger) -> None:
            for account, tokens in ((observing, 12), (enforcing, 1), (observing, 1), (enforcing, 1)):
                with contextlib.suppress(BudgetExceededError):
                    held = await ledger.reserve([account], Amounts(tokens=tokens), wait_s=0)
                    await ledger.settle(held, Amounts(tokens=tokens))

        self.run(body)
        (found,) = self.balance(observing)
        assert (found.refused, found.would_refuse, found.spent.tokens) == (2, 2, 13)

    def test_the_reservation_of_a_killed_process_ends_with_its_lease(self) -> None:
        account = self.account(calls=1)
        self.killed(account, Amounts(calls=1))
        assert self.balance(account)[0].reserved.calls == 1

        async def body(ledger: QueuedLedger) -> None:
            await _spend(ledger, account, 0, calls=1)

        self.run(body)
        assert self.balance(account) == [Balance(spent=Amounts(calls=1))]

    def test_a_settlement_after_the_lease_is_counted_once(self) -> None:
        account = self.account(tokens=100)
        held = self.killed(account, Amounts(tokens=60))

        async def body(ledger: QueuedLedger) -> None:
            await asyncio.sleep(LEASE_S + 0.1)
            assert await ledger.balances([account]) == [Balance()]
            for _ in range(2):
                await ledger.settle(held, Amounts(tokens=50))

        self.run(body)
        assert self.balance(account) == [Balance(spent=Amounts(tokens=50))]

    def test_a_long_call_keeps_its_reservation(self) -> None:
        account = self.account(calls=1)

        async def first(ledger: QueuedLedger) -> None:
            held = await ledger.reserve([account], Amounts(calls=1), wait_s=1)
            await asyncio.sleep(3 * LEASE_S)
            await ledger.settle(held, Amounts(calls=1))

        async def second(ledger: QueuedLedger) -> None:
            await asyncio.sleep(2 * LEASE_S)
            assert (await ledger.balances([account]))[0].reserved.calls == 1

        self.run(first, second)
        assert self.balance(account) == [Balance(spent=Amounts(calls=1))]

    def test_a_second_settlement_changes_nothing(self) -> None:
        account = self.account(tokens=100)

        async def body(ledger: QueuedLedger) -> None:
            held = await ledger.reserve([account], Amounts(tokens=10), wait_s=1)
            await asyncio.gather(*(ledger.settle(held, Amounts(tokens=4)) for _ in range(3)))

        self.run(body)
        assert self.balance(account) == [Balance(spent=Amounts(tokens=4))]

    def test_a_transaction_that_is_written_twice_counts_once(self) -> None:
        account, store = self.account(calls=5), self.open_store(new_id())
        claim = Claim(new_id(), (account,), Amounts(calls=2))
        for again in (False, True, True):
            with store.transaction() as transaction:
                _, made = books.write(transaction, [], [claim], lease_s=5, again=again)
            assert isinstance(made[claim.id], Reservation)
        store.close()
        assert self.balance(account) == [Balance(reserved=Amounts(calls=2))]

    def test_what_is_known_to_be_spent_is_refused_without_the_ledger(self) -> None:
        account = self.account(tokens=10)

        async def body(ledger: QueuedLedger) -> None:
            ledger.check([account], Amounts(tokens=10))
            await _spend(ledger, account, 5)
            ledger.check([account], Amounts(tokens=5))
            try:
                ledger.check([account], Amounts(tokens=6))
            except BudgetExceededError as error:
                assert error.spent == 5
            else:
                raise AssertionError("it was not refused")

        self.run(body)

    def test_many_processes_never_pass_the_limit_and_use_all_of_it(self) -> None:
        account, rng = self.account(tokens=400), random.Random(7)  # noqa: S311  a schedule, no secret
        needs = [[rng.randint(1, 9) for _ in range(40)] for _ in range(3)]

        async def process(ledger: QueuedLedger, several: list[int]) -> int:
            async def call(needed: int) -> int:
                try:
                    held = await ledger.reserve([account], Amounts(tokens=needed), wait_s=30)
                except BudgetExceededError:
                    return 0
                await asyncio.sleep(needed / 2000)
                await ledger.settle(held, Amounts(tokens=needed))
                (seen,) = await ledger.balances([account])
                assert seen.spent.tokens + seen.reserved.tokens <= 400
                return needed

            return sum(await asyncio.gather(*map(call, several)))

        bodies = [lambda ledger, several=several: process(ledger, several) for several in needs]
        spent = sum(self.run(*bodies))
        (found,) = self.balance(account)
        assert found.spent.tokens == spent and not found.reserved.tokens
        assert 400 - spent < 9, "less is left than the largest call needs"


@asynccontextmanager
async def _opened(ledger: QueuedLedger) -> AsyncIterator[QueuedLedger]:
    try:
        yield ledger
    finally:
        await ledger.aclose()


async def _spend(ledger: QueuedLedger, account: Account, tokens: int, *, calls: int = 0) -> None:
    amounts = Amounts(tokens=tokens, calls=calls)
    await ledger.settle(await ledger.reserve([account], amounts, wait_s=20), amounts)


async def _refused(reserving: Awaitable[Reservation]) -> BudgetExceededError:
    """Return the refusal of a reservation; fail if it is made."""
    try:
        await reserving
    except BudgetExceededError as error:
        return error
    raise AssertionError("it was reserved")
