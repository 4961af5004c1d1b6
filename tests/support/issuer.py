"""An issuer of tokens in a test: its keys, its JWKS document and tokens with any claims and headers."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from workbench.config import IdentitySettings

ISSUER, AUDIENCE, URL = "https://login.example.com", "workbench", "https://login.example.com/jwks"
NOW = dt.datetime(2026, 11, 30, 9, 0, tzinfo=dt.UTC)


@functools.cache
def rsa_key(bits: int = 2048):
    """A key of RSA; a test run makes one of each size."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Issuer:
    """Signs tokens by ES256 unless told otherwise. `rotate` replaces its key by one with another id."""

    def __init__(self, kid: str = "k1", *, algorithm: str = "ES256") -> None:
        self.rotate(kid, algorithm=algorithm)

    def rotate(self, kid: str, *, algorithm: str = "ES256") -> None:
        """Replace the key."""
        made = {"E": lambda: ec.generate_private_key(ec.SECP256R1()), "R": rsa_key, "P": rsa_key}
        self.key = ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else made[algorithm[0]]()
        self.kid, self.algorithm = kid, algorithm

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key."""
        known = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(known.to_jwk(self.key.public_key()))
        public = {k: v for k, v in public.items() if k != "key_ops"}
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm, **changes}

    def jwks(self, *others: dict[str, Any]) -> bytes:
        """The document of keys."""
        return json.dumps({"keys": [*others, self.jwk()]}).encode()

    def token(
        self, *, header: dict[str, Any] | None = None, now: dt.datetime | None = None, **claims: Any
    ) -> str:
        """A token that is valid for ten minutes from now; a claim None is left out."""
        second = int((now or dt.datetime.now(dt.UTC)).timestamp())
        stated = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ann@acme.example", "iat": second, "exp": second + 600,
            **claims,
        }  # fmt: skip
        stated = {name: value for name, value in stated.items() if value is not None}
        stated_header = {"kid": self.kid, **(header or {})}
        headers = {name: value for name, value in stated_header.items() if value is not None}
        return jwt.encode(stated, self.key, self.algorithm, headers=headers)


def settings(**changes: Any) -> IdentitySettings:
    """The settings that trust the issuer."""
    return IdentitySettings(
        **{"provider": "oidc", "issuer": ISSUER, "audience": AUDIENCE, "keys": URL, **changes}
    )


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def certificate(folder: Path) -> Path:
    """Write the certificate of a server `localhost` with its key, and the certificate alone as cert.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    day, now = dt.timedelta(days=1), dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "cert.pem").write_bytes(made)
    (folder / "chain.pem").write_bytes(private + made)
    return folder / "chain.pem"
