"""Recover the calls that a killed process had in flight: their records, audit rows and reservations."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from workbench.audit import CallAudit, ChainOptions, chain_at
from workbench.audit.reading import audited
from workbench.budgets import declared
from workbench.budgets.books import InterruptedTransactionError, Settlement, write
from workbench.config import load_params
from workbench.errors import WorkbenchError
from workbench.layout import AUDIT, CALLS, IN_FLIGHT
from workbench.ports.budget import MEASURES, Account, Amounts, Reservation
from workbench.records.calls import stored_records
from workbench.records.in_flight import recover
from workbench.records.segments import CallLog
from workbench.types import JSON
from workbench.workspace.spending import open_store

#: Seconds after which what could not be recovered is tried again: a ledger may be away.
_AGAIN_S: Final = 30.0
_again_at: dict[Path, float] = {}
_log = logging.getLogger("workbench")


def recover_interrupted(home: Path) -> int:
    """Record the calls that killed processes had in flight, and return their number.

    `home` is the repository that keeps the state. Each call has one record, with the outcome `interrupted`
    unless it had ended, and one audit row, and what it reserved of budgets counts as spent, as that of an
    abandoned call: the target may have been asked. Calls of processes that live are not touched. What cannot
    be written now is written by a later call of this function.
    """
    if time.monotonic() < _again_at.get(home, 0.0):
        return 0
    return recover(home / IN_FLIGHT, partial(_kept, home))


def _kept(home: Path, calls: Sequence[JSON]) -> bool:
    """Return whether all of the calls are written. Each part is written once, also when it is tried again."""
    known = [call for call in calls if _is_known(call)]
    try:
        _record(home, known)
        _settle(home, [held for call in known if (held := _reservation(call)) is not None])
    except (WorkbenchError, OSError, InterruptedTransactionError) as error:
        _again_at[home] = time.monotonic() + _AGAIN_S
        _log.warning("calls of a killed process are not all recorded yet: %s", error)
        return False
    return True


def _is_known(call: JSON) -> bool:
    """Return whether a call has the form that this version writes."""
    record = call.get("record")
    return isinstance(record, dict) and all(
        isinstance(record.get(name), str) for name in ("trace_id", "at", "tenant", "operation")
    )


def _record(home: Path, calls: Sequence[JSON]) -> None:
    """Write the record and the audit row of each call that has none."""
    days = {call["record"]["trace_id"]: call["record"]["at"][:10] for call in calls}
    stored = stored_records(home / CALLS, days)
    rows = audited(home / AUDIT, {trace: day for trace, day in days.items() if trace in stored})
    log, audit = CallLog(home / CALLS), CallAudit(chain_at(home, _options(home)))
    for call in calls:
        record = call["record"]
        trace = record["trace_id"]
        if trace not in stored:
            log.append(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
        if trace not in rows:
            audit.interrupted(stored.get(trace) or record, str(call.get("subject_uid", "")))


def _options(home: Path) -> ChainOptions:
    with contextlib.suppress(WorkbenchError):  # params.yaml is not valid now
        return ChainOptions(fsync=load_params(home).audit.fsync)
    return ChainOptions()


def _reservation(call: JSON) -> Reservation | None:
    """Return what a call held of budgets, None if it held nothing."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        held = call["reservation"]
        none = (None,) * len(MEASURES)
        accounts = tuple(Account(budget=name, key=key, limits=none) for name, key in held["accounts"])
        return Reservation(id=held["id"], accounts=accounts, amounts=Amounts(*map(int, held["amounts"])))
    return None


def _settle(home: Path, held: Sequence[Reservation]) -> None:
    """Count reservations as spent; those that were settled are not counted again."""
    if not held:
        return
    store = open_store(home, declared.read(home))
    try:
        with store.transaction() as books:
            write(books, [Settlement(reservation=each, spent=each.amounts) for each in held], [])
        store.sync()
    finally:
        store.close()
