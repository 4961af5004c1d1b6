"""Say how far this machine confines the kernels of judged runs and jobs."""

from __future__ import annotations

from workbench.confinement.supported import support
from workbench.diagnostics.findings import Finding


def kernels() -> Finding:
    """Return the level of confinement, with each part that is missing."""
    what, machine = "confined kernels", support()
    if not machine.missing:
        return Finding(what=what, state="ok", detail=f"{machine.level}: files, network and signals")
    return Finding(
        what=what,
        state="missing",
        detail=f"{machine.level}: this machine lacks {'; '.join(machine.missing)}",
        fix="run judged runs and jobs on Linux 6.12 or newer   # docs/confinement.md",
        needed=False,
    )
