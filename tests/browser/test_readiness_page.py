"""The readiness page in a real browser: on a phone, each verdict is on the screen."""

from __future__ import annotations

import pytest
from made_evidence import N, an_evidence, failing, saying
from made_runs import a_run, as_control, of
from shown_pages import SHOWN, browser, tabs

from workbench.pipeline.report import write

PHONE, DESK = 360, 1200
VERDICTS = """() => [...document.querySelectorAll('.stack .mark')]
    .map(mark => mark.getBoundingClientRect()).map(box => [box.left, box.right, box.width])"""
#: The edges of each plot and of each of its texts, and the height of the smallest text, in pixels.
PLOTS = """() => [...document.querySelectorAll('svg.plot')].map(plot => {
    const box = plot.getBoundingClientRect(), texts = [...plot.querySelectorAll('text')]
        .filter(text => text.textContent).map(text => text.getBoundingClientRect());
    return [box.left, box.right, Math.min(...texts.map(t => t.left)), Math.max(...texts.map(t => t.right)),
            Math.min(...[...plot.querySelectorAll('text')].map(t =>
                parseFloat(t.getAttribute('font-size')) * box.width / 400))]; })"""
COMMANDS = "() => [...document.querySelectorAll('pre')].filter(p => p.scrollWidth > p.clientWidth).length"
#: The contrast of each colour of text of the plots with the ground, by WCAG.
CONTRAST = """() => {
    const light = rgb => rgb.match(/\\d+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = light(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll('svg.plot text')].map(t => light(getComputedStyle(t).fill))
        .map(ink => (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05)); }"""
HIDDEN = """() => [...document.querySelectorAll('.scroll')]
    .filter(box => box.querySelector('.stack') && box.scrollWidth > box.clientWidth).length"""

pytestmark = SHOWN


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with warnings, unscored cases and long names."""
    other = failing(saying(a_run("candidate", accuracy=of(36, N)), "other"), {"q0009": "KeyError"})
    long = a_run("an_arm_with_a_long_name_indeed_and_more", accuracy=of(38, N))
    control = as_control(a_run("closed_book", accuracy=of(0, N)))
    explored = [other, a_run("few_shot", accuracy=of(10, N)), long, control, a_run("few", accuracy=of(3, 10))]
    errors = {f"q{n:04}": f"truncated: {'x' * 200}" for n in range(5)}
    return write(
        an_evidence(0.6, errors=errors, explored=explored), tmp_path_factory.mktemp("page") / "readiness"
    )[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_verdict_needs_no_scrolling_sideways(page, scheme):
    with browser() as opened:
        for width, tab in tabs(opened, page, scheme, PHONE, DESK):
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            boxes = tab.evaluate(VERDICTS)
            assert len(boxes) >= 4 and all(0 <= left < right <= width and wide for left, right, wide in boxes)
            assert tab.evaluate(HIDDEN) == 0 and tab.evaluate(COMMANDS) == 0
            plots = tab.evaluate(PLOTS)
            assert len(plots) == 3
            for left, right, first, last, smallest in plots:
                assert 0 <= left <= first + 1 and last <= right + 1 <= width + 1 and smallest >= 8
            assert min(tab.evaluate(CONTRAST)) >= 4.5
