"""The clock of a rehearsal: where it begins, how fast it runs, and that nothing else changes."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from workbench import rehearsal
from workbench.context import SystemClock

START = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)


@pytest.fixture
def machine(monkeypatch):
    """The machine's clock, which a test moves."""
    now = [1_000_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setenv(rehearsal.VARIABLE, "")
    return now


def test_it_begins_at_its_time_and_runs_at_its_speed(machine):
    rehearsal.begin(START, 3600.0)
    assert SystemClock().now() == START
    machine[0] += 2
    assert SystemClock().now() == START + dt.timedelta(hours=2)


def test_a_change_of_speed_goes_on_from_the_time_that_is_shown(machine):
    rehearsal.begin(START, 3600.0)
    machine[0] += 1
    rehearsal.begin(SystemClock().now(), 1.0)
    machine[0] += 30
    assert SystemClock().now() == START + dt.timedelta(hours=1, seconds=30)


def test_without_a_rehearsal_the_clock_is_the_machines(machine):
    assert rehearsal.time_now() is None
    assert abs((SystemClock().now() - dt.datetime.now(dt.UTC)).total_seconds()) < 5
