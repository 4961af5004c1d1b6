"""Sign and verify bytes in DSSE envelopes: one Ed25519 signature over the payload and its type.

An envelope has one form: canonical JSON with one signature and a final newline. Another form of the same
value is refused, so that no byte of a file can be changed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from workbench import files
from workbench.errors import ConfigError, CorruptError
from workbench.files import ed25519

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: The type of in-toto statements.
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
#: Most bytes of an envelope.
MOST_BYTES: Final = 16 << 20
#: Most bytes of the name of a payload's type and of a key.
_MOST_NAME: Final = 200
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    keyid: str
    sig: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wire:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    payload: str
    payloadType: str  # noqa: N815  the specification's name
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, its type, the id of the key that signed both, and the signature's 64 bytes."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Envelope:
        """Return the envelope in a file's bytes; CorruptError names `where` and what is wrong."""
        try:
            wire = _wire(data, where)
            found = cls(
                payload=_bytes(wire.payload, f"{where}: payload"),
                payload_type=wire.payloadType,
                key_id=wire.signatures[0].keyid,
                signature=_bytes(wire.signatures[0].sig, f"{where}: signatures.0.sig"),
            )
        except CorruptError:
            raise
        except ConfigError as error:
            raise CorruptError(error.message, hint=_restored(where)) from None
        if found.to_bytes() != data:
            raise _corrupt(where, "the envelope is not in its canonical form: a byte was added or changed")
        return found

    def to_bytes(self) -> bytes:
        """Return the bytes of the envelope's file."""
        signature = {"keyid": self.key_id, "sig": _text(self.signature)}
        raw = {
            "payload": _text(self.payload),
            "payloadType": self.payload_type,
            "signatures": [signature],
        }
        return files.canonical(raw) + b"\n"

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature over the type and the payload is that of the key."""
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(self.signature, pae(self.payload_type, self.payload))
        except InvalidSignature:
            return False
        return True


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding of a payload: the bytes that are signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def sign(payload: bytes, key: Ed25519PrivateKey, *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """Return the envelope of a payload, signed with a key."""
    return Envelope(
        payload=payload,
        payload_type=payload_type,
        key_id=ed25519.key_id_of(key.public_key()),
        signature=key.sign(pae(payload_type, payload)),
    )


def _wire(data: bytes, where: str) -> _Wire:
    if len(data) > MOST_BYTES:
        raise _corrupt(where, f"an envelope of more than {MOST_BYTES >> 20} MB")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _corrupt(where, f"not UTF-8 text (byte {error.start})") from None
    wire = files.parse(_Wire, files.parse_json(text, where=where), where=where)
    if len(wire.signatures) != 1:
        raise _corrupt(where, f"an envelope has one signature, found {len(wire.signatures)}")
    if max(len(wire.payloadType), len(wire.signatures[0].keyid)) > _MOST_NAME:
        raise _corrupt(where, f"payloadType and keyid have at most {_MOST_NAME} characters")
    if len(_bytes(wire.signatures[0].sig, f"{where}: signatures.0.sig")) != _SIGNATURE_BYTES:
        raise _corrupt(where, f"signatures.0.sig is not a signature of {_SIGNATURE_BYTES} bytes")
    return wire


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _corrupt(where, "not base64") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _corrupt(where: str, what: str) -> CorruptError:
    return CorruptError(f"{where}: {what}", hint=_restored(where))


def _restored(where: str) -> str:
    return f"git checkout -- {where.partition(':')[0]}, or ask for the file again"
