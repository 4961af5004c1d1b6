"""Which slot a run is for, and which file is its input."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_jobs import a_spec

from workbench.config import Timing
from workbench.errors import ConfigError
from workbench.jobs import slots
from workbench.jobs.slots import RunRequest
from workbench.testing.fakes import FakeClock

MOMENTS = st.integers(1_735_689_600, 1_830_297_599).map(lambda n: dt.datetime.fromtimestamp(n, dt.UTC))
TWICE = Timing(cron="30 6,18 * * 1-5", timezone="Europe/Berlin")


def slot(at=None, *, now="2026-11-24T07:15:30.250000+00:00", schedule=None, tenant=None):
    spec = a_spec(schedule=schedule)
    found = slots.slot_of(spec, RunRequest(reference="answers", at=at, tenant=tenant, clock=FakeClock(now)))
    return found.at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("given", "at"),
    [
        # Without a time: the last scheduled one, else the day.
        ({}, "2026-11-24T00:00:00Z"),
        ({"schedule": TWICE}, "2026-11-24T05:30:00Z"),
        ({"schedule": TWICE, "now": "2026-11-24T05:30:00Z"}, "2026-11-24T05:30:00Z"),
        ({"schedule": TWICE, "now": "2026-11-24T05:29:59Z"}, "2026-11-23T17:30:00Z"),
        ({"schedule": TWICE, "now": "2026-11-22T12:00:00Z"}, "2026-11-20T17:30:00Z"),
        # A day: the last scheduled time of that day in its zone, else its beginning.
        ({"at": "2026-11-20"}, "2026-11-20T00:00:00Z"),
        ({"at": "2026-11-20", "schedule": TWICE}, "2026-11-20T17:30:00Z"),
        ({"at": "2026-07-01", "schedule": TWICE}, "2026-07-01T16:30:00Z"),
        ({"at": "2026-11-22", "schedule": TWICE}, "2026-11-22T00:00:00Z"),
        # A time: that time, in UTC, scheduled or not.
        ({"at": "2026-11-20T06:00Z", "schedule": TWICE}, "2026-11-20T06:00:00Z"),
        ({"at": "2026-11-20T06:00:00+09:00"}, "2026-11-19T21:00:00Z"),
    ],
)
def test_the_slot_is_the_time_that_was_named_else_the_last_due_else_the_day(given, at):
    assert slot(**given) == at


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("soon", "--at 'soon' is not a time"),
        ("2026-13-01", "is not a time"),
        ("2026-11-31", "is not a time"),
        ("", "is not a time"),
        ("2026-11-24T06:00", "has no time zone"),
        ("2026-11-24T06:00:00.5Z", "not a time in whole seconds"),
    ],
)
def test_a_time_that_is_none_or_has_no_zone_is_refused_with_the_form_it_has(at, said):
    with pytest.raises(ConfigError, match=said) as caught:
        slot(at)
    assert "2026-11-24" in caught.value.hint


def test_a_time_without_a_zone_is_answered_with_the_same_time_in_utc():
    with pytest.raises(ConfigError) as caught:
        slot("2026-11-24T06:00")
    assert slot(caught.value.hint.split()[1]) == "2026-11-24T06:00:00Z"


def test_a_clock_that_is_set_back_gives_an_earlier_slot_and_never_a_later_one():
    clock, spec = FakeClock("2026-11-24T05:30:00Z"), a_spec(schedule=TWICE)
    seen = []
    for step in (0, -1, -3600, 3601, 0):
        clock.advance(step)
        found = slots.slot_of(spec, RunRequest(reference="answers", clock=clock))
        assert found.at <= clock.now()
        seen.append(found.key)
    assert seen[0] == seen[3] == seen[4] == "answers/all/20261124T053000Z"
    assert seen[1] == seen[2] == "answers/all/20261123T173000Z"


@given(now=MOMENTS, zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]))
def test_every_moment_of_a_day_has_a_slot_that_is_past_and_named_by_its_own_time(now, zone):
    schedule = Timing(cron="0 6 * * *", timezone=zone)
    at = slot(now=now.isoformat(), schedule=schedule)
    assert dt.timedelta() <= now - dt.datetime.fromisoformat(at) < dt.timedelta(hours=26)
    assert slot(at, schedule=schedule) == slot(now=at, schedule=schedule) == at


def test_a_tenants_slot_is_another_one():
    clock = FakeClock("2026-11-24T07:00:00Z")
    both = [
        slots.slot_of(a_spec(), RunRequest(reference="answers", tenant=t, clock=clock))
        for t in (None, "acme")
    ]
    assert [one.key for one in both] == ["answers/all/20261124T060000Z", "answers/acme/20261124T060000Z"]


# -- the input


def place(root, template, at, zone="UTC"):
    spec = a_spec(input=template, schedule=Timing(cron="0 6 * * *", timezone=zone))
    task = RunRequest(reference="answers", at=at)
    return slots.input_of(root, spec, task, slots.slot_of(spec, task)).relative_to(root).as_posix()


@pytest.mark.parametrize(
    ("template", "at", "zone", "name"),
    [
        ("in/{date}.jsonl", "2026-11-24", "UTC", "in/2026-11-24.jsonl"),
        ("in/{date}T{time}.jsonl", "2026-11-24", "UTC", "in/2026-11-24T0600.jsonl"),
        ("in/{date}T{time}.jsonl", "2026-11-24", "Asia/Tokyo", "in/2026-11-24T0600.jsonl"),
        ("in/{date}T{time}.jsonl", "2026-11-23T21:30Z", "Asia/Tokyo", "in/2026-11-24T0630.jsonl"),
        ("in/all.jsonl", "2026-11-24", "UTC", "in/all.jsonl"),
    ],
)
def test_a_jobs_own_input_is_named_by_the_day_and_time_of_its_schedules_clock(
    tmp_path, template, at, zone, name
):
    assert place(tmp_path, template, at, zone) == name


def test_a_job_that_names_no_input_asks_for_one(tmp_path):
    spec, task = a_spec(input=None), RunRequest(reference="answers", clock=FakeClock())
    with pytest.raises(ConfigError, match=r"has no input in params\.yaml") as caught:
        slots.input_of(tmp_path, spec, task, slots.slot_of(spec, task))
    assert caught.value.hint == "workbench jobs run answers --input FILE"


def test_an_input_is_looked_for_here_and_then_in_the_repository(tmp_path, monkeypatch):
    spec = a_spec()
    here, root = tmp_path / "here", tmp_path / "root"
    for folder in (here, root):
        folder.mkdir()
        (folder / "a.jsonl").touch()
    (root / "b.jsonl").touch()
    monkeypatch.chdir(here)
    task = RunRequest(reference="answers", clock=FakeClock())
    slot = slots.slot_of(spec, task)
    found = [
        slots.input_of(root, spec, RunRequest(reference="answers", input=name), slot)
        for name in ("a.jsonl", "b.jsonl")
    ]
    assert found == [here / "a.jsonl", root / "b.jsonl"]
