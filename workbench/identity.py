"""Principals: the names and rights of callers, and how each name is assured."""

from __future__ import annotations

import os
import pwd
import warnings
from dataclasses import InitVar, dataclass
from typing import Literal

Assurance = Literal["asserted", "authenticated"]
GrantKind = Literal["", "key", "oidc", "owner", "run"]
#: How far the caller's process is kept from files and network; "" where nothing is known of it.
Confinement = Literal["", "none", "partial", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBudget:
    """The most that the calls of one API key may take, in all or in each `day` or `month` of UTC."""

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    per: Literal["", "day", "month"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantScope:
    """How a caller was let in, and what its calls are limited to; None is no limit.

    `kind` is "" in the process that asks for itself, and `api_key` the id of an API key. `models` holds names
    and references of model cards, `memories` names of memories. `use_cases` are those whose records an admin
    may read.
    """

    kind: GrantKind = ""
    api_key: str = ""
    confinement: Confinement = ""
    purposes: frozenset[str] | None = None
    models: frozenset[str] | None = None
    memories: frozenset[str] | None = None
    use_cases: frozenset[str] | None = None
    budget: KeyBudget | None = None

    def permits(self, port: str, target: str) -> bool:
        """Return whether a "model" or a "memory", by its name or `name@version`, is within the scope."""
        named = {"model": self.models, "memory": self.memories}.get(port)
        return named is None or target in named or target.partition("@")[0] in named


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A person or a job. Access lists are checked against its `groups`.

    `clearance` is the highest classification that the principal may see; 0 is the lowest. `admin` allows the
    verbs that act on all of a tenant's memory regardless of access lists, such as ingest, forget, hold and
    snapshot; `keeper` is its former name. `assurance` is "asserted" when the operating system names the
    principal, and "authenticated" when an identity provider does.
    """

    name: str
    kind: Literal["user", "job"] = "user"
    groups: tuple[str, ...] = ("everyone",)
    clearance: int = 0
    assurance: Assurance = "asserted"
    admin: bool = False
    keeper: InitVar[bool | None] = None

    def __post_init__(self, keeper: bool | None) -> None:
        if keeper is not None:
            hint = "Principal(keeper=…) is the former name of Principal(admin=…): write admin"
            warnings.warn(hint, DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "admin", keeper)

    @property
    def trust(self) -> int:
        """The trust of items that this principal writes: 2 with an authenticated name, else 1."""
        return 2 if self.assurance == "authenticated" else 1

    @property
    def grants(self) -> tuple[str, ...]:
        """The entries of access lists that match this principal: its groups and itself."""
        return (*self.groups, personal(self.name))

    def __str__(self) -> str:
        name = self.name if self.kind == "job" else f"{self.kind}:{self.name}"
        return f"{name} ({self.assurance})"


def beyond(wanted: Principal, own: Principal) -> tuple[str, ...]:
    """Return each right that `wanted` has and `own` lacks, in words; nothing for the same rights or fewer.

    An admin may take another name, because an admin acts on its items anyway; such a name is asserted. No
    method of Principal, which a class of its own could override.
    """
    if not is_plain(wanted):
        return ("values that are not plain",)  # a class of its own could answer comparisons as it likes
    more = [group for group in wanted.groups if group not in own.groups]
    renamed = (wanted.name, wanted.kind) != (own.name, own.kind)
    claimed = wanted.assurance != "asserted" and (renamed or wanted.assurance != own.assurance)
    found = {
        f"groups {', '.join(more)}": bool(more),
        f"clearance {wanted.clearance}": wanted.clearance > own.clearance,
        "admin": wanted.admin and not own.admin,
        f"name {wanted.name}": renamed and not (own.admin and wanted.kind == own.kind == "user"),
        f"assurance {wanted.assurance}": claimed,
    }
    return tuple(what for what, exceeds in found.items() if exceeds)


def is_plain(found: Principal) -> bool:
    """Return whether a principal and its values are of plain classes, whose comparisons can be trusted."""
    if (type(found), type(found.groups)) != (Principal, tuple):
        return False
    texts = (found.name, found.kind, found.assurance, *found.groups)
    return (type(found.clearance), type(found.admin)) == (int, bool) and all(type(t) is str for t in texts)


def personal(name: str) -> str:
    """Return the entry of an access list that matches only this principal."""
    return f"principal:{name}"


def from_system() -> Principal:
    """Return the user of this process as an asserted principal.

    The name is the system's own for the user id, or "uid-1000" when it has none. Environment variables are
    ignored, because the caller of the process chooses them.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in many containers
        name = f"uid-{os.getuid()}"
    return Principal(name=name)


def of_job(name: str) -> Principal:
    """Return the principal of a job, regardless of who starts it."""
    return Principal(name=f"job:{name}", kind="job")
