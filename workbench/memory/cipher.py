"""Names as live stores keep them: opaque without the key.

Stores keep names in places that outlive a delete: schemas, logs, key indexes.

A name is sealed with AES-SIV (RFC 5297): the same name gives the same text, so that it can be looked
for, and only the key opens it. Where a store limits the length, a keyed digest stands instead.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import files
from workbench.errors import ConfigError, CorruptError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: Holds the key as 128 hexadecimal digits where several machines share one server.
KEY_VARIABLE = "WORKBENCH_MEMORY_KEY"
_BYTES = 64
_ESCAPED = re.compile(r"\\([0\\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdCipher:
    """Names of one key; without a key, which is for memories that end with the process, names as they are."""

    key: bytes | None = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str:
        """What tells two keys apart and tells nothing else about them."""
        return self._digest("fingerprint")[:16]

    def tenant(self, tenant: str) -> str:
        """A tenant's opaque name: 41 letters and digits."""
        return tenant if self.key is None else f"t{self._digest('tenant', tenant)[:40]}"

    def uuid(self, tenant: str, *parts: str) -> uuid.UUID:
        """A deterministic UUID for something of this tenant (RFC 9562, version 8)."""
        raw = bytearray(bytes.fromhex(self._digest("uuid", tenant, *parts)[:32]))
        raw[6], raw[8] = (raw[6] & 0x0F) | 0x80, (raw[8] & 0x3F) | 0x80
        return uuid.UUID(bytes=bytes(raw))

    def encrypt(self, tenant: str, name: str) -> str:
        """`name` of this tenant as opaque ASCII text; an empty name stays empty.

        Without a key it stays as it is, but for NUL, at which SQLite's functions end a text.
        """
        if self.key is None or not name:
            return name.replace("\\", "\\\\").replace("\0", "\\0")
        encrypted = _cipher(self.key).encrypt(name.encode(), [tenant.encode()])
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def decrypt(self, tenant: str, encrypted: str) -> str:
        """The name that was sealed; CorruptError when it was not sealed with this key for this tenant."""
        if self.key is None or not encrypted:
            return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else "\\", encrypted)
        return _unsealed(self.key, tenant, encrypted)

    def _digest(self, *parts: str) -> str:
        message = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
        return hmac.new(self.key or b"", message, hashlib.sha256).hexdigest()


def load_cipher(path: Path, *, environment: Mapping[str, str] = os.environ) -> IdCipher:
    """The key in the environment, else in the file, made on first use and readable by its owner alone.

    It is state: with the file lost, what stores hold under these names cannot be found again.
    """
    text = environment.get(KEY_VARIABLE, "")
    where = KEY_VARIABLE
    if not text:
        where = str(path)
        text = files.write_once(path, os.urandom(_BYTES).hex().encode()).decode()
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise ConfigError(
            f"{where} holds no key of memories: {2 * _BYTES} hexadecimal digits are expected",
            hint="put back the key from your backup of .workbench/state; openssl rand -hex 64 makes one",
        )
    return IdCipher(key=key)


@functools.lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key)


@functools.lru_cache(maxsize=200_000)
def _unsealed(key: bytes, tenant: str, encrypted: str) -> str:
    from cryptography.exceptions import InvalidTag

    try:
        raw = base64.urlsafe_b64decode(encrypted + "=" * (-len(encrypted) % 4))
        return bytes(_cipher(key).decrypt(raw, [tenant.encode()])).decode()
    except (InvalidTag, ValueError):
        raise CorruptError(
            "a name in the memory was not written with this key, or was changed",
            hint="put back the key from your backup of .workbench/state, or restore a snapshot",
        ) from None
