"""The contract of ledgers, on the fake, on SQLite and on a real PostgreSQL server."""

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

from workbench.budgets.postgres import PostgresBudgets
from workbench.budgets.sqlite import SqliteBudgets
from workbench.ports.budget import Amounts, Balance
from workbench.testing.budget_contract import BudgetLedgerContract
from workbench.testing.fake_ledger import MemoryBudgets, SharedMemoryBooks

SUPPORT = Path(__file__).resolve().parents[1] / "support"
FORKS = """
import os
import sys
from workbench import _sync
from workbench.budgets.queued import QueuedLedger
from workbench.ports.budget import Account, Amounts
sys.path.insert(0, sys.argv[1])
from budget_race import open_store

ledger = QueuedLedger(lambda: open_store(sys.argv[2], sys.argv[3], f"process {os.getpid()}"))
account = Account(budget="forks", key={}, limits=(None, 10, None, None))

def spend(tokens):
    held = _sync.run(ledger.reserve([account], Amounts(tokens=tokens), wait_s=5))
    assert _sync.run(ledger.settle(held, Amounts(tokens=tokens)))

spend(1)
child = os.fork()
if child == 0:
    spend(2)
    os._exit(0)
_, status = os.waitpid(child, 0)
spend(4)
print(status, _sync.run(ledger.balances([account]))[0].spent.tokens)
"""


def spent_by_forks(where):
    command = [sys.executable, "-c", FORKS, str(SUPPORT), where, PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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

    def test_a_fork_has_a_connection_of_its_own(self):
        assert spent_by_forks(str(self.path)) == "0 7"

    def test_a_file_of_a_version_that_counted_both_as_refused_is_read_and_still_fits_it(self):
        account = self.account(tokens=1, enforced=False)
        self.spent(account, Amounts(tokens=2))
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("DROP TABLE would_refuse")
            db.execute("UPDATE accounts SET refused = 5, refused_at = 1.0")
            db.commit()
        self.spent(account, Amounts(tokens=2))
        (found,) = self.balance(account)
        assert (found.refused, found.would_refuse, found.spent.tokens) == (5, 1, 4)
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(accounts)")]
            assert len(columns) == 11 and db.execute("PRAGMA user_version").fetchone() == (1,)

    def spent(self, account, amounts):
        async def body(ledger):
            await ledger.settle(await ledger.reserve([account], amounts, wait_s=0), amounts)

        self.run(body)


class TestPostgres(BudgetLedgerContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres):  # noqa: F811
        self.server = postgres

    def open_store(self, holder):
        return PostgresBudgets(self.server.url, holder=holder, password=PASSWORD)

    def test_a_fork_has_a_connection_of_its_own(self):
        assert spent_by_forks(self.server.url) == "0 7"

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
