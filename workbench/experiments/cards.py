"""Cards: a run, a comparison or a gate report as text and as HTML, each ending with the next command."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.experiments.compare import Comparison, Line
    from workbench.experiments.gates import GateLine, GateReport
    from workbench.experiments.metrics import Metric
    from workbench.experiments.runs import Run
    from workbench.experiments.statistics import Interval

#: Mid tones that read on white and on black.
_COLOURS = {
    "pass": "#2e9e5b",
    "better": "#2e9e5b",
    "fail": "#d64545",
    "worse": "#d64545",
    "undecided": "#b8860b",
}
_MARKS = {"pass": "✓", "better": "▲", "fail": "✗", "worse": "▼", "undecided": "?"}
#: After a run that no gate was stated for, such as one over another memory than the use case's.
_UNGATED = "workbench compare {} BASELINE   # no gate is stated for it"
_RULE = "1px solid rgba(128,128,128,.35)"
Row = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A title, a table, notes and the next command, in two forms. Columns that are empty throughout go."""

    title: str
    head: Row
    rows: Sequence[Row]
    notes: Sequence[str]
    command: str
    verdict: str | None = None

    def _shown(self) -> list[int]:
        return [i for i in range(len(self.head)) if any(row[i] for row in self.rows)]

    def text(self) -> str:
        """The card as plain text."""
        table = [[row[i] for i in self._shown()] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        first = f"{self.title} · {self.verdict.upper()}" if self.verdict else self.title
        return "\n".join([first, "", *(f"  {x}" for x in lines), "", *self.notes, f"next: {self.command}"])

    def html(self) -> str:
        """The card as HTML with inline styles, readable on light and dark ground."""
        shown = self._shown()
        header = "".join(_cell("th", self.head[i], self.head[i]) for i in shown)
        body = "".join(
            "<tr>" + "".join(_cell("td", row[i], self.head[i]) for i in shown) + "</tr>" for row in self.rows
        )
        below = "".join(f'<div style="opacity:.75">{html.escape(note)}</div>' for note in self.notes)
        frame = f"border:{_RULE};border-radius:6px;padding:10px 14px;margin:4px 0;max-width:72em"
        return (
            f'<div style="{frame};color:inherit;font-size:13px;overflow-x:auto">'
            f'<div style="margin-bottom:6px"><strong>{html.escape(self.title)}</strong>{self._badge()}</div>'
            f'<table style="border-collapse:collapse;margin:0 0 6px 0;color:inherit">'
            f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{below}"
            f'<div style="margin-top:6px">next: <code>{html.escape(self.command)}</code></div></div>'
        )

    def _badge(self) -> str:
        if not self.verdict:
            return ""
        style = f"background:{_COLOURS[self.verdict]};color:#fff;border-radius:4px;padding:1px 8px"
        return f' <span style="{style}">{_MARKS[self.verdict]} {self.verdict}</span>'


def number(value: float | None) -> str:
    """A number in three significant digits."""
    if value is None:
        return "none"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 2 else f"{value:.3g}"


def span(interval: Interval | None, *, signed: bool = False) -> str:
    """An interval as `[0.52, 0.68]`."""
    if interval is None:
        return ""
    ends = (f"{end:+.3g}" if signed and math.isfinite(end) else number(end) for end in _ends(interval))
    return f"[{', '.join(ends)}]"


def _ends(interval: Interval) -> tuple[float, float]:
    # Float noise around zero would print as 1e-17.
    low, high = (0.0 if abs(end) < 5e-7 else end for end in (interval.low, interval.high))
    return low, high


def degraded_note(searches: int) -> list[str]:
    """A line that says how many searches the last snapshot answered; none without any."""
    if not searches:
        return []
    were = "search was" if searches == 1 else "searches were"
    return [f"degraded: {searches} {were} answered by the last snapshot: the server was away"]


def _percent(level: float) -> str:
    return f"{level * 100:g} %"


# Runs


def run_card(run: Run, *, level: float = 0.9) -> Card:
    """Every metric of a run."""
    metrics = run.metrics(level)
    rows = [[m.name, number(m.value), span(m.interval), str(m.n), _tenants(m.tenants)] for m in metrics]
    repeats = f" x {run.repeats} repeats" if run.repeats > 1 else ""
    notes = [
        *degraded_note(run.n_degraded),
        f"{run.n_cases} cases{repeats}, {run.n_unscored} unscored; intervals at {_percent(level)}",
    ]
    spreads = [f"{m.name} {number(m.repeat_sd)}" for m in metrics if m.repeat_sd is not None]
    if spreads:
        notes.append(f"standard deviation between repeats: {', '.join(spreads)}")
    errors = sorted({error.split(":")[0] for error in run.cases["error"].drop_nulls()})
    if errors:
        notes.append(f"unscored because of {', '.join(errors)}: no score, and not counted as zero")
    return Card(
        title=f"{run.use_case} · {run.experiment} · {run.arm} · run {run.id}",
        head=["metric", "value", "interval", "n", "by tenant"],
        rows=rows,
        notes=notes,
        command=f"workbench gate {run.id}" if run.gate_digest else _UNGATED.format(run.id),
    )


def _tenants(tenants: Mapping[str, Metric]) -> str:
    if len(tenants) < 2:
        return ""
    return "; ".join(f"{name} {number(m.value)} {span(m.interval)}".strip() for name, m in tenants.items())


# Comparisons


def comparison_card(comparison: Comparison) -> Card:
    """A run against its baseline: the primary metric first, cost and latency last."""
    first, base, run = comparison.lines[0], comparison.baseline, comparison.run
    notes = [
        f"paired by case id over {first.n} cases; intervals at {_percent(comparison.level)}",
        f"p adjusted over a family of {comparison.family} (Holm)",
    ]
    left_out = [f"{line.metric} {line.left_out}" for line in comparison.lines if line.left_out]
    if left_out:
        notes.append(f"cases left out, having no score on one side: {', '.join(left_out)}")
    if comparison.margin:
        held = ", ".join(f"{line.metric} {line.non_inferior}" for line in comparison.lines)
        notes.append(f"not worse by more than {comparison.margin:g}: {held}")
    notes += [
        f"{what}: {', '.join(cases[:5])}{' …' if len(cases) > 5 else ''}"
        for what, cases in (("improved", first.improved), ("got worse", first.worsened))
        if cases
    ]
    return Card(
        title=f"{run.arm} against {base.arm} · {first.metric}",
        verdict=comparison.verdict,
        head=["metric", base.arm, run.arm, "effect", "interval", "p", "flips", "verdict"],
        rows=[_comparison_row(line) for line in (*comparison.lines, *comparison.amounts)],
        notes=notes,
        command=_after_comparison(comparison),
    )


def _after_comparison(card: Comparison) -> str:
    first = card.lines[0]
    if card.run.gate_digest is None:
        return "make lab   # no gate is stated for these runs"
    if card.verdict == "worse":
        return f"workbench gate {card.baseline.id}   # keep {card.baseline.arm}"
    if card.verdict == "undecided" and first.needed:
        return f"dvc repro   # after adding about {first.needed} cases like these: 80 % power for this effect"
    return f"workbench gate {card.run.id}"


def _comparison_row(line: Line) -> Row:
    return [
        line.metric,
        number(line.baseline),
        number(line.value),
        f"{line.effect:+.3g}",
        span(line.interval, signed=True),
        "" if line.p is None else f"{line.p:.3f}" if line.p >= 0.001 else "< 0.001",
        "" if line.verdict is None else f"+{len(line.improved)} -{len(line.worsened)}",
        _verdict(line.verdict, line.needed),
    ]


def _verdict(verdict: str | None, needed: int | None) -> str:
    if verdict is None:
        return ""
    missing = f" ({needed} more cases)" if verdict == "undecided" and needed else ""
    return f"{_MARKS[verdict]} {verdict}{missing}"


# Gates


def gate_card(report: GateReport) -> Card:
    """Each line of a gate with its interval."""
    stated = "stated before the run" if report.stated_before else "NOT stated before this run: cannot pass"
    sure = _percent(report.confidence)
    return Card(
        title=f"{report.use_case} · {report.phase} gate · {report.arm} · run {report.run}",
        verdict=report.verdict,
        head=["metric", "rule", "value", "interval", "n", "verdict", "note", "by tenant"],
        rows=[_gate_row(line) for line in report.lines],
        notes=[
            *degraded_note(report.n_degraded),
            f"{report.n_cases} cases, {report.n_unscored} rows unscored",
            f"judged on intervals at {sure}, all tenants pooled",
            f"gate {report.gate_digest[:12]}, {stated}",
            *([report.note] if report.note else []),
        ],
        command=_after_gate(report),
    )


def _gate_row(line: GateLine) -> Row:
    return [
        line.metric,
        line.rule,
        number(line.value),
        span(line.interval),
        str(line.n),
        _verdict(line.verdict, line.needed),
        line.note,
        _tenants(line.tenants),
    ]


def _after_gate(report: GateReport) -> str:
    if report.verdict == "pass":
        return "workbench report"
    if report.verdict == "fail":
        return f"workbench compare {report.run} BASELINE   # which cases got worse"
    if report.outlook == "pass":
        return "dvc repro   # when params.yaml states this gate for its phase"
    more = f"about {report.needed} cases" if report.needed else "cases"
    return f"dvc repro   # after adding {more} like these"


def _cell(tag: str, text: str, column: str) -> str:
    side = "left" if column in {"metric", "rule", "verdict", "note", "by tenant"} else "right"
    style = f"text-align:{side};padding:2px 10px 2px 0;border-bottom:{_RULE};vertical-align:top"
    if column == "verdict" and tag == "td" and text:
        style += f";font-weight:600;color:{_COLOURS.get(text.split()[1], 'inherit')}"
    if column not in {"note", "by tenant"}:
        style += ";white-space:nowrap"
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'
