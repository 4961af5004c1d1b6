"""Principals: who is calling, with which rights, and who vouches for the name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Assurance = Literal["asserted", "authenticated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A person or a job. `groups` are what access lists are checked against.

    `clearance` is the highest classification it may see: 0 is what everybody on the list may see.
    `admin` allows the verbs that act on all of a tenant's memory whatever the access lists say: ingest,
    forget, hold, snapshot and the like. `assurance` is "asserted" when only the operating system names
    the principal, and "authenticated" when an identity provider does.
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
        """The entries of access lists that this principal matches: its groups, and itself."""
        return (*self.groups, personal(self.name))

    def __str__(self) -> str:
        name = self.name if self.kind == "job" else f"{self.kind}:{self.name}"
        return f"{name} ({self.assurance})"


def personal(name: str) -> str:
    """The entry of an access list that means this one principal."""
    return f"principal:{name}"


def from_system() -> Principal:
    """The user of this process, marked as asserted: nobody has vouched for the name.

    The name is the user id's in the system's own table, "uid-1000" without an entry. Environment
    variables do not count: whoever starts the process chooses them.
    """
    try:
        import pwd
    except ImportError:  # a system without user ids
        import getpass

        return Principal(name=getpass.getuser())
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many containers
        name = f"uid-{os.getuid()}"
    return Principal(name=name)


def of_job(name: str) -> Principal:
    """The principal of a job, whoever or whatever timer starts it."""
    return Principal(name=f"job:{name}", kind="job")
