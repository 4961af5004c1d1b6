"""The job ledger in a PostgreSQL database, which several hosts share."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, UnavailableError
from workbench.jobs.ledger.host import Host
from workbench.jobs.ledger.sqlite import SqlLedger
from workbench.jobs.ledger.tables import POSTGRES, SCHEMA
from workbench.jobs.ledger.transactions import Cursor, EndOf, LedgerTransaction
from workbench.records import egress

if TYPE_CHECKING:
    import psycopg

#: Any number; it serialises the creation of the tables and all transactions that write.
_LOCK: Final = 4_127_305
_PLACE: Final = "workbench_jobs"
_NOW: Final = "SELECT clock_timestamp() AS now"
_NOW_LOCKED: Final = f"{_NOW} FROM pg_advisory_xact_lock({_LOCK})"
#: Read from the catalogue itself: `to_regclass` may answer from before the wait for the lock.
_HAS_SCHEMA: Final = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
_HAS_TABLES: Final = (
    "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'ledger_schema'"
)
_HINT: Final = "check the database of budget_url in params.yaml, then run the same command again"


class PostgresLedger(SqlLedger):
    """A ledger in one schema of a database. `url` has no password. Threads may share a ledger.

    Leases are compared by the server's clock, so that hosts whose clocks differ agree; a `clock` other than
    the system's decides alone.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        password: str | None = None,
        host: Host | None = None,
        end_of: EndOf = lambda _: None,
    ) -> None:
        super().__init__(clock=clock, host=host, end_of=end_of)
        self._url = url
        self._password = password
        self._lock = threading.RLock()
        self._db: psycopg.Connection[dict[str, Any]] | None = None
        self._ahead = dt.timedelta()

    def close(self) -> None:
        """Close the connection; a later call opens one again."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(Exception):
                    db.close()

    def _now(self) -> dt.datetime:
        return self._clock.now() + self._ahead

    def _write(self) -> contextlib.AbstractContextManager[LedgerTransaction]:
        return self._transaction(_NOW_LOCKED)

    def _look(self) -> contextlib.AbstractContextManager[LedgerTransaction | None]:
        return self._transaction(_NOW)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[LedgerTransaction]:
        """Run the block as one transaction; raise UnavailableError when the database does not answer."""
        import psycopg

        with self._lock:
            try:
                db = self._begun(begin)
                with db.transaction():
                    row = db.execute(begin).fetchone()
                    if isinstance(self._clock, SystemClock) and row is not None:
                        self._ahead = row["now"] - self._clock.now()
                    yield LedgerTransaction(db=_QuestionMarks(db=db), now=self._now())
            except psycopg.Error as error:
                self.close()
                what = str(error).strip().partition("\n")[0] or type(error).__name__
                raise UnavailableError(
                    f"budget_url: the job ledger in PostgreSQL failed: {what}", hint=_HINT
                ) from error

    def _begun(self, begin: str) -> psycopg.Connection[dict[str, Any]]:
        """Return a connection that answers: a server that was restarted has closed the one before."""
        import psycopg

        if self._db is not None:
            try:
                self._db.execute(begin if begin == _NOW else _NOW)
            except psycopg.Error:
                self.close()
        return self._db or self._opened()

    def _opened(self) -> psycopg.Connection[dict[str, Any]]:
        import psycopg
        from psycopg.rows import dict_row

        secret: dict[str, Any] = {"password": self._password} if self._password else {}
        with egress.crossing():  # the ledger's connection is the boundary's own
            db = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=5,
                application_name="workbench-jobs",
                options=f"-c search_path={_PLACE} -c statement_timeout=15s -c lock_timeout=10s"
                " -c idle_in_transaction_session_timeout=30s",
                row_factory=dict_row,
                **secret,
            )
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


@dataclass(frozen=True, slots=True, kw_only=True)
class _QuestionMarks:
    """A connection that takes the statements of SQLite: `?` stands for a value, and no statement has a %."""

    db: psycopg.Connection[dict[str, Any]]

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Execute one statement."""
        return self.db.execute(statement.replace("?", "%s").encode(), list(values))


def _prepare(db: psycopg.Connection[dict[str, Any]]) -> None:
    """Create the tables in a database without them; ConfigError for those of another schema."""
    if not _exists(db, _HAS_TABLES):
        with db.transaction():
            db.execute(_NOW_LOCKED.encode())
            if not _exists(db, _HAS_TABLES):
                _create(db)
    row = db.execute("SELECT version FROM ledger_schema").fetchone()
    if row is None or row["version"] != SCHEMA:
        raise ConfigError(
            f"budget_url: the job ledger has schema {row and row['version']},"
            f" this workbench knows schema {SCHEMA}",
            hint="use the workbench that wrote it",
        )


def _exists(db: psycopg.Connection[dict[str, Any]], query: str) -> bool:
    return db.execute(query.encode(), [_PLACE]).fetchone() is not None


def _create(db: psycopg.Connection[dict[str, Any]]) -> None:
    if not _exists(db, _HAS_SCHEMA):  # a user without the right to create one may be given one
        db.execute(f"CREATE SCHEMA {_PLACE}".encode())
    db.execute(POSTGRES.encode())
    db.execute("CREATE TABLE ledger_schema (version integer NOT NULL)")
    db.execute("INSERT INTO ledger_schema VALUES (%s)", [SCHEMA])
