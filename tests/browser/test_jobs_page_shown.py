"""The jobs page in a real browser: on a phone nothing is wider than the screen, and every chart is drawn."""

from __future__ import annotations

import dataclasses

import pytest
from made_job_runs import NOW, daily, many
from shown_pages import SHOWN, browser, tabs

from workbench.config.operations import JobOperation
from workbench.jobs.health import JobHealth
from workbench.jobs.status import JobStatus
from workbench.pipeline.jobs_page import jobs_page
from workbench.registry import Asset, Move

PHONE, DESK = 390, 1200
CHARTS = """() => [...document.querySelectorAll('.drawn')].map(box => {
    const place = box.getBoundingClientRect(), svg = box.querySelector('svg').getBoundingClientRect();
    const ends = [...box.querySelectorAll('.tick')].map(tick => tick.getBoundingClientRect().right);
    return [place.width, svg.width, svg.height, Math.max(0, ...ends)];
})"""
LABELS = """() => [...document.querySelectorAll('.drawn')].flatMap(box => {
    const ticks = [...box.querySelectorAll('.tick')].map(tick => tick.getBoundingClientRect());
    const shared = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return ticks.flatMap((a, i) => ticks.slice(i + 1).map(b => shared(a, b)));
})"""

pytestmark = SHOWN


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with long names and texts, an overdrawn budget, a job of many slots, and one without runs."""
    runs = daily(*["published"] * 20, "failed", "held", "published")
    runs[2] = dataclasses.replace(runs[2], detail="x" * 299, rows=12_345_678)
    path = tmp_path_factory.mktemp("page") / "jobs.html"
    found = [_status("answers", runs), _status("x" * 62, many(2_500)), _status("new", [])]
    path.write_bytes(jobs_page(found, NOW))
    return path


def _status(job, runs):
    operation = JobOperation()
    move = Move(
        label="production", version=7, by="Ada" * 30, at="2026-11-20T15:00:00+00:00", reason="y" * 200
    )
    return JobStatus(
        job=job, asset=Asset(kind="job", name=job, versions={}, labels={"production": 7}, moves=(move,)),
        operation=operation, schedule=None, runs=tuple(runs), gates={},
        health=JobHealth.of(runs, operation, NOW, scheduled=True, expected=28),
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_every_chart_is_drawn(page, scheme):
    with browser() as opened:
        for width, tab in tabs(opened, page, scheme, PHONE, DESK):
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            charts = tab.evaluate(CHARTS)
            assert len(charts) == 12
            for box, drawn, height, labels in charts:
                assert drawn == box > 200 and height == 96 and labels <= width
            assert max(tab.evaluate(LABELS)) < 3  # no label lies on another
