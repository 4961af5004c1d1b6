"""The ledger of jobs: slots, runs, pauses, withdrawals, servers and notices, in SQLite or PostgreSQL."""

from workbench.jobs.ledger.damage import DamagedRow, DamagedRowError
from workbench.jobs.ledger.host import Host
from workbench.jobs.ledger.opening import open_ledger
from workbench.jobs.ledger.port import (
    JobLedger,
    Pause,
    PendingDelivery,
    PostedNotice,
    ServerRow,
    Withdrawal,
)
from workbench.jobs.ledger.runs import JobRun, Outcome, Role, RunEnd, RunOrder, Slot, State, Trigger

__all__ = [
    "DamagedRow",
    "DamagedRowError",
    "Host",
    "JobLedger",
    "JobRun",
    "Outcome",
    "Pause",
    "PendingDelivery",
    "PostedNotice",
    "Role",
    "RunEnd",
    "RunOrder",
    "ServerRow",
    "Slot",
    "State",
    "Trigger",
    "Withdrawal",
    "open_ledger",
]
