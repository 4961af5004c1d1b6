"""The contract of ledgers, on the fake, on SQLite and on a real PostgreSQL server."""

import asyncio
import random

import psycopg
import pytest
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

from workbench.budgets.postgres import PostgresBudgets
from workbench.budgets.sqlite import SqliteBudgets
from workbench.ports.budget import Amounts, Balance
from workbench.testing.budget_contract import BudgetLedgerContract
from workbench.testing.fake_ledger import MemoryBudgets, SharedMemoryBooks


class TestFake(BudgetLedgerContract):
    shared = SharedMemoryBooks()

    def open_store(self, holder):
        return MemoryBudgets(self.shared, holder=holder)


class TestFakeWithLostAnswers(TestFake):
    """Every promise holds although transactions are interrupted, before or after they are written."""

    shared = SharedMemoryBooks()

    def open_store(self, holder):
        self.shared.interruptions = 3
        return super().open_store(holder)

    test_the_reservation_of_a_killed_process_ends_with_its_lease = None
    test_a_settlement_after_the_lease_is_counted_once = None
    test_a_transaction_that_is_written_twice_counts_once = None


class TestSqlite(BudgetLedgerContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = tmp_path / "budgets.sqlite"

    def open_store(self, holder):
        return SqliteBudgets(self.path, holder=holder)


class TestPostgres(BudgetLedgerContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres):  # noqa: F811
        self.server = postgres

    def open_store(self, holder):
        return PostgresBudgets(self.server.url, holder=holder, password=PASSWORD)

    @pytest.mark.parametrize("interrupt", ["pg_terminate_backend", "pg_cancel_backend"])
    def test_a_lost_connection_loses_and_doubles_nothing(self, interrupt):
        account, rng = self.account(tokens=1000), random.Random(3)
        query = f"SELECT {interrupt}(pid) FROM pg_stat_activity WHERE application_name = 'workbench-budgets'"

        async def calls(ledger):
            for _ in range(60):
                needed = rng.randint(1, 5)
                held = await ledger.reserve([account], Amounts(tokens=needed), wait_s=20)
                assert await ledger.settle(held, Amounts(tokens=needed)), "the ledger did not come back"
                spent.append(needed)

        async def disturbs(_ledger):
            with psycopg.connect(self.server.url, password=PASSWORD, autocommit=True) as admin:
                while len(spent) < 180:
                    await asyncio.to_thread(admin.execute, query)
                    await asyncio.sleep(0.3)

        spent = []
        self.run(calls, calls, calls, disturbs)
        assert self.balance(account) == [Balance(spent=Amounts(tokens=sum(spent)))]
