"""Draw plots with matplotlib, and write them as SVG through a renderer that reads no font and no setting.

matplotlib's own SVG measures texts with a font of the machine and adds a style sheet, clip paths and a date.
This renderer writes paths and texts alone, each with a class that a page can restyle, so that nothing of a
label can be read as markup and the same marks give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from workbench.display import number
from workbench.plots.labels import escaped, fitting, plain, width

if TYPE_CHECKING:
    from workbench.plots.picture import Mark, Picture

#: The width of every plot in its own unit, and on a wide screen in pixels.
_WIDE, _PIXELS = 400, 560
#: Numbers from here on are drawn as infinite: the extent of an axis with them has no number.
_FAR = 1e150
_EDGE, _SIZE, _SMALL = 10.0, 11.0, 10.0
_ROW, _GROUP, _TOP, _BOTTOM = 32.0, 22.0, 26.0, 36.0
#: Colours that are readable on white and on black, each with the class that a page can restyle.
_INK, _RULE, _STRONG, _SOFT = "#767676", "#9a9a9b", "#3b82c4", "#878e99"
_CLASSES = {_INK: "plot-ink", _RULE: "plot-rule", _STRONG: "plot-strong", _SOFT: "plot-soft"}
#: The marks that the description for screen readers lists.
_READ_OUT = 25
_CODES = {
    Outline.MOVETO: "M",
    Outline.LINETO: "L",
    Outline.CURVE3: "Q",
    Outline.CURVE4: "C",
    Outline.CLOSEPOLY: "Z",
}


def svg(plot: Picture) -> bytes:
    """Return the plot as SVG with a title and a description for screen readers."""
    with _own_settings():
        figure = _points(plot) if plot.form == "points" else _rows(plot)
        wide, high = (72 * float(side) for side in figure.get_size_inches())
        renderer = _Renderer(height=high)
        figure.draw(renderer)
    body = "\n".join(renderer.parts)
    name, said = escaped(plain(plot.title, 200)), escaped(_description(plot))
    ident = "plot-" + hashlib.sha256(f"{name}\n{said}\n{body}".encode()).hexdigest()[:10]
    pixels = f'width="{_PIXELS}" height="{_PIXELS / wide * high:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {wide:.0f} {high:.0f}" {pixels} '
        f'style="max-width:100%;height:auto" font-family="system-ui, sans-serif" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d">\n<title id="{ident}-t">{name}</title>\n'
        f'<desc id="{ident}-d">{said}</desc>\n{body}\n</svg>\n'
    ).encode()


@contextmanager
def _own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever a person or a file of theirs has set."""
    kept = {"backend", "backend_fallback", "interactive", "toolbar"}
    with mpl.rc_context({k: v for k, v in mpl.rcParamsDefault.items() if k not in kept}):
        yield


def _description(plot: Picture) -> str:
    """Return the numbers of the plot in words."""
    said = []
    for mark in plot.drawn[:_READ_OUT]:
        forecast = "" if mark.across is None else f", {plain(plot.across, 60)} {number(mark.across)}"
        names = (plain(part, 60) for part in (mark.group, mark.name, mark.role) if part)
        said.append(f"{' '.join(names)}: {number(mark.value)} {mark.interval}".strip() + forecast)
    left = len(plot.marks) - len(said)
    more = f"; {left} more" if left else ""
    return f"{plain(plot.axis, 100)} by {plain(plot.item, 60)}. {'; '.join(said)}{more}."


class _Renderer(RendererBase):
    """Write what matplotlib draws as elements of SVG; every number has one decimal."""

    def __init__(self, *, height: float) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._height = height

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:  # noqa: N803
        """Write one path with its line or its area."""
        steps = []
        for points, code in path.iter_segments(transform, simplify=False):
            flipped = (
                _place(value if place % 2 == 0 else self._height - value)
                for place, value in enumerate(points.tolist() if code != Outline.CLOSEPOLY else ())
            )
            steps.append(_CODES[code] + " ".join(flipped))
        line = to_hex(gc.get_rgb()) if gc.get_linewidth() > 0 else None
        area = to_hex(rgbFace) if rgbFace is not None else None
        if line or area:
            self.parts.append(f'<path d="{"".join(steps)}" {_painted(line, area, gc)}/>')

    def draw_markers(
        self, gc: Any, marker_path: Any, marker_trans: Any, path: Any, trans: Any, rgbFace: Any = None  # noqa: N803
    ) -> None:  # fmt: skip
        """Write a circle at each point of a path: every marker of a plot is one."""
        radius = marker_path.get_extents(marker_trans).width / 2
        line = to_hex(gc.get_rgb()) if gc.get_linewidth() > 0 else None
        area = to_hex(rgbFace) if rgbFace is not None and rgbFace[-1] else None
        for x, y in trans.transform(path.vertices).tolist():
            at = f'cx="{_place(x)}" cy="{_place(self._height - y)}" r="{_place(radius)}"'
            self.parts.append(f"<circle {at} {_painted(line, area, gc)}/>")

    def draw_text(self, gc: Any, x: float, y: float, s: str, prop: Any, *_: Any, **options: Any) -> None:
        """Write one line of text, anchored as its artist `mtext` is."""
        if not s:
            return
        anchor = {"center": "middle", "right": "end"}.get(options["mtext"].get_horizontalalignment(), "start")
        own = width(s, prop.get_size_in_points())
        x += {"middle": own / 2, "end": own}.get(anchor, 0.0)
        colour, weight = to_hex(gc.get_rgb()), ' font-weight="600"' if prop.get_weight() == "bold" else ""
        self.parts.append(
            f'<text x="{_place(x)}" y="{_place(y)}" font-size="{prop.get_size_in_points():g}" '
            f'text-anchor="{anchor}" class="{_CLASSES[colour]}" fill="{colour}"{weight}>{escaped(s)}</text>'
        )

    def draw_image(self, gc: Any, x: float, y: float, im: Any, transform: Any = None) -> None:
        """Raise, because no plot has an image."""
        raise NotImplementedError("no plot has an image")

    def get_canvas_width_height(self) -> tuple[float, float]:
        """Return the size of the plot in its own unit."""
        return float(_WIDE), self._height

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:  # noqa: ARG002
        """Return an estimate of the size of a text."""
        size = prop.get_size_in_points()
        return width(s, size), size, 0.0

    def points_to_pixels(self, points: Any) -> Any:
        """Return the same number: the unit of a plot is a point."""
        return points


def _place(value: float) -> str:
    """Return a coordinate in one decimal. The first rounding takes the noise of other processors away."""
    return f"{round(round(value, 6), 1) + 0.0:g}"


def _painted(line: str | None, area: str | None, gc: GraphicsContextBase) -> str:
    """Return the attributes of a path: its class, its line and its area."""
    colour = line or area or _INK
    parts = [f'class="{_CLASSES[colour]}-line"' if line else f'class="{_CLASSES[colour]}"']
    parts.append(f'fill="{area}"' if area else 'fill="none"')
    if line:
        parts.append(f'stroke="{line}" stroke-width="{gc.get_linewidth():g}"')
        parts += ['stroke-opacity="0.45"'] if line == _RULE else []
        dashes: Any = gc.get_dashes()[1]
        if dashes is not None:
            parts.append(f'stroke-dasharray="{" ".join(f"{round(float(d), 1):g}" for d in dashes)}"')
    return " ".join(parts)


def _axes(
    plot: Picture, high: float, *, top: float, bottom: float, left: float = _EDGE
) -> tuple[Figure, Axes]:
    """Return a figure with the title, and axes whose vertical unit is that of the plot, from the top."""
    figure = Figure(figsize=(_WIDE / 72, high / 72), dpi=72, frameon=False)
    room = (_WIDE - left - _EDGE, high - top - bottom)
    axes = figure.add_axes((left / _WIDE, bottom / high, room[0] / _WIDE, room[1] / high), frameon=False)
    axes.tick_params(length=0, labelsize=_SMALL, labelcolor=_INK, pad=5)
    axes.set_axisbelow(True)
    _say(figure, _EDGE, 15, plot.title, high=high, size=_SIZE + 1, weight="bold")
    return figure, axes


def _say(
    figure: Figure, x: float, y: float, text: str, *, high: float, size: float = _SIZE, **options: Any
) -> None:
    """Write a text whose baseline begins, ends or is centred at a place of the plot, from its top left."""
    room = options.pop("room", _WIDE - 2 * _EDGE)
    line = fitting(text, size, room)
    options = {"color": _INK, **options}
    figure.text(x / _WIDE, 1 - y / high, line, size=size, va="baseline", parse_math=False, **options)


def _extent(values: Sequence[float | None]) -> tuple[float, float]:
    """Return the ends of an axis that holds these values and, unless they are far away, zero."""
    finite = [value for value in values if value is not None and abs(value) < _FAR]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if low > 0 and low < high:
        low = 0.0
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0) if high else 1.0
    room = 0.04 * (high - low)
    return (low if low == 0 else low - room), (high if high == 0 else high + room)


def _numbered(axis: Any, low: float, high: float) -> None:
    """Give an axis ticks at round numbers from `low` to `high`, written as the tables write them."""
    places = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    least = 1e-9 * (high - low)
    kept = [0.0 if abs(p) < least else float(p) for p in places if low - least <= p <= high + least]
    axis.set_major_locator(FixedLocator(kept))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.grid(visible=True, color=_RULE, linewidth=0.5)


def _rows(plot: Picture) -> Figure:
    """Draw marks one below the other: name and numbers above, the interval with its value below them."""
    marks, heads = plot.drawn, 0
    for before, mark in zip((None, *marks), marks, strict=False):
        heads += bool(mark.group) and (before is None or before.group != mark.group)
    body = _ROW * len(marks) + _GROUP * heads + 4
    high = _TOP + body + _BOTTOM
    figure, axes = _axes(plot, high, top=_TOP, bottom=_BOTTOM)
    ends = [v for m in marks for v in (m.value, m.low, m.high, m.across, *(m.inner or ()))]
    low, far = plot.scale or _extent([*ends, plot.reference])
    axes.set_xlim(low, far)
    axes.set_ylim(body, 0)
    axes.set_yticks([])
    _numbered(axes.xaxis, low, far)
    if plot.reference is not None:
        axes.axvline(plot.reference, color=_INK, linewidth=1, dashes=(4, 3))
    y = 0.0
    for before, mark in zip((None, *marks), marks, strict=False):
        if mark.group and (before is None or before.group != mark.group):
            y += _GROUP
            _say(figure, _EDGE, _TOP + y - 5, mark.group, high=high, size=_SMALL, weight="bold")
        _row(figure, axes, mark, y, high)
        y += _ROW
    _say(figure, _WIDE / 2, high - 6, plot.axis, high=high, size=_SMALL, ha="center")
    return figure


def _row(figure: Figure, axes: Axes, mark: Mark, y: float, high: float) -> None:
    """Draw one mark below `y`."""
    shown = f"{number(mark.value) if mark.value is not None else 'none'} {mark.interval}".strip()
    role = f" · {mark.role}" if mark.role else ""
    room = _WIDE - 2 * _EDGE - width(shown, _SIZE) - 12
    name = fitting(mark.name, _SIZE, room - width(role, _SIZE)) + role
    weight = "bold" if mark.role == "judged" else "normal"
    _say(figure, _EDGE, _TOP + y + 14, name, high=high, weight=weight, room=room + _SIZE)
    _say(figure, _WIDE - _EDGE, _TOP + y + 14, shown, high=high, ha="right")
    colour = _STRONG if mark.role in {"", "judged"} else _SOFT
    (low, far), middle = axes.get_xlim(), y + 23
    outer = None if mark.low is None or mark.high is None else (mark.low, mark.high)
    for ends, thick in (outer, 3.0), (mark.inner, 7.0):
        if ends is not None:
            drawn = [min(max(end, low), far) for end in ends]
            axes.plot(drawn, [middle, middle], color=colour, linewidth=thick, solid_capstyle="butt")
    if mark.value is not None:
        _dot(axes, min(max(mark.value, low), far), middle, colour, hollow=mark.role == "control")
    if mark.across is not None and abs(mark.across) < _FAR:
        axes.plot([mark.across] * 2, [middle - 6, middle + 6], color=_INK, linewidth=2)


def _dot(axes: Axes, x: float, y: float, colour: str, *, hollow: bool) -> None:
    """Draw a value: a disc, or a ring for a control."""
    axes.plot(
        [x], [y], linestyle="none", marker="o", markersize=7 if hollow else 9, clip_on=False,
        markeredgecolor=colour, markeredgewidth=2 if hollow else 0,
        markerfacecolor="none" if hollow else colour,
    )  # fmt: skip


def _points(plot: Picture) -> Figure:
    """Draw numbered points over two axes, and below them the list of their names and numbers."""
    numbers = ((mark, mark.value, mark.across) for mark in plot.drawn)
    marks = [mark for mark, x, y in numbers if None not in {x, y} and max(abs(x or 0), abs(y or 0)) < _FAR]
    tall, left, lines = 200.0, 34.0, 18.0 * len(plot.drawn)
    bottom = 34 + lines + 10
    high = _TOP + 16 + tall + bottom
    figure, axes = _axes(plot, high, top=_TOP + 16, bottom=bottom, left=left)
    low, far = plot.scale or _extent([v for m in marks for v in (m.value, m.low, m.high)])
    axes.set_ylim(low, far)
    _numbered(axes.yaxis, low, far)
    ends = _extent([0.0, *(mark.across for mark in marks)])
    axes.set_xlim(ends[0] - 0.03 * (ends[1] - ends[0]), ends[1])
    _numbered(axes.xaxis, *ends)
    _say(figure, _EDGE, _TOP + 6, plot.axis, high=high, size=_SMALL)
    _say(figure, _WIDE / 2, _TOP + 16 + tall + 30, plot.across, high=high, size=_SMALL, ha="center")
    taken: list[tuple[float, float]] = []
    for place, mark in enumerate(plot.drawn, start=1):
        y = high - bottom + 36 + 18.0 * place + 4
        _listed(figure, mark, place, y, high)
        if mark in marks and mark.value is not None and mark.across is not None:
            _point(figure, axes, mark, (mark.across, mark.value), str(place), taken)
    return figure


def _listed(figure: Figure, mark: Mark, place: int, y: float, high: float) -> None:
    """Write the line of a point below the axes."""
    across = "" if mark.across is None else f" at {number(mark.across)}"
    shown = f"{number(mark.value)} {mark.interval}{across}"
    role = f" · {mark.role}" if mark.role else ""
    room = _WIDE - 2 * _EDGE - width(shown, _SIZE) - 12
    name = fitting(f"{place}  {mark.name}", _SIZE, room - width(role, _SIZE)) + role
    _say(
        figure,
        _EDGE,
        y - 8,
        name,
        high=high,
        room=room + _SIZE,
        weight="bold" if mark.role == "judged" else "normal",
    )
    _say(figure, _WIDE - _EDGE, y - 8, shown, high=high, ha="right")


def _point(
    figure: Figure, axes: Axes, mark: Mark, at: tuple[float, float], text: str,
    taken: list[tuple[float, float]],
) -> None:  # fmt: skip
    """Draw one point with its interval and its number, which avoids the numbers of earlier points."""
    colour = _STRONG if mark.role in {"", "judged"} else _SOFT
    low, far = axes.get_ylim()
    if mark.low is not None and mark.high is not None:
        ends = [min(max(end, low), far) for end in (mark.low, mark.high)]
        axes.plot([at[0]] * 2, ends, color=colour, linewidth=2.5, solid_capstyle="butt")
    _dot(axes, *at, colour, hollow=mark.role == "control")
    wide, high = (72 * float(side) for side in figure.get_size_inches())
    x, y = (float(v) for v in axes.transData.transform(at))
    x, y = x + 8, y + 3
    while any(abs(x - other[0]) < 10 and abs(y - other[1]) < 11 for other in taken):
        y += 1
    taken.append((x, y))
    figure.text(x / wide, y / high, text, size=_SMALL, color=_INK, va="baseline", weight="bold")
