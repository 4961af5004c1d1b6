"""The keys of the audit log: the Ed25519 key that signs checkpoints, and the key of pseudonyms."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import files
from workbench.files import ed25519
from workbench.files.keys import keyed_digest, load_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: The variable that holds the private key as PEM text, or the path of its file.
KEY_VARIABLE: Final = "WORKBENCH_AUDIT_KEY"
_PEM = "-----BEGIN"
_SIGNING, _PSEUDONYMS = "signing.pem", "pseudonyms.key"
_CONTEXT = b"workbench audit checkpoint 1\n"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A statement to sign: at a time the log had `size` rows, the last with the digest `head`."""

    size: int
    head: str
    time: str
    policy_set: str

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        return _CONTEXT + files.canonical([self.size, self.head, self.time, self.policy_set])


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The private key of a log."""

    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, keys: Path, *, environment: Mapping[str, str] = os.environ) -> Signer:
        """Return the key that the environment names, else that of the folder `keys`, created on first use.

        Raise ConfigError for a text that is no Ed25519 private key.
        """
        stated = environment.get(KEY_VARIABLE, "")
        if stated:
            text = stated if stated.startswith(_PEM) else files.read_text(Path(stated), limit=_MOST_BYTES)
            return cls(key=_private(text.encode(), where=KEY_VARIABLE))
        path = keys / _SIGNING
        data = _kept(path)
        return cls(key=_private(data or files.write_once(path, ed25519.new_private_pem()), where=str(path)))

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the signature of a checkpoint in base64."""
        return base64.b64encode(self.key.sign(checkpoint.message())).decode()

    def public_pem(self) -> bytes:
        """Return the public key as PEM text, which an auditor needs."""
        return ed25519.public_pem(self.key.public_key())

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name the public key."""
        return key_id_of(self.key.public_key())


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPseudonyms:
    """Keyed digests of names: the same name has the same pseudonym while the key stays."""

    key: bytes = field(repr=False)

    @classmethod
    def load(cls, keys: Path) -> AuditPseudonyms:
        """Return those of the key in the folder `keys`, created on first use; ConfigError for a short key."""
        return cls(key=load_key(keys / _PSEUDONYMS, size=32, what="the key of pseudonyms"))

    def of(self, *parts: str) -> str:
        """Return the pseudonym of a name and what it belongs to: 16 hexadecimal digits, "" for no name."""
        return _pseudonym(self.key, parts) if parts[-1] else ""


def public_key(data: bytes, *, where: str) -> Ed25519PublicKey:
    """Return the Ed25519 public key in PEM text; raise ConfigError for other text."""
    hint = "ask the owner of the log for it: workbench audit key > public.pem"
    return ed25519.public_key(data, where=where, hint=hint)


def key_id_of(key: Ed25519PublicKey) -> str:
    """Return sixteen hexadecimal digits that name a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def is_signed(checkpoint: Checkpoint, signature: str, key: Ed25519PublicKey) -> bool:
    """Return whether a signature in base64 is that of the checkpoint by the key."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signature, validate=True), checkpoint.message())
    except (InvalidSignature, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=4_096)
def _pseudonym(key: bytes, parts: tuple[str, ...]) -> str:
    return keyed_digest(key, *parts)[:16]


def _kept(path: Path) -> bytes:
    try:
        return files.read_bytes(path, limit=_MOST_BYTES)
    except FileNotFoundError:
        return b""


def _private(data: bytes, *, where: str) -> Ed25519PrivateKey:
    hint = "make one: openssl genpkey -algorithm ed25519 -out audit.pem"
    return ed25519.private_key(data, where=where, hint=hint)
