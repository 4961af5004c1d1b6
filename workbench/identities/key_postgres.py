"""The store of API keys in a PostgreSQL database, which several machines share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from workbench.errors import ConfigError, UnavailableError
from workbench.identities.api_keys import ApiKey
from workbench.identities.key_store import not_replaceable, unknown_key
from workbench.records import egress

if TYPE_CHECKING:
    import psycopg

SCHEMA: Final = 1
#: Any number; it serialises the creation of the tables.
_LOCK: Final = 4_127_304
_TABLES: Final = f"""
SELECT pg_advisory_xact_lock({_LOCK});
CREATE TABLE IF NOT EXISTS workbench_api_keys (
    id text PRIMARY KEY, digest text NOT NULL, rights text NOT NULL, issued text NOT NULL,
    issued_by text NOT NULL, expires text NOT NULL, revoked text NOT NULL, used text NOT NULL,
    replaced_by text NOT NULL
);
CREATE TABLE IF NOT EXISTS workbench_api_key_changes (number bigint NOT NULL, version integer NOT NULL);
INSERT INTO workbench_api_key_changes SELECT 0, {SCHEMA}
WHERE NOT EXISTS (SELECT FROM workbench_api_key_changes);
"""  # noqa: S608  two numbers of this file
_REPLACE: Final = """
UPDATE workbench_api_keys SET replaced_by = %s,
expires = CASE WHEN expires != '' AND expires < %s THEN expires ELSE %s END
WHERE id = %s AND revoked = '' AND replaced_by = '' AND (expires = '' OR expires > %s)
"""
_ADD: Final = "INSERT INTO workbench_api_keys VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_HINT: Final = "check the database of budget_url in params.yaml, then try again"


class PostgresKeys:
    """Keys in one database. `url` has no password. Threads may share a store."""

    def __init__(self, url: str, *, password: str | None = None) -> None:
        self._url = url
        self._password = password
        self._lock = threading.RLock()
        self._db: psycopg.Connection | None = None

    def changes(self) -> object:
        """Return the number of changes, by one query."""
        with self._asking() as db:
            return _one(db, "SELECT number FROM workbench_api_key_changes")

    def listed(self) -> list[ApiKey]:
        """Return all keys."""
        with self._asking() as db:
            rows = db.execute("SELECT * FROM workbench_api_keys ORDER BY issued, id").fetchall()
        return [ApiKey.from_row(row, where="workbench_api_keys") for row in rows]

    def add(self, key: ApiKey, *, replacing: str = "", ends: str = "") -> None:
        """Add a key, and end the one that it replaces."""
        with self._changing() as db:
            if replacing:
                changed = db.execute(_REPLACE, (key.id, ends, ends, replacing, key.issued))
                if not changed.rowcount:
                    raise not_replaceable(replacing)
            db.execute(_ADD, key.to_row())

    def revoke(self, key: str, *, at: str) -> bool:
        """Revoke a key."""
        with self._changing() as db:
            query = "SELECT revoked FROM workbench_api_keys WHERE id = %s FOR UPDATE"
            row = db.execute(query, (key,)).fetchone()
            if row is None:
                raise unknown_key(key)
            if not row[0]:
                db.execute("UPDATE workbench_api_keys SET revoked = %s WHERE id = %s", (at, key))
        return not row[0]

    def note_use(self, key: str, *, at: str) -> None:
        """Note a use; without the database it is forgotten."""
        query = "UPDATE workbench_api_keys SET used = %s WHERE id = %s AND used < %s"
        with contextlib.suppress(UnavailableError), self._asking() as db:
            db.execute(query, (at, key, at))

    def close(self) -> None:
        """Close the connection; a later call opens one again."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(Exception):
                    db.close()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[psycopg.Connection]:
        """Begin a transaction that changes keys."""
        with self._asking() as db, db.transaction():
            # First, so that two changes do not wait for each other's rows.
            db.execute("UPDATE workbench_api_key_changes SET number = number + 1")
            yield db

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg.Connection]:
        """Yield the connection; raise UnavailableError when the database does not answer."""
        import psycopg

        with self._lock:
            try:
                yield self._opened()
            except psycopg.Error as error:
                if self._db is not None and (self._db.closed or self._db.broken or not error.sqlstate):
                    self.close()
                what = str(error).partition("\n")[0]
                raise UnavailableError(f"budget_url: no API key can be read: {what}", hint=_HINT) from error

    def _opened(self) -> psycopg.Connection:
        if self._db is not None and not self._db.closed:
            return self._db
        import psycopg

        secret: dict[str, Any] = {"password": self._password} if self._password else {}
        with egress.crossing():  # the store's connection is the boundary's own
            db = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=5,
                application_name="workbench-keys",
                options="-c statement_timeout=5s -c lock_timeout=2s",
                **secret,
            )
        try:
            if _one(db, "SELECT to_regclass('workbench_api_key_changes')") is None:
                with db.transaction():
                    db.execute(_TABLES)
            found = _one(db, "SELECT version FROM workbench_api_key_changes")
        except BaseException:
            db.close()
            raise
        if found != SCHEMA:
            db.close()
            raise ConfigError(
                f"budget_url: the API keys have schema {found}, this workbench knows schema {SCHEMA}",
                hint="use the workbench that wrote them",
            )
        self._db = db
        return db


def _one(db: psycopg.Connection, query: str) -> Any:
    row = db.execute(query).fetchone()
    return row and row[0]
