"""API keys of the gateway: what one permits, what is kept of it, and its secret, which is never kept."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.config.forms import check_tenant
from workbench.context import is_instant
from workbench.errors import ConfigError
from workbench.identity import KeyBudget
from workbench.types import MOST_CLASSIFIED

#: What a key begins with; scanners of secrets know it.
PREFIX: Final = "wbk_"
_FORM: Final = re.compile(r"wbk_([a-z]{12})_[0-9a-f]{64}")
#: Names of people and jobs, as a token may state them.
_MOST_NAME: Final = 250
#: Most of a budget, as that of params.yaml.
_MOST_BUDGET: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRights:
    """Whom a key authenticates, and what it is limited to; None is no limit.

    `groups` and `clearance` None are those of the use case. Without `admin` its bearer is no admin, whatever
    `admins` of a use case says.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    principal: str
    kind: Literal["user", "job"] = "user"
    tenant: str = ""
    use_cases: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    clearance: int | None = None
    purposes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    memories: tuple[str, ...] | None = None
    admin: bool = False
    budget: KeyBudget | None = None

    def check(self) -> None:
        """Raise ConfigError for a name, a clearance or a budget that no key can have."""
        if self.tenant:
            check_tenant(self.tenant, where="--tenant: ")
        bare = self.principal.removeprefix("job:") if self.kind == "job" else self.principal
        named = [bare, *(self.groups or ()), *(self.purposes or ()), *(self.models or ())]
        for name in [*named, *(self.use_cases or ()), *(self.memories or ())]:
            _check_name(name)
        if self.clearance is not None and not 0 <= self.clearance <= MOST_CLASSIFIED:
            raise ConfigError(f"--clearance must be from 0 to {MOST_CLASSIFIED}, found {self.clearance}")
        if self.budget is not None:
            _check_budget(self.budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key: `digest` is the SHA-256 digest of its secret, from which none can make the key.

    `issued`, `expires`, `revoked` and `used` are instants, "" for never; `used` is at most an hour old.
    `replaced_by` is the id of the key that a rotation made.
    """

    id: str
    digest: str = field(repr=False)
    rights: KeyRights
    issued: str
    issued_by: str = ""
    expires: str = ""
    revoked: str = ""
    used: str = ""
    replaced_by: str = ""

    def state(self, now: str) -> Literal["active", "expired", "revoked"]:
        """Return the state of the key at an instant."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "active"

    def to_json(self, now: str) -> dict[str, Any]:
        """Return the key for a list: everything but the digest."""
        rights = {name: value for name, value in dataclasses.asdict(self.rights).items() if value is not None}
        return {
            "id": self.id, "state": self.state(now), **rights, "issued": self.issued,
            "issued_by": self.issued_by, "expires": self.expires or None, "revoked": self.revoked or None,
            "used": self.used or None, "replaced_by": self.replaced_by or None,
        }  # fmt: skip

    def to_row(self) -> tuple[str, ...]:
        """Return the texts that a store keeps, in the order of the fields."""
        rights = files.canonical(dataclasses.asdict(self.rights)).decode()
        return (
            self.id, self.digest, rights, self.issued, self.issued_by, self.expires, self.revoked, self.used,
            self.replaced_by,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: tuple[str, ...], *, where: str) -> ApiKey:
        """Return the key that `to_row` wrote; raise ConfigError, with `where`, for another row."""
        names = [item.name for item in dataclasses.fields(cls)]
        values: dict[str, Any] = dict(zip(names, row, strict=True))
        at = f"{where}: key {files.shortened(str(row[0]))}"
        times = [values[name] for name in ("issued", "expires", "revoked", "used") if values[name]]
        if not re.fullmatch(r"[0-9a-f]{64}", values["digest"]) or not all(map(is_instant, times)):
            raise ConfigError(f"{at} is damaged", hint=f"restore {where} from a backup")
        raw = files.parse_json(values["rights"], where=at)
        return cls(**{**values, "rights": files.parse(KeyRights, raw, where=at)})


def new_secret() -> tuple[str, str]:
    """Return the id and the secret of a new key, which has 256 random bits.

    The id has letters only, so that no detector takes it for a number of a person.
    """
    name = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
    return name, f"{PREFIX}{name}_{secrets.token_hex(32)}"


def key_id(secret: str) -> str | None:
    """Return the id that a key names, or None for a text that is no key."""
    found = _FORM.fullmatch(secret)
    return found and found[1]


def digest_of(secret: str) -> str:
    """Return what is kept of a key instead of its secret.

    A plain hash: nobody guesses one of 2^256 secrets, so that a slow hash would only slow requests down.
    """
    return hashlib.sha256(b"workbench api key\0" + secret.encode()).hexdigest()


def _check_name(name: str) -> None:
    odd = not name.strip() or name != name.strip() or not name.isprintable() or len(name) > _MOST_NAME
    if odd or name.startswith(("principal:", "job:", "ci:")):
        raise ConfigError(
            f"{files.shortened(name)!r} cannot be a name in the scope of a key",
            hint="use up to 250 printable characters; the workbench itself gives principal:, job: and ci:",
        )


def _check_budget(budget: KeyBudget) -> None:
    limits = {"usd": budget.usd, "tokens": budget.tokens, "calls": budget.calls}
    if all(limit is None for limit in limits.values()):
        raise ConfigError("the budget of a key has no limit", hint="add --usd, --tokens or --calls")
    for name, limit in limits.items():
        if limit is not None and not 0 < limit <= _MOST_BUDGET:
            raise ConfigError(f"--{name} must be above 0 and at most {_MOST_BUDGET:g}, found {limit:g}")
