"""Upgrade the embedded store's file from schema 2, whose ids and subjects are encrypted, to schema 3."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from workbench.errors import ConfigError
from workbench.memory.cipher import IdCipher
from workbench.memory.sqlite.escaping import escaped
from workbench.memory.sqlite.retention import hold_name


def decrypt_ids(db: sqlite3.Connection, *, cipher: Callable[[], IdCipher]) -> None:
    """Decrypt tenants, ids, subjects and parents in place; the caller holds a transaction.

    ConfigError when the file was written with another key.
    """
    names = cipher()
    written_with = db.execute("SELECT value FROM settings WHERE name = 'names'").fetchone()
    if written_with is not None and written_with[0] != names.fingerprint:
        raise ConfigError(
            "the memory's file was written with another key (state/memory.key)",
            hint="put back the key from your backup of .workbench/state, or restore a snapshot",
        )
    for key, encrypted in db.execute("SELECT key, sealed FROM tenants").fetchall():
        tenant = names.decrypt("", encrypted)
        db.execute("UPDATE tenants SET tenant = ?, changes = changes + 1 WHERE key = ?", (tenant, key))
        _decrypt_items(db, names, key, tenant)
        _decrypt_holds(db, names, key, tenant)
    db.execute("ALTER TABLE tenants DROP COLUMN sealed")
    db.execute("DROP TABLE settings")


def _decrypt_items(db: sqlite3.Connection, names: IdCipher, key: int, tenant: str) -> None:
    rows = db.execute("SELECT number, id, subject, parents FROM items WHERE tenant = ?", (key,)).fetchall()
    for number, item, subject, parents in rows:
        given = sorted(names.decrypt(tenant, parent) for parent in json.loads(parents))
        clear = [escaped(names.decrypt(tenant, name)) for name in (item, subject)]
        db.execute(
            "UPDATE items SET id = ?, subject = ?, parents = ? WHERE number = ?",
            (*clear, json.dumps(list(map(escaped, given))), number),
        )


def _decrypt_holds(db: sqlite3.Connection, names: IdCipher, key: int, tenant: str) -> None:
    """Decrypt holds and rename them, because a hold's name is a digest of the values it covers."""
    holds: dict[str, list[tuple[str, str]]] = {}
    for hold, column, value in db.execute("SELECT hold, what, name FROM holds WHERE tenant = ?", (key,)):
        clear = value if column == "source" else names.decrypt(tenant, value)
        holds.setdefault(hold, []).append((column, clear))
    db.execute("DELETE FROM holds WHERE tenant = ?", (key,))
    for pairs in holds.values():
        named = [(column, value if column == "source" else escaped(value)) for column, value in sorted(pairs)]
        db.executemany(
            "INSERT INTO holds (tenant, hold, what, name) VALUES (?, ?, ?, ?)",
            [(key, hold_name(named), column, value) for column, value in named],
        )
