"""Trust a public key: add it to pipelines/trust/keys.yaml for its principal and roles."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from workbench import files
from workbench.attestations import SigningKey, TrustedKey
from workbench.attestations.trust import read_public, trusted
from workbench.context import Clock, SystemClock, instant
from workbench.errors import ConfigError
from workbench.files import ed25519
from workbench.promotion.assured import mover


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOptions:
    """The key to trust (default: that of this process's principal), whose it is, its roles and its time."""

    pem: Path | None = None
    principal: str | None = None
    roles: tuple[str, ...] = ()
    lasts: dt.timedelta = dt.timedelta(days=365)
    clock: Clock = field(default_factory=SystemClock)


def trust_key(root: Path, options: TrustOptions) -> TrustedKey:
    """Add a key to the file of trusted keys from today on; return its entry.

    Raise ConfigError for a key that the file has, and for a file of a key without a principal.
    """
    if options.pem is None:
        own = SigningKey.load(root, options.principal or mover(root).principal.name)
        public, principal = own.key.public_key(), own.principal
    elif options.principal:
        public, principal = read_public(options.pem), options.principal
    else:
        raise ConfigError(
            f"whose key is {options.pem}?",
            hint=f"workbench evidence trust {options.pem} --principal NAME --role approver",
        )
    day = options.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    raw = {
        "id": ed25519.key_id_of(public),
        "public": ed25519.public_pem(public).decode(),
        "principal": principal,
        "roles": list(options.roles or ("promoter",)),
        "since": instant(day),
        "until": instant(day + options.lasts),
    }
    entry = files.parse(TrustedKey, raw, where="the key")
    trusted(root, entry)
    return entry
