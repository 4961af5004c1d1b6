"""Plots: bytes that are the same everywhere, labels that cannot be read as markup, and the table."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.plots import Mark, Plot

MARKS = (
    Mark(name="candidate", n=188, value=0.84, low=0.78, high=0.89, role="judged", across=1.14),
    Mark(name="few_shot", n=188, value=0.665, low=0.593, high=0.732, role="explored", across=1.75),
    Mark(name="closed_book", n=188, value=0.0, low=0.0, high=0.0194, role="control", across=0.96),
)
ROWS = Plot(
    title="accuracy of each arm", item="arm", axis="accuracy", marks=MARKS, scale=(0.0, 1.0), reference=0.7
)
POINTS = dataclasses.replace(ROWS, form="points", across="seconds per case", reference=None)
ALLOWED = {
    "svg": {
        "class", "viewBox", "width", "height", "style", "font-family", "role", "aria-labelledby"
    },
    "title": {"id"},
    "desc": {"id"},
    "path": {"d", "class", "fill", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray"},
    "circle": {"cx", "cy", "r", "class", "fill", "stroke", "stroke-width"},
    "text": {"x", "y", "font-size", "text-anchor", "class", "fill", "font-weight"},
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "</svg><img src=x onerror=alert(1)>",
    "$\\frac{",
    "$x$ & \"quoted\" 'twice'",
    "two\nlines\r\n\tand a tab",
    "שלום עולם \u202e reversed",
    "\x00\x1b[31mred \ud800 \ufffe",
    "x" * 10_000,
    "漢字" * 5_000,
    "",
    "&#60;b&#62;",
    "]]><![CDATA[",
)


def elements(svg):
    """The elements of an SVG, after a check that each is allowed with its attributes."""
    found = list(ET.fromstring(svg).iter())
    for element in found:
        name = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
        assert set(element.attrib) <= ALLOWED[name], (name, element.attrib)
    return found


def texts(svg):
    return [element.text for element in elements(svg) if element.tag.endswith("}text")]


@pytest.mark.parametrize("plot", [ROWS, POINTS], ids=["rows", "points"])
@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_no_label_is_read_as_markup_mathematics_or_an_order_of_a_terminal(plot, label):
    mark = dataclasses.replace(MARKS[0], name=label, group=label)
    hostile = dataclasses.replace(
        plot, title=label, item=label, axis=label, across=label, marks=(mark, MARKS[1])
    )
    svg = hostile.svg
    assert elements(svg) and len(svg) < 20_000
    first = " ".join(label.split())[:12]
    if first.isascii() and first.isprintable():
        assert any(text.startswith(first) for text in texts(svg))
    shown = str(hostile)
    assert "\x1b" not in shown and "\u202e" not in shown and len(shown) < 5_000


@given(st.text(st.characters(), max_size=40))
def test_any_text_makes_well_formed_xml(label):
    mark = dataclasses.replace(MARKS[0], name=label)
    elements(dataclasses.replace(ROWS, title=label, marks=(mark,)).svg)


PROGRAM = """
import sys, hashlib; sys.path.insert(0, {tests!r})
import matplotlib
matplotlib.rcParams.update({{"font.size": 30, "text.usetex": True, "axes.grid": True, "savefig.dpi": 300,
                            "axes.xmargin": 0.4, "lines.linewidth": 9, "font.family": "serif"}})
from test_plots import ROWS, POINTS
print(hashlib.sha256(ROWS.svg + POINTS.svg).hexdigest(), matplotlib.rcParams["font.size"])
"""


def test_the_bytes_depend_on_the_marks_alone_and_not_on_settings_locale_and_zone(tmp_path):
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nlines.linewidth: 7\nxtick.labelsize: 3\n")
    environment = {
        **os.environ, "MPLCONFIGDIR": str(tmp_path), "MATPLOTLIBRC": str(tmp_path), "LC_ALL": "C",
        "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "4711", "SOURCE_DATE_EPOCH": "1",
    }  # fmt: skip
    program = PROGRAM.format(tests=str(Path(__file__).parent))
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    # A person's own settings stay as they are.
    assert ran.stdout.split() == [sha256(ROWS.svg + POINTS.svg).hexdigest(), "30.0"]


def test_the_drawing_is_the_recorded_one():
    """The bytes that one machine wrote: another processor, system or library must write the same."""
    assert sha256(ROWS.svg).hexdigest()[:16] == "060a034d32295bea"
    assert sha256(POINTS.svg).hexdigest()[:16] == "06fd293ae38e49b2"


@pytest.mark.parametrize("noise", [1e-13, -1e-13])
def test_the_noise_of_another_processor_changes_no_byte(noise):
    marks = tuple(dataclasses.replace(m, value=m.value + noise, high=m.high + noise) for m in MARKS[:2])
    exact = dataclasses.replace(ROWS, marks=MARKS[:2])
    assert dataclasses.replace(exact, marks=marks).svg == exact.svg


def test_a_screen_reader_is_told_the_title_and_the_numbers():
    root, title, said, *_ = elements(ROWS.svg)
    assert root.get("aria-labelledby") == f"{title.get('id')} {said.get('id')}" and root.get("role") == "img"
    assert title.text == "accuracy of each arm"
    assert "candidate judged: 0.84 [0.78, 0.89]" in said.text and "closed_book control: 0" in said.text
    assert elements(POINTS.svg)[1].get("id") != title.get("id")


def place_of(svg, kind, colour):
    return [e for e in elements(svg) if e.tag.endswith(kind) and colour in {e.get("fill"), e.get("stroke")}]


def test_a_value_stands_where_its_axis_says():
    (dot,) = place_of(ROWS.svg, "}circle", "#3b82c4")
    ticks = {e.text: float(e.get("x")) for e in elements(ROWS.svg) if e.tag.endswith("}text")}
    assert float(dot.get("cx")) == pytest.approx(ticks["0.8"] + 0.2 * (ticks["1"] - ticks["0.8"]), abs=0.1)
    assert b'stroke-dasharray="4 3"' in ROWS.svg  # the reference


def test_an_endless_interval_is_drawn_to_the_edge_and_a_mark_without_a_value_has_its_line():
    marks = (
        Mark(name="open", n=3, value=2.0, low=float("-inf"), high=float("inf")),
        Mark(name="vote", n=0),
        Mark(name="one", n=9, value=5.0, low=4.0, high=6.0),
    )
    svg = Plot(title="t", item="arm", axis="seconds", marks=marks).svg
    assert {"vote", "none", "2 [-∞, ∞]"} <= set(texts(svg)) and b"inf" not in svg and b"nan" not in svg


@pytest.mark.parametrize("value", [0.0, -3.0, 5.0, 1e-9, 1e12])
def test_a_single_value_of_any_size_has_an_axis(value):
    for form in ("rows", "points"):
        one = (Mark(name="a", n=1, value=value, across=value if value > 0 else 0.0),)
        assert elements(Plot(title="t", item="arm", axis="x", across="y", form=form, marks=one).svg)


def test_a_plot_without_marks_and_one_with_more_than_it_draws():
    assert elements(dataclasses.replace(ROWS, marks=()).svg) and str(dataclasses.replace(ROWS, marks=()))
    many = tuple(Mark(name=f"slice {n}", n=n, value=n / 400) for n in range(400))
    large = dataclasses.replace(ROWS, marks=many)
    assert "slice 99" in texts(large.svg) and "slice 100" not in texts(large.svg)
    assert "slice 399" in str(large)


def test_a_notebook_shows_svg_and_a_terminal_the_table():
    bundle = ROWS._repr_mimebundle_()
    assert bundle == {"image/svg+xml": ROWS.svg.decode(), "text/plain": str(ROWS)}
    assert str(ROWS).splitlines()[2].split() == ["arm", "accuracy", "interval", "n"] or "accuracy" in str(
        ROWS
    )
    assert "candidate (judged)" in str(ROWS) and "[0.78, 0.89]" in str(ROWS)


def test_a_plot_is_saved_as_svg_and_as_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path is shortened in the message
    path = ROWS.save(tmp_path / "deep" / "arms.svg")
    assert path.read_bytes() == ROWS.svg
    with pytest.raises(ConfigError, match=r"arms\.png.*does not end in \.svg"):
        ROWS.save("arms.png")
    assert not (tmp_path / "arms.png").exists()


@pytest.mark.parametrize("form", ["rows", "points"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324])
def test_a_number_that_no_axis_holds_is_told_and_not_drawn(form, value):
    odd = Mark(name="odd", n=1, value=value, low=-value, high=value, across=value, inner=(value, value))
    usual = Mark(name="usual", n=1, value=0.5, low=0.4, high=0.6, across=0.5)
    plot = Plot(title="t", item="arm", axis="score", across="cost", marks=(odd, usual), form=form)
    places = re.findall(r'(?:cx|cy|x|y|d)="([^"]*)"', plot.svg.decode())
    assert places and not [place for place in places if "nan" in place or "inf" in place]
    assert "odd" in str(plot) and "usual" in plot.svg.decode()
