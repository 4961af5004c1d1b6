"""The key that signs a principal's statements: from the environment, else created on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import files
from workbench.attestations import dsse
from workbench.attestations.dsse import Envelope
from workbench.attestations.statement import Statement
from workbench.errors import ConfigError
from workbench.files import ed25519
from workbench.layout import STATE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The variable that holds the private key as PEM text, or the path of its file.
KEY_VARIABLE: Final = "WORKBENCH_SIGNING_KEY"
#: The folder of the keys of this machine, one file for each principal.
SIGNING: Final = STATE / "signing"
_PEM, _MOST_BYTES = "-----BEGIN", 1 << 16
_HINT = "make one: openssl genpkey -algorithm ed25519 -out signing.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The private key of a principal."""

    principal: str
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, root: Path, principal: str, *, environment: Mapping[str, str] = os.environ) -> SigningKey:
        """Return the key that the environment names, else the principal's on this machine.

        The latter is created on first use, readable by its owner alone. Raise ConfigError for a text that is
        no Ed25519 private key, and for a file of keys that others can read.
        """
        if not principal:
            raise ConfigError("a statement needs a principal that signs it", hint="workbench doctor")
        stated = environment.get(KEY_VARIABLE, "")
        if stated:
            text = stated if stated.startswith(_PEM) else files.read_text(Path(stated), limit=_MOST_BYTES)
            return cls(
                principal=principal, key=ed25519.private_key(text.encode(), where=KEY_VARIABLE, hint=_HINT)
            )
        path = root / path_of(principal)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{path} is a private key that other users can open", hint=f"chmod 600 {path}"
                )
        data = _kept(path) or files.write_once(path, ed25519.new_private_pem())
        return cls(principal=principal, key=ed25519.private_key(data, where=str(path), hint=_HINT))

    @property
    def key_id(self) -> str:
        """The SHA-256 of the public key in DER, which names it."""
        return ed25519.key_id_of(self.key.public_key())

    def public_pem(self) -> bytes:
        """Return the public key as PEM text."""
        return ed25519.public_pem(self.key.public_key())

    def sign(self, statement: Statement) -> Envelope:
        """Return the statement in an envelope that this key signed."""
        return dsse.sign(statement.payload(), self.key)


def path_of(principal: str) -> Path:
    """Return the path of a principal's key, relative to the repository."""
    readable = re.sub(r"[^a-z0-9]+", "-", principal.lower()).strip("-")[:40]
    return SIGNING / f"{readable or 'key'}-{hashlib.sha256(principal.encode()).hexdigest()[:12]}.pem"


def signed(
    root: Path, statement: Statement, principal: str, *, environment: Mapping[str, str] = os.environ
) -> Envelope:
    """Return a statement in an envelope that the key of a principal signed; see `SigningKey.load`."""
    return SigningKey.load(root, principal, environment=environment).sign(statement)


def _kept(path: Path) -> bytes:
    try:
        return files.read_bytes(path, limit=_MOST_BYTES)
    except FileNotFoundError:
        return b""
