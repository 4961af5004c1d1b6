"""Encrypt the names that live stores keep: tenants, ids and subjects.

Stores keep names in schemas, logs and key indexes, which outlive a delete.

A name is encrypted with AES-SIV (RFC 5297). The same name gives the same text, so that a store can look it
up, and only the key decrypts it. A keyed digest replaces it where a store limits the length.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import CorruptError
from workbench.files.keys import keyed_digest, load_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: The variable that holds the key, as 128 hexadecimal digits, where several machines share one server.
KEY_VARIABLE = "WORKBENCH_MEMORY_KEY"
_BYTES = 64
_ESCAPED = re.compile(r"\\([0\\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdCipher:
    """Encrypts names with one key. Without one, for memories that end with the process, names stay clear."""

    key: bytes | None = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell two keys apart and reveal nothing else about them."""
        return self._digest("fingerprint")[:16]

    def tenant(self, tenant: str) -> str:
        """Return a tenant's opaque name: 41 letters and digits."""
        return tenant if self.key is None else f"t{self._digest('tenant', tenant)[:40]}"

    def uuid(self, tenant: str, *parts: str) -> uuid.UUID:
        """Return a deterministic UUID (RFC 9562, version 8) for `parts` of this tenant."""
        raw = bytearray(bytes.fromhex(self._digest("uuid", tenant, *parts)[:32]))
        raw[6], raw[8] = (raw[6] & 0x0F) | 0x80, (raw[8] & 0x3F) | 0x80
        return uuid.UUID(bytes=bytes(raw))

    def encrypt(self, tenant: str, name: str) -> str:
        """Encrypt `name` of this tenant as ASCII text; an empty name stays empty.

        Without a key only NUL and the backslash are escaped, because SQLite's functions end a text at NUL.
        """
        if self.key is None or not name:
            return name.replace("\\", "\\\\").replace("\0", "\\0")
        encrypted = _cipher(self.key).encrypt(name.encode(), [tenant.encode()])
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def decrypt(self, tenant: str, encrypted: str) -> str:
        """Decrypt a name; CorruptError unless it was encrypted with this key for this tenant."""
        if self.key is None or not encrypted:
            return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else "\\", encrypted)
        return _decrypted(self.key, tenant, encrypted)

    def _digest(self, *parts: str) -> str:
        return keyed_digest(self.key or b"", *parts)


def load_cipher(path: Path, *, environment: Mapping[str, str] = os.environ) -> IdCipher:
    """Read the key from the environment, else from the file at `path`, which is created on first use.

    Only its owner can read the file. Without it, stores cannot find their items again: back it up.
    ConfigError unless the key is 128 hexadecimal digits.
    """
    key = load_key(path, size=_BYTES, what="a memory key", variable=KEY_VARIABLE, environment=environment)
    return IdCipher(key=key)


@functools.lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key)


@functools.lru_cache(maxsize=200_000)
def _decrypted(key: bytes, tenant: str, encrypted: str) -> str:
    from cryptography.exceptions import InvalidTag

    try:
        raw = base64.urlsafe_b64decode(encrypted + "=" * (-len(encrypted) % 4))
        return bytes(_cipher(key).decrypt(raw, [tenant.encode()])).decode()
    except (InvalidTag, ValueError):
        raise CorruptError(
            "a name in the memory was not written with this key, or was changed",
            hint="put back the key from your backup of .workbench/state, or restore a snapshot",
        ) from None
