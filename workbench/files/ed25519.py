"""Ed25519 keys in PEM: make, read and name them."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from workbench.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PRIME: Final = (1 << 255) - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
#: The second coordinates of the points of order 1, 2, 4 and 8.
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})


def new_private_pem() -> bytes:
    """Return a new private key as PEM text."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private_key(data: bytes, *, where: str, hint: str) -> Ed25519PrivateKey:
    """Return the private key in PEM text; raise ConfigError, without the text in it, for other text."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_private_key(data, password=None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise ConfigError(f"{where} holds no Ed25519 private key in PEM", hint=hint)


def public_key(data: bytes, *, where: str, hint: str) -> Ed25519PublicKey:
    """Return the public key in PEM text; raise ConfigError for other text and for a key of small order."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_public_key(data)
        if isinstance(key, Ed25519PublicKey):
            if _is_signed_by_anyone(key):
                raise ConfigError(
                    f"{where} is an Ed25519 key of small order, for which anybody can sign", hint=hint
                )
            return key
    raise ConfigError(f"{where} holds no Ed25519 public key", hint=hint)


def _is_signed_by_anyone(key: Ed25519PublicKey) -> bool:
    """Whether signatures of a key can be made without its private key: its point has a small order."""
    y = int.from_bytes(key.public_bytes_raw(), "little") & ((1 << 255) - 1)  # the last bit is a sign
    return y % _PRIME in _SMALL_ORDER


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key as PEM text."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id_of(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key in DER: that of `openssl pkey -pubin -outform DER`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
