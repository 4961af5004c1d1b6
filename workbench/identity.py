"""Who is calling: a principal, and how surely we know it."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Literal

Assurance = Literal["asserted", "authenticated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A person or a job. `groups` are what access lists are checked against.

    `clearance` is the highest classification it may see: 0 is what everybody on the list may see.
    `keeper` may also keep memories: ingest, forget, hold, snapshot and the like, which act on all of a
    tenant whatever its access lists say. `assurance` is "asserted" when the name is only what the
    operating system says, and "authenticated" when an identity provider vouched for it.
    """

    name: str
    kind: Literal["user", "job"] = "user"
    groups: tuple[str, ...] = ("everyone",)
    clearance: int = 0
    assurance: Assurance = "asserted"
    admin: bool = False

    @property
    def trust(self) -> int:
        """The trust of what this principal writes: 2 when its name was vouched for, else 1."""
        return 2 if self.assurance == "authenticated" else 1

    @property
    def grants(self) -> tuple[str, ...]:
        """What access lists are matched with: the groups, and this principal alone."""
        return (*self.groups, personal(self.name))

    def __str__(self) -> str:
        name = self.name if self.kind == "job" else f"{self.kind}:{self.name}"
        return f"{name} ({self.assurance})"


def personal(name: str) -> str:
    """The entry of an access list that means one principal and nobody else."""
    return f"principal:{name}"


def from_system() -> Principal:
    """The operating system's user, marked as asserted: nobody has vouched for the name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in many containers
        name = "unknown"
    return Principal(name=name)


def of_job(name: str) -> Principal:
    """A job as its own principal, not the person or the timer that started it."""
    return Principal(name=f"job:{name}", kind="job")
