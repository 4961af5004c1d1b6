"""Hosts of a job ledger whose processes a test starts and ends, and what they ask it."""

from __future__ import annotations

import datetime as dt
import os

from workbench.jobs.ledger import Slot

SLOT = Slot(job="answers", tenant="acme", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))


class FakeHost:
    """A host whose processes live and end as told; a number of this process's own is always `me`."""

    def __init__(self, name="here"):
        self.name = name
        self.processes = {os.getpid(): "me"}

    def process_started_at(self, pid):
        return self.processes.get(pid)


def take(ledger, server="s1", runs=99, per_tenant=0):
    return ledger.take(server, runs=runs, per_tenant=per_tenant)


def claimed(ledger, run="r1", of=SLOT, **given):
    return ledger.claim(of, run=run, version=1, input_digest="i", **given)
