"""The readiness page in a real browser: on a phone, each verdict is on the screen."""

from __future__ import annotations

import pytest
from made_evidence import N, an_evidence, failing, saying
from made_runs import a_run, of
from shown_pages import SHOWN, browser, tabs

from workbench.pipeline.report import write

PHONE, DESK = 360, 1200
VERDICTS = """() => [...document.querySelectorAll('.stack .mark')]
    .map(mark => mark.getBoundingClientRect()).map(box => [box.left, box.right, box.width])"""
HIDDEN = """() => [...document.querySelectorAll('.scroll')]
    .filter(box => box.querySelector('.stack') && box.scrollWidth > box.clientWidth).length"""

pytestmark = SHOWN


@pytest.fixture
def page(tmp_path):
    """A page with warnings, unscored cases and long names."""
    other = failing(saying(a_run("candidate", accuracy=of(36, N)), "other"), {"q0009": "KeyError"})
    long = a_run("an_arm_with_a_long_name_indeed_and_more", accuracy=of(38, N))
    explored = [other, a_run("few_shot", accuracy=of(10, N)), long, a_run("few", accuracy=of(3, 10))]
    errors = {f"q{n:04}": f"truncated: {'x' * 200}" for n in range(5)}
    return write(an_evidence(0.6, errors=errors, explored=explored), tmp_path / "readiness")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_verdict_needs_no_scrolling_sideways(page, scheme):
    with browser() as opened:
        for width, tab in tabs(opened, page, scheme, PHONE, DESK):
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            boxes = tab.evaluate(VERDICTS)
            assert len(boxes) >= 4 and all(0 <= left < right <= width and wide for left, right, wide in boxes)
            assert tab.evaluate(HIDDEN) == 0
