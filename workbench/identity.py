"""Who is calling: a principal, and how surely we know it."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Literal

Assurance = Literal["asserted", "authenticated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A person or a job. `groups` are what access lists are checked against.

    `assurance` is "asserted" when the name is only what the operating system says, and
    "authenticated" when an identity provider vouched for it.
    """

    name: str
    kind: Literal["user", "job"] = "user"
    groups: tuple[str, ...] = ("everyone",)
    assurance: Assurance = "asserted"

    def __str__(self) -> str:
        name = self.name if self.kind == "job" else f"{self.kind}:{self.name}"
        return f"{name} ({self.assurance})"


def from_system(*, groups: tuple[str, ...] = ("everyone",)) -> Principal:
    """The operating system's user, marked as asserted: nobody has vouched for the name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in many containers
        name = "unknown"
    return Principal(name=name, groups=groups)


def of_job(name: str, *, groups: tuple[str, ...]) -> Principal:
    """A job as its own principal, not the person or the timer that started it."""
    return Principal(name=f"job:{name}", kind="job", groups=groups)
