"""The keys whose statements count, as pipelines/trust/keys.yaml lists them, and the check of an envelope.

format: 1
keys:
  - id: 5f0c…                      # openssl pkey -pubin -in public.pem -outform DER | sha256sum
    public: |
      -----BEGIN PUBLIC KEY-----
      …
    principal: ada
    roles: [promoter, approver]
    from: 2026-11-30T00:00:00Z
    until: 2027-11-30T00:00:00Z
    revoked_at: 2027-03-01T09:00:00Z    # left out while it is not revoked
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from workbench import files, registry
from workbench.attestations.dsse import PAYLOAD_TYPE, Envelope
from workbench.attestations.statement import Statement
from workbench.context import instant, is_instant
from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError
from workbench.files import ed25519, folders

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: The file of trusted keys, relative to the repository.
KEYS: Final = Path("pipelines/trust/keys.yaml")
#: A promoter signs what a promotion measured, an approver approves, and a scheduler withdraws by itself.
Role = Literal["promoter", "approver", "scheduler"]
_MOST_BYTES, _MOST_KEYS, _MOST_NAME = 4 << 20, 10_000, 200
_HEAD = (
    "# The keys whose statements count. `workbench evidence trust` adds one; see docs/evidence.md.\n"
    "format: 1\n"
    "keys:\n"
)
_HINT = f"correct it, or: git checkout -- {KEYS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key, its principal, the roles in which it signs, and the time in which it counts.

    The times are instants such as 2026-11-30T00:00:00Z: `since` is the first that counts, `until` the first
    that no longer does. A key that is revoked signs nothing from `revoked_at` on.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    id: str
    public: str
    principal: str
    roles: tuple[Role, ...]
    since: str
    until: str
    revoked_at: str = ""

    def key(self) -> Ed25519PublicKey:
        """Return the public key; ConfigError for a text that holds none."""
        return ed25519.public_key(self.public.encode(), where=f"{KEYS}: {self.id[:16]}", hint=_HINT)

    def check(self, at: dt.datetime, role: Role) -> None:
        """Raise RefusedError unless the key signs in this role at this time; `reason` is one word for why."""
        who, when = f"the key {self.id[:16]} of {person(self.principal)}", instant(at)
        if role not in self.roles:
            raise _refused(f"{who} signs as {', '.join(self.roles)}, not as {role}", "role")
        if self.revoked_at and when >= self.revoked_at:
            raise _refused(f"{who} was revoked at {self.revoked_at}, before {when}", "revoked")
        if when < self.since:
            raise _refused(f"{who} counts from {self.since}, after {when}", "early")
        if when >= self.until:
            raise _refused(f"{who} counted until {self.until}, before {when}", "expired")

    def to_yaml(self) -> str:
        """Return the entry of the file of trusted keys."""
        lines = [
            f"  - id: {self.id}",
            "    public: |",
            *(f"      {line}" for line in self.public.strip().splitlines()),
            f"    principal: {json.dumps(self.principal, ensure_ascii=False)}",
            f"    roles: [{', '.join(self.roles)}]",
            f"    from: {self.since}",
            f"    until: {self.until}",
            *([f"    revoked_at: {self.revoked_at}"] if self.revoked_at else []),
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeysPage:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: Literal[1]
    keys: tuple[TrustedKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The trusted keys by their ids."""

    keys: Mapping[str, TrustedKey]

    @classmethod
    def load(cls, root: Path) -> Trust:
        """Return the keys that a repository trusts: none without the file; ConfigError for a wrong one."""
        try:
            data = files.read_bytes(root / KEYS, limit=_MOST_BYTES)
        except FileNotFoundError:
            return cls(keys={})
        return cls.parse(data, where=str(KEYS))

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Trust:
        """Return the keys in the bytes of a file; ConfigError names `where` and the key."""
        try:
            raw = files.parse_yaml(data.decode(), where=where, hint=_HINT)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where} is not UTF-8 text (byte {error.start})", hint=_HINT) from None
        entries = raw.get("keys")
        if isinstance(entries, list):
            raw = {**raw, "keys": [_renamed(entry, where) for entry in entries]}
        page = files.parse(_KeysPage, raw, where=where, hint=_HINT)
        _check(page.keys, where)
        return cls(keys={item.id: item for item in page.keys})

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return "".join([_HEAD, *(item.to_yaml() for item in self.keys.values())]).encode()

    def of(self, envelope: Envelope) -> TrustedKey:
        """Return the key that an envelope names and that signed it.

        Raise RefusedError for an unknown key and for a signature that is not the key's.
        """
        found = self.keys.get(envelope.key_id)
        if found is None:
            raise _refused(
                f"signed by the key {files.shortened(envelope.key_id)[:16]}, which is not trusted", "unknown"
            )
        if not envelope.is_signed_by(found.key()):
            whose = f"the key {found.id[:16]} of {person(found.principal)}"
            raise _refused(
                f"the signature is not that of {whose}: the envelope was changed or forged", "forged"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A statement whose signature is verified, with the principal and the id of the key that signed it."""

    statement: Statement
    principal: str
    key_id: str


def verified(envelope: Envelope, trust: Trust, at: dt.datetime, role: Role) -> Verified:
    """Return the statement in an envelope that a key trusted in this role at this time signed.

    Raise CorruptError for a payload that is no in-toto statement. Raise RefusedError for an unknown key,
    another signature, another role and a key that is expired or revoked; its `reason` is one word for why.
    """
    key = trust.of(envelope)
    key.check(at, role)
    if envelope.payload_type != PAYLOAD_TYPE:
        found = files.shortened(envelope.payload_type)
        raise CorruptError(f"the envelope has the payloadType {found!r}, and {PAYLOAD_TYPE!r} is expected")
    statement = Statement.parse(envelope.payload, where="statement")
    return Verified(statement=statement, principal=key.principal, key_id=key.id)


def trusted(root: Path, entry: TrustedKey) -> Path:
    """Add a key to the file of trusted keys; return its path. ConfigError when the file has the key."""
    with registry.locked((root / KEYS).parent):
        trust = Trust.load(root)
        if entry.id in trust.keys:
            roles = ", ".join(dict.fromkeys((*trust.keys[entry.id].roles, *entry.roles)))
            hint = f"write roles: [{roles}] into its entry in {KEYS}, and commit the file"
            raise ConfigError(f"{KEYS} has the key {entry.id[:16]} already", hint=hint)
        _check([*trust.keys.values(), entry], str(KEYS))
        folders.purge(root / KEYS)
        files.write_atomic(root / KEYS, Trust(keys={**trust.keys, entry.id: entry}).to_bytes())
    return root / KEYS


def read_public(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file; NotFoundError without the file, ConfigError for other text."""
    try:
        data = files.read_bytes(path, limit=1 << 16)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint="workbench evidence key > public.pem") from None
    return ed25519.public_key(data, where=str(path), hint="workbench evidence key > public.pem")


def person(principal: str) -> str:
    """Return how a principal is shown: an address without its domain, because commands mask addresses."""
    return principal.partition("@")[0] or principal


def _renamed(entry: Any, where: str) -> Any:
    """Return an entry with its key `from`, a word of Python, under the name of the field, and its times."""
    if not isinstance(entry, dict):
        return entry
    if "since" in entry:
        raise ConfigError(f"{where}: unknown key 'since' (did you mean from?)", hint=_HINT)
    if "from" not in entry:
        raise ConfigError(f"{where}: missing key 'from'", hint=_HINT)
    return {"since" if name == "from" else name: _as_instant(value) for name, value in entry.items()}


def _as_instant(value: Any) -> Any:
    """Return a time that YAML reads as one in the form of instants, and any other value as it is."""
    timed = isinstance(value, dt.datetime) and value.tzinfo is not None and not value.microsecond
    try:
        return instant(value) if timed else value
    except OverflowError:  # the offset leads out of the years 1 to 9999
        return str(value)


def _check(keys: Iterable[TrustedKey], where: str) -> None:
    seen: set[str] = set()
    for number, item in enumerate(keys):
        place = f"{where}: keys.{number}"
        actual = ed25519.key_id_of(ed25519.public_key(item.public.encode(), where=place, hint=_HINT))
        if item.id != actual:
            raise ConfigError(f"{place}: id is not that of its public key, which is {actual}", hint=_HINT)
        if item.id in seen or len(seen) >= _MOST_KEYS:
            raise ConfigError(f"{place}: the key {item.id[:16]} is there twice", hint=_HINT)
        name = item.principal
        if not name.strip() or not name.isprintable() or len(name) > _MOST_NAME or not item.roles:
            raise ConfigError(f"{place}: a key has a printable principal and at least one role", hint=_HINT)
        times = {"from": item.since, "until": item.until, "revoked_at": item.revoked_at or item.since}
        for name, text in times.items():
            if not is_instant(text):
                found = files.shortened(text)
                raise ConfigError(
                    f"{place}.{name}: {found!r} is not a time like 2026-11-30T00:00:00Z", hint=_HINT
                )
        if item.until <= item.since:
            raise ConfigError(f"{place}: until {item.until} is not after from {item.since}", hint=_HINT)
        seen.add(item.id)


def _refused(what: str, reason: str) -> RefusedError:
    error = RefusedError(what, hint=f"the trusted keys are in {KEYS}; this machine's: workbench evidence key")
    error.reason = reason
    return error
