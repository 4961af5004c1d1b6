"""The ledger of budgets in a PostgreSQL database, which several machines share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from workbench.budgets.books import AccountEntry, Claim, Held, InterruptedTransactionError, Waiter
from workbench.errors import ConfigError, UnavailableError
from workbench.records import egress

if TYPE_CHECKING:
    import psycopg

SCHEMA: Final = 1
#: As in sqlite.py: seconds for which an expired reservation can still be settled.
KEPT_S: Final = 7 * 86_400.0
#: Any number; it serialises the creation of the tables.
_LOCK = 4_127_303
_TABLES = f"""
SELECT pg_advisory_xact_lock({_LOCK});
CREATE TABLE IF NOT EXISTS workbench_budget_schema (version integer NOT NULL);
INSERT INTO workbench_budget_schema SELECT {SCHEMA} WHERE NOT EXISTS (SELECT FROM workbench_budget_schema);
CREATE TABLE IF NOT EXISTS workbench_budget_accounts (
    id text PRIMARY KEY, refused bigint NOT NULL DEFAULT 0, refused_at double precision NOT NULL DEFAULT 0,
    spent bigint[] NOT NULL DEFAULT '{{0,0,0,0}}', held bigint[] NOT NULL DEFAULT '{{0,0,0,0}}'
);
CREATE TABLE IF NOT EXISTS workbench_budget_reservations (
    id text PRIMARY KEY, holder text NOT NULL, until double precision NOT NULL, live boolean NOT NULL,
    accounts text[] NOT NULL, amounts bigint[] NOT NULL
);
CREATE INDEX IF NOT EXISTS workbench_budget_due ON workbench_budget_reservations (live, until);
CREATE TABLE IF NOT EXISTS workbench_budget_line (
    number bigserial PRIMARY KEY, id text NOT NULL UNIQUE, until double precision NOT NULL,
    accounts text[] NOT NULL
);
CREATE TABLE IF NOT EXISTS workbench_budget_would_refuse (
    id text PRIMARY KEY, number bigint NOT NULL, at double precision NOT NULL
);
"""
_NOW = "extract(epoch FROM clock_timestamp())::double precision"
_ENTRIES = """
SELECT account.id, spent, held, refused, refused_at, coalesce(number, 0), coalesce(at, 0)
FROM workbench_budget_accounts AS account
LEFT JOIN workbench_budget_would_refuse AS observed ON observed.id = account.id
WHERE account.id = ANY(%s) ORDER BY account.id FOR UPDATE OF account
"""
_NEW = """
INSERT INTO workbench_budget_accounts (id) SELECT id FROM unnest(%s::text[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
"""
_SAVE = """
UPDATE workbench_budget_accounts SET spent = %s, held = %s, refused = %s, refused_at = %s WHERE id = %s
"""
_OBSERVE = """
INSERT INTO workbench_budget_would_refuse (id, number, at) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET number = excluded.number, at = excluded.at
"""
_INSERT = """
INSERT INTO workbench_budget_reservations (id, holder, until, live, accounts, amounts)
VALUES (%s, %s, %s, true, %s, %s)
"""
_EXPIRE = """
UPDATE workbench_budget_reservations SET live = false WHERE live AND until < %s AND id = ANY(%s)
RETURNING id, accounts, amounts
"""
_WAIT = """
INSERT INTO workbench_budget_line (id, until, accounts) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, accounts = excluded.accounts RETURNING number
"""


class PostgresBudgets:
    """The store of a ledger in one database. `url` has no password; the server's clock ends leases."""

    def __init__(self, url: str, *, holder: str, password: str | None = None) -> None:
        self._url = url
        self._holder = holder
        self._password = password
        self._db: psycopg.Connection | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[PostgresBooks]:
        """Begin a transaction; raise InterruptedTransactionError after a lost connection or a conflict."""
        import psycopg

        db = self._opened()
        try:
            with db.transaction():
                yield PostgresBooks(db, self._holder)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # Conflicts and deadlocks are operational errors too; the others leave the connection unusable.
            if db.closed or db.broken or not error.sqlstate:
                self.close()
            raise InterruptedTransactionError(_line(error)) from error
        except psycopg.Error as error:
            raise UnavailableError(
                f"budget_url: PostgreSQL refused the ledger's transaction: {_line(error)}",
                hint="check the rights of the database's user: it writes tables workbench_budget_*",
            ) from error

    def sync(self) -> None:
        """Do nothing: a commit of the server is on its disk."""

    def close(self) -> None:
        """Close the connection."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(Exception):
                db.close()

    def _opened(self) -> psycopg.Connection:
        if self._db is None:
            import psycopg

            secret: dict[str, Any] = {"password": self._password} if self._password else {}
            try:
                with egress.crossing():  # the ledger's connection is the boundary's own
                    db = psycopg.connect(
                        self._url,
                        autocommit=True,
                        connect_timeout=5,
                        application_name="workbench-budgets",
                        options="-c statement_timeout=15s -c idle_in_transaction_session_timeout=30s",
                        **secret,
                    )
            except psycopg.OperationalError as error:
                raise InterruptedTransactionError(_line(error)) from error
            self._db = self._prepared(db)
        return self._db

    @staticmethod
    def _prepared(db: psycopg.Connection) -> psycopg.Connection:
        import psycopg

        try:
            db.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            made = db.execute("SELECT to_regclass('workbench_budget_would_refuse')").fetchone()
            if made is None or made[0] is None:
                with db.transaction():
                    db.execute(_TABLES)
            row = db.execute("SELECT version FROM workbench_budget_schema").fetchone()
        except psycopg.OperationalError as error:
            db.close()
            raise InterruptedTransactionError(_line(error)) from error
        except psycopg.Error as error:
            db.close()
            raise UnavailableError(
                f"budget_url: the ledger's tables cannot be created or read: {_line(error)}",
                hint="grant the database's user the right to create tables, or create them as its owner",
            ) from error
        if row is None or row[0] != SCHEMA:
            db.close()
            raise ConfigError(
                f"budget_url: the ledger has schema {row and row[0]}, this workbench knows schema {SCHEMA}",
                hint="use the workbench that wrote it",
            )
        return db


class PostgresBooks:
    """One transaction of a ledger in PostgreSQL."""

    def __init__(self, db: psycopg.Connection, holder: str) -> None:
        self._db = db
        self._holder = holder

    def now(self) -> float:
        """Return the server's time, which all machines share."""
        return float(self._one(f"SELECT {_NOW}")[0])

    def entries(self, accounts: Sequence[str]) -> dict[str, AccountEntry]:
        """Return the entry of each account, locked in the order of their ids."""
        wanted = sorted(accounts)
        rows = self._db.execute(_ENTRIES, (wanted,)).fetchall()
        if len(rows) < len(wanted):
            self._db.execute(_NEW, (wanted,))
            rows = self._db.execute(_ENTRIES, (wanted,)).fetchall()
        return {row[0]: AccountEntry(row[1], row[2], refused=row[3:5], observed=row[5:7]) for row in rows}

    def save(self, entries: dict[str, AccountEntry]) -> None:
        """Write entries."""
        rows = [(e.spent, e.reserved, *e.refused, name) for name, e in sorted(entries.items())]
        self._db.cursor().executemany(_SAVE, rows)
        if observed := [(name, *e.observed) for name, e in sorted(entries.items()) if e.observing]:
            self._db.cursor().executemany(_OBSERVE, observed)

    def insert(self, held: Sequence[Held], *, until: float) -> None:
        """Write new reservations."""
        rows = [(h.id, self._holder, until, list(h.accounts), list(h.amounts)) for h in held]
        self._db.cursor().executemany(_INSERT, rows)

    def held(self, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that are reservations."""
        query = "SELECT id FROM workbench_budget_reservations WHERE id = ANY(%s)"
        return {row[0] for row in self._db.execute(query, (list(ids),))}

    def close(self, ids: Sequence[str]) -> dict[str, bool]:
        """Remove reservations."""
        query = "DELETE FROM workbench_budget_reservations WHERE id = ANY(%s) RETURNING id, live"
        return {row[0]: row[1] for row in self._db.execute(query, (list(ids),))}

    def due(self, now: float) -> list[Held]:
        """Return the reservations whose lease has ended."""
        outdated = "DELETE FROM workbench_budget_reservations WHERE NOT live AND until < %s"
        self._db.execute(outdated, (now - KEPT_S,))
        query = "SELECT id, accounts, amounts FROM workbench_budget_reservations WHERE live AND until < %s"
        return list(map(_held, self._db.execute(query, (now,))))

    def expire(self, ids: Sequence[str], now: float) -> list[Held]:
        """Mark reservations as expired."""
        return list(map(_held, self._db.execute(_EXPIRE, (now, list(ids)))))

    def renew(self, until: float) -> None:
        """Extend the leases of this process."""
        query = "UPDATE workbench_budget_reservations SET until = %s WHERE live AND holder = %s"
        self._db.execute(query, (until, self._holder))

    def line(self, now: float) -> list[Waiter]:
        """Return the places that have not expired."""
        query = "SELECT number, id, accounts FROM workbench_budget_line WHERE until > %s ORDER BY number"
        rows = self._db.execute(query, (now,))
        return [Waiter(number=row[0], id=row[1], accounts=frozenset(row[2])) for row in rows]

    def wait(self, claim: Claim, *, until: float) -> int:
        """Write or renew the place of a claim."""
        return int(self._one(_WAIT, (claim.id, until, list(claim.blocked)))[0])

    def leave(self, ids: Sequence[str]) -> None:
        """Remove places, and places that expired long ago."""
        query = f"DELETE FROM workbench_budget_line WHERE id = ANY(%s) OR until < {_NOW} - 60"
        self._db.execute(query, (list(ids),))

    def known(self) -> list[str]:
        """Return the ids of all accounts."""
        query = 'SELECT id FROM workbench_budget_accounts ORDER BY id COLLATE "C"'
        return [row[0] for row in self._db.execute(query)]

    def _one(self, query: Any, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        row = self._db.execute(query, values).fetchone()
        assert row is not None  # noqa: S101  a query of one row
        return row


def _held(row: tuple[Any, ...]) -> Held:
    return Held(id=row[0], accounts=tuple(row[1]), amounts=row[2])


def _line(error: Exception) -> str:
    """Return the first line of an error; PostgreSQL names the password in none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
