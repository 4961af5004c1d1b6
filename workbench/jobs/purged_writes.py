"""Refuse to run a slot whose log of memory writes was purged: the run would write again."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import RefusedError
from workbench.jobs import publishing
from workbench.jobs.ledger import Slot
from workbench.jobs.slots import iso
from workbench.layout import JOB_WRITES
from workbench.records import slot_writes


def check_not_purged(root: Path, slot: Slot) -> None:
    """Raise RefusedError for a slot without an output whose log of memory writes was purged.

    A slot with an output is not run unless somebody replaces it, which is the way to write again.
    """
    at = slot_writes.purged_at(root / JOB_WRITES / slot.key)
    if at is None or publishing.target_of(root, slot).exists():
        return
    tenant = f" --tenant {slot.tenant}" if slot.tenant else ""
    raise RefusedError(
        f"{slot.key} wrote into memories, and the log of these writes was purged at {at}:"
        " a run would write, forget and hold again",
        hint=f"workbench jobs run {slot.job}{tenant} --at {iso(slot.at)} --replace   # when it should",
    )


def write_again(root: Path, slot: Slot) -> None:
    """Let the runs of a slot write again whose log was purged."""
    slot_writes.begin_anew(root / JOB_WRITES / slot.key)
