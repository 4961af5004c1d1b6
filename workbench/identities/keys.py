"""Public keys of an issuer of tokens: a JWKS document in a file, or fetched over https and cached."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workbench import files
from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, UnavailableError, WorkbenchError

if TYPE_CHECKING:
    from jwt import PyJWK

#: Most bytes of a document, and most keys that are read from it.
_MOST_BYTES, _MOST_KEYS = 1_000_000, 100
#: Seconds after which fetched keys are fetched again, and for which they serve while the issuer is
#: unavailable.
FRESH_S, _STALE_S = 3_600.0, 86_400.0
#: Least seconds between two fetches: tokens with invented key ids must not flood the issuer.
REFETCH_S: Final = 60.0
#: Least seconds between two fetches while there are no keys.
_RETRY_S: Final = 5.0
_LEAST_RSA_BITS = 2048
#: Members of a JWK from which its private key follows. A shared secret verifies nothing here.
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
#: Key types and curves of the algorithms; None is any curve.
_FITTING: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", None),
}  # fmt: skip


class KeySet:
    """The public keys of one JWKS document."""

    def __init__(self, data: bytes, *, where: str) -> None:
        """Read a document; raise ConfigError unless it is one, or when it holds a private key."""
        raw = files.parse_json(_text(data, where), where=where)
        entries = raw.get("keys") if isinstance(raw, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(f"{where} is no JWKS document", hint='it has the form {"keys": [{…}, …]}')
        if len(entries) > _MOST_KEYS:
            raise ConfigError(f"{where} has {len(entries)} keys, more than {_MOST_KEYS}")
        if not all(_PRIVATE.isdisjoint(entry) for entry in entries):
            raise ConfigError(
                f"{where} holds a private key, with which anybody who reads it can sign tokens",
                hint="replace it by the public keys, and ask the issuer to withdraw the key",
            )
        self.where = where
        self._entries: list[dict[str, Any]] = entries
        self._known: dict[tuple[str | None, str], PyJWK | None] = {}

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return the key with an id that signs by the algorithm, or None.

        Without an id it is the only key that fits the algorithm. A key of a shared secret is never returned,
        whatever the algorithm.
        """
        if (kid, algorithm) not in self._known:
            fitting = [entry for entry in self._entries if _fits(entry, kid, algorithm)]
            found = _opened(fitting[0], algorithm) if len(fitting) == 1 else None
            if found is None:
                return None  # not kept: a token chooses its key id
            self._known[kid, algorithm] = found
        return self._known[kid, algorithm]


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (byte {error.start})") from None


def _fits(entry: Mapping[str, Any], kid: str | None, algorithm: str) -> bool:
    kty, curve = _FITTING[algorithm]
    return (
        (kid is None or entry.get("kid") == kid)
        and entry.get("kty") == kty
        and (curve is None or entry.get("crv") == curve)
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
    )


def _opened(entry: dict[str, Any], algorithm: str) -> PyJWK | None:
    """Return a key ready for use; None for one that is malformed or too short."""
    import jwt

    try:
        key = jwt.PyJWK(entry, algorithm=algorithm)
    except jwt.PyJWTError:
        return None
    short = entry["kty"] == "RSA" and key.key.key_size < _LEAST_RSA_BITS
    return None if short else key


class RemoteKeys:
    """The keys at an https address: fetched when needed, again every hour and for an unknown key id.

    While the issuer is unavailable, keys up to a day old serve. One thread fetches; others use the keys that
    are there, and wait only where there are none.
    """

    def __init__(
        self, url: str, *, clock: Clock | None = None, fetch: Callable[[str], bytes] | None = None
    ) -> None:
        self._url, self._clock, self._fetch = url, clock or SystemClock(), fetch or _fetched
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched = self._tried = -_STALE_S
        self._error: WorkbenchError | None = None

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return the key with an id, or None; raise UnavailableError when there are no keys at all."""
        if self._keys is None or self._age() >= FRESH_S:
            self._refresh(wait=self._keys is None or self._age() >= _STALE_S)
        found = self._usable().find(kid, algorithm)
        if found is None:  # the issuer may have a new key
            self._refresh(wait=True)
            found = self._usable().find(kid, algorithm)
        return found

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched

    def _usable(self) -> KeySet:
        if self._keys is None or self._age() >= _STALE_S:
            raise self._error or UnavailableError(f"the keys at {self._url} were not fetched")
        return self._keys

    def _refresh(self, *, wait: bool) -> None:
        """Fetch the keys unless another thread does, or did just now; keep the last ones when that fails."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            now = self._clock.monotonic()
            if now - self._tried < (_RETRY_S if self._keys is None else REFETCH_S):
                return
            self._tried = now
            self._keys = KeySet(self._fetch(self._url), where=self._url)
            self._fetched, self._error = now, None
        except WorkbenchError as error:
            self._error = error
        finally:
            self._lock.release()


def _fetched(url: str) -> bytes:
    from workbench.identities import fetching  # a token's keys alone need a client of HTTP

    return fetching.fetched(url, most_bytes=_MOST_BYTES)


@functools.lru_cache(maxsize=64)
def remote_keys(url: str) -> RemoteKeys:
    """Return the keys at an address, which the workspaces of a process share."""
    return RemoteKeys(url)


@files.until_changed
def file_keys(path: Path) -> KeySet:
    """Return the keys in a file, read again after it has changed; raise ConfigError and NotFoundError."""
    try:
        return KeySet(files.read_bytes(path, limit=_MOST_BYTES), where=str(path))
    except FileNotFoundError:
        raise _missing(path) from None


def _missing(path: Path) -> ConfigError:
    return ConfigError(
        f"there is no file {path}, which identity.keys of params.yaml names",
        hint="save the issuer's JWKS document there (docs/identity.md)",
    )
