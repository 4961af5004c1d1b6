"""The readiness page of a use case: what was measured, what the gate says, what is undecided.

The page is a pure function of the evidence: the same evidence gives the same bytes on every machine. The
template writes the plot as SVG (docs/design/report.md gives the reasons).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.display import degraded_note, number, percent, span
from workbench.experiments.metrics import Metric
from workbench.experiments.runs import Run
from workbench.pipeline.evidence import Evidence

if TYPE_CHECKING:
    from jinja2 import Environment

#: The number of wrong answers that the page shows, and the characters of each.
_WRONG, _TEXT = 5, 160
_SENTENCES = {
    "pass": "Every line of the gate holds, judged on its interval.",
    "fail": "At least one line of the gate is missed, surely and not by chance.",
    "undecided": "No line is missed for sure, and at least one is not yet shown to hold.",
}


def write(evidence: Evidence, path: Path) -> tuple[Path, Path]:
    """Write the page to `path` with .html and with .md; return both paths."""
    page, text = pages(evidence)
    html, markdown = path.with_suffix(".html"), path.with_suffix(".md")
    files.write_atomic(html, page)
    files.write_atomic(markdown, text)
    return html, markdown


def pages(evidence: Evidence) -> tuple[bytes, bytes]:
    """Return the page as HTML and as Markdown."""
    facts = _facts(evidence)
    html = _environment(autoescape=True).get_template("readiness.html.j2").render(facts)
    markdown = _environment(autoescape=False).get_template("readiness.md.j2").render(facts)
    return html.encode(), markdown.encode()


def _environment(*, autoescape: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("workbench.pipeline", "."),
        autoescape=autoescape,  # noqa: S701  Markdown is not HTML; the page is escaped
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": _cell, "number": number, "p": _p, "percent": percent, "span": span, "tenants": _by_tenant,
    }  # fmt: skip
    return environment


def _cell(value: object) -> str:
    """Escape a text for one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _facts(evidence: Evidence) -> dict[str, Any]:
    gate, case = evidence.gate, evidence.use_case
    candidate = next(run for run in evidence.runs if run.id == gate.run)
    primary = candidate.score_names[0]
    level = gate.confidence
    return {
        "name": evidence.name,
        "case": case,
        "gate": gate,
        "sentence": _SENTENCES[gate.verdict],
        "undecided": [line for line in gate.lines if line.verdict == "undecided"],
        "other": evidence.other,
        "candidate": candidate,
        "degraded": [f"{run.arm}: {said}" for run in evidence.runs for said in degraded_note(run.n_degraded)],
        "primary": primary,
        "level": percent(level),
        "arms": [_arm(run, primary, level, candidate) for run in evidence.runs],
        "compared": list(evidence.comparison or ()),
        "amounts": [_amount(run, level) for run in evidence.runs],
        "wrong": _wrong(candidate, primary),
        "versions": evidence.versions,
        "tenants": _tenants(evidence, candidate),
        "memory": evidence.memory,
        "tape": evidence.tape,
    }


def _by_tenant(tenants: Mapping[str, Metric]) -> str:
    shown = (f"{name} {number(m.value)} {span(m.interval)}".strip() for name, m in tenants.items())
    return "; ".join(shown) if len(tenants) > 1 else ""


def _arm(run: Run, primary: str, level: float, candidate: Run) -> dict[str, Any]:
    """Return one row of the plot, with positions in percent of the scale from 0 to 1."""
    metric = run.metric(primary, level)
    low, high = (metric.interval.low, metric.interval.high) if metric.interval else (0.0, 0.0)
    return {
        "name": run.arm,
        "candidate": run.id == candidate.id,
        "value": number(metric.value),
        "interval": span(metric.interval),
        "n": metric.n,
        "unscored": run.n_unscored,
        "prompt": run.settings.get("prompt", ""),
        "task": run.settings.get("task", ""),
        "x": _percent(metric.value or 0.0),
        "low": _percent(low),
        "high": _percent(high),
        "width": _percent(max(high - low, 0.0)),
    }


def _percent(value: float) -> str:
    return f"{min(max(value, 0.0), 1.0) * 100:.2f}"


def _p(value: float | None) -> str:
    """Return a p-value in three decimals, "" without one."""
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _amount(run: Run, level: float) -> dict[str, Any]:
    """Return cost, tokens and seconds of an arm for each case."""

    def mean(column: str) -> str:
        value = run.cases[column].mean()
        return "unknown" if value is None or math.isnan(float(value)) else number(round(float(value), 3))  # type: ignore[arg-type]

    return {
        "name": run.arm,
        "cost": number(run.metric("cost_usd_per_case", level).value),
        "input": mean("input_tokens"),
        "output": mean("output_tokens"),
        "latency": mean("latency_s"),
        "p95": number(run.metric("latency_p95_s", level).value),
        "total": int(run.cases["input_tokens"].sum()) + int(run.cases["output_tokens"].sum()),
    }


def _wrong(run: Run, primary: str) -> list[dict[str, Any]]:
    """Return the first cases, by id, whose primary score is below 1."""
    import orjson

    column = f"score.{primary}"
    rows = run.cases.filter(run.cases[column] < 1).head(_WRONG).to_dicts()
    shown = []
    for row in rows:
        output = orjson.loads(row["output"])
        text = " ".join(str(output.get("text", output) if isinstance(output, dict) else output).split())
        cut = text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
        shown.append(
            {"case": row["case"], "tenant": row["tenant"], "text": cut, "sources": ", ".join(row["sources"])}
        )
    return shown


def _tenants(evidence: Evidence, candidate: Run) -> Sequence[dict[str, Any]]:
    """Return the rows of the memory and the number of cases of each tenant."""
    entries = evidence.memory.get("tenants", {})
    asked = candidate.cases.group_by("tenant").len().sort("tenant").rows()
    cases = dict(asked)
    names = sorted({*entries, *cases})
    return [
        {"name": name, "rows": entries.get(name, {}).get("rows", 0), "cases": cases.get(name, 0)}
        for name in names
    ]
