"""Runs of the ledger as values, without a database: of a daily job, of many slots, of each outcome."""

from __future__ import annotations

import dataclasses
import datetime as dt

from workbench.jobs.ledger import JobRun, Slot

NOW = dt.datetime(2026, 11, 30, 16, tzinfo=dt.UTC)
DUE = dt.time(6, tzinfo=dt.UTC)


def a_run(at, outcome="published", *, job="answers", tenant="", took=40.0, waited=1.0, **rest):
    """The run of a slot, which began `waited` seconds after its time; "running" and "lost" are states."""
    queued = at + dt.timedelta(seconds=waited)
    ended = queued + dt.timedelta(seconds=took)
    state = outcome if outcome in {"waiting", "queued", "running", "lost"} else "finished"
    values = {
        "run": f"run-{tenant}{at:%Y%m%d%H%M%S}-{waited:g}", "slot": Slot(job=job, tenant=tenant, at=at),
        "version": 7, "input_digest": "i", "state": state, "outcome": outcome if state == "finished" else "",
        "queued_at": queued, "started_at": queued, "finished_at": ended if state == "finished" else None,
        "host": "here", "pid": 1, "process_started_at": "", "lease_until": ended, "rows": 100,
        "quarantined": 2, "cost_usd": 0.02, "folder": "", "detail": "",
    }  # fmt: skip
    known = {item.name for item in dataclasses.fields(JobRun)}
    return JobRun(**{name: value for name, value in {**values, **rest}.items() if name in known})


def daily(*outcomes, last=NOW, **rest):
    """Runs of the last days, newest first as in the ledger; the last outcome is of today's slot."""
    days = [last.date() - dt.timedelta(days=back) for back in range(len(outcomes))]
    return [
        a_run(dt.datetime.combine(day, DUE), outcome, **rest)
        for day, outcome in zip(days, reversed(outcomes), strict=True)
    ]


def many(count, *, every=dt.timedelta(minutes=20), last=NOW, **rest):
    """So many runs, newest first: one of 50 failed, one of 70 is late."""
    first = last.replace(second=0, microsecond=0)
    return [
        a_run(
            first - every * n, "failed" if n % 50 == 7 else "published",
            took=4000.0 if n % 70 == 9 else 20 + n % 30, **rest,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip
