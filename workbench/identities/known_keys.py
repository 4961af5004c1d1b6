"""The API keys that a process knows: read again when they change, and compared in constant time."""

from __future__ import annotations

import hmac
import threading
from pathlib import Path
from typing import Final

from workbench import config
from workbench.context import Clock, instant, moment
from workbench.identities.api_keys import ApiKey, digest_of, key_id
from workbench.identities.key_store import KeyStore, SqliteKeys
from workbench.identities.tokens import SKEW_S
from workbench.layout import API_KEYS

#: What an unknown key is compared with, so that it takes as long as a known one.
_NO_DIGEST: Final = "0" * 64
#: Seconds after which the use of a key is noted again.
_USE_S: Final = 3_600.0


class _KnownKey:
    """A key, with its times as seconds since 1970."""

    __slots__ = ("begins", "digest", "ends", "key", "used")

    def __init__(self, key: ApiKey) -> None:
        self.key, self.digest = key, key.digest
        self.begins = moment(key.issued).timestamp() - SKEW_S
        self.ends = moment(key.expires).timestamp() if key.expires else float("inf")
        self.used = moment(key.used).timestamp() if key.used else 0.0


class KnownKeys:
    """The active keys of a store. Threads may share them."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._seen: object = None
        self._known: dict[str, _KnownKey] = {}

    def find(self, secret: str) -> ApiKey | None:
        """Return the key with this secret, or None when it is unknown, wrong, revoked or expired.

        A key that was issued more than a minute after now is refused as well: the clock was set back. Raise
        UnavailableError and CorruptError when the store cannot be read.
        """
        now, name, digest = self._clock.now().timestamp(), key_id(secret), digest_of(secret)
        with self._lock:
            self._refresh()
            known = self._known.get(name or "")
        same = hmac.compare_digest(digest, _NO_DIGEST if known is None else known.digest)
        if known is None or not same or known.key.revoked or not known.begins <= now < known.ends:
            return None
        if not 0 <= now - known.used < _USE_S:
            known.used = now
            self._store.note_use(known.key.id, at=instant(self._clock.now()))
        return known.key

    def _refresh(self) -> None:
        """Read the keys again after a change."""
        seen = self._store.changes()
        if seen != self._seen:
            self._known = {key.id: _KnownKey(key) for key in self._store.listed()}
            self._seen = seen


def open_key_store(home: Path, params: config.Params | None = None) -> KeyStore:
    """Return the store of keys of a repository: its database with `budget_url`, else a SQLite file.

    `params` are by default those of `home`. Nothing is opened yet. Raise ConfigError when the variable of the
    database's password is not set.
    """
    params = params or config.load_params(home)
    if params.budget_url is None:
        return SqliteKeys(home / API_KEYS)
    from workbench.identities.key_postgres import PostgresKeys  # a database alone needs its client

    variable = params.budget_password_env
    password = config.secret(variable, needed_by="budget_url in params.yaml") if variable else None
    return PostgresKeys(params.budget_url, password=password)
