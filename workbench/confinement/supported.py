"""What this machine can confine: files, network and signals."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from workbench.confinement import landlock, seccomp


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What a confined process of this machine is kept from, and what is `missing` for all of it.

    `files`: it opens the files of its `Allowed` only. `network`: it opens no connection. `signals`: it sends
    no signal to others.
    """

    files: bool
    network: bool
    signals: bool
    missing: tuple[str, ...]

    @property
    def level(self) -> Literal["full", "partial", "none"]:
        """The level of confinement: `none` is no confinement at all."""
        parts = (self.files, self.network, self.signals)
        return "full" if all(parts) else "partial" if any(parts) else "none"


def support() -> Support:
    """Return what this machine can confine; nothing is confined by asking."""
    version, filters = landlock.abi(), seccomp.available()
    missing = []
    if not version:
        missing.append("files: Landlock, which Linux has since 5.13 where its boot option `lsm` names it")
    if not filters:
        missing.append(f"network: a seccomp filter for {os.uname().sysname} on {os.uname().machine}")
    if version < landlock.SIGNALS_ABI:
        missing.append("signals: Landlock's ABI 6, which Linux has since 6.12")
    # Without seccomp a process could change the mode of each file, with Landlock too.
    return Support(
        files=version > 0 and filters,
        network=filters,
        signals=version >= landlock.SIGNALS_ABI and filters,
        missing=tuple(missing),
    )
