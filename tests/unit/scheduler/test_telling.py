"""What a server posts into the outbox: a recovery only after a failure that was told."""

from __future__ import annotations

import datetime as dt

from job_servers import SIX, SetClock

from workbench.jobs.ledger import RunOrder, Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.scheduler.telling import OutboxTeller

HOUR = dt.timedelta(hours=1)


def ran(ledger, hour, outcome, *, attempt=1):
    """A run of the slot of an hour, which ended."""
    slot = Slot(job="answers", tenant="", at=SIX + hour * HOUR)
    order = RunOrder(slot=slot, trigger="retry" if attempt > 1 else "schedule", attempt=attempt)
    ledger.enqueue(order)
    run = ledger.take("server", runs=9, per_tenant=0)
    assert run.slot == slot
    ledger.claim(slot, run=run.run, version=1, input_digest="i")
    ledger.started(run.run, 1)
    ledger.finished(run.run, outcome)
    return ledger.run(run.run)


def test_a_failure_that_a_retry_follows_later_is_no_recovery_of_the_next_slot(tmp_path):
    clock = SetClock(SIX)
    ledger = SqliteLedger(tmp_path / "jobs.db", clock=clock)
    teller = OutboxTeller(ledger)
    failed = ran(ledger, 0, "failed")
    teller.run(failed, ["kept"], retried=True)
    clock.advance(3_600)
    teller.run(ran(ledger, 1, "published"), ["kept"], retried=False)
    assert ledger.notices() == []
    clock.advance(60)
    teller.run(ran(ledger, 0, "failed", attempt=2), ["kept"], retried=False)
    clock.advance(3_600)
    for hour in (2, 3):
        teller.run(ran(ledger, hour, "published"), ["kept"], retried=False)
        clock.advance(3_600)
    assert [item.event for item in ledger.notices()] == ["recovered", "failed"]
