"""The readiness page of a use case: what was measured, what the gate says, what is undecided.

The page is a pure function of the evidence: the same evidence gives the same bytes on every machine
(docs/design/report.md gives the reasons).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.config import UseCase
from workbench.data.report import QualityReport
from workbench.display import degraded_note, fallback_note, number, percent, span, truncated_note
from workbench.errors import WorkbenchError
from workbench.experiments.compare import ComparedMetric, SliceEffect
from workbench.experiments.gates import GateReport
from workbench.experiments.metrics import Metric
from workbench.experiments.runs import Run
from workbench.experiments.slices import Slice, short
from workbench.pipeline import page_plots
from workbench.pipeline.evidence import Evidence, OwnArm
from workbench.pipeline.summary import summary
from workbench.pipeline.worth_reading import one_line, worth_reading
from workbench.promotion.approach import MeasuredApproach

if TYPE_CHECKING:
    from jinja2 import Environment

#: The reasons of unscored cases that the page shows, and the case ids that a sentence names.
_MOST_REASONS, _NAMED = 10, 3
_SENTENCES = {
    "pass": "Every line of the gate holds, judged on its interval.",
    "fail": "At least one line of the gate is missed, surely and not by chance.",
    "undecided": "No line is missed for sure, and at least one is not yet shown to hold.",
}
_UNSTATED = "Every line of the gate holds, but this gate was not stated before the run."
#: What each reason of an unscored case means; the class of an error stands for itself.
_REASONS: Mapping[str, str] = {
    "empty": "the model sent no text",
    "error": "the endpoint stated an error in its answer",
    "filtered": "the content filter of the endpoint withheld the answer or refused the request",
    "infinite": "a scorer returned infinity, or the output holds it",
    "malformed": "the answer of the endpoint does not have the form of a chat completion",
    "no_choices": "the answer of the endpoint has no choices",
    "not_a_number": "a scorer returned NaN, or the output holds it",
    "not_storable": "JSON has no exact form of the output",
    "refusal": "the model refused",
    "scorer_failed": "a scorer file raised an error",
    "tool_call": "the model called a tool where text was due",
    "too_large": "the answer of the endpoint is larger than the limit",
    "truncated": "the answer reached the limit of tokens before its text: raise max_tokens",
    "unanswered": "the notebook handed over no answer",
    "unfit_input": "the inputs of the case do not fit the type that the task takes",
}
#: What each built-in scorer returns.
_SCORES: Mapping[str, str] = {
    "contains": "1 when the answer contains an accepted text, else 0",
    "cross_tenant_hits": "the number of hits of another tenant",
    "exact": "1 when the answer equals an accepted text, else 0",
    "grounded": "the share of the answer's words in the passages of its prompt",
    "ndcg_at": "NDCG of the first k hits",
    "recall_at": "the share of the relevant pages among the first k hits",
}
#: What counts as right, by the scorer of the first score.
_RIGHT: Mapping[str, str] = {
    "contains": "An answer counts as right when it contains an accepted text; one that also says something "
    "wrong can pass.",
    "exact": "An answer counts as right when it equals an accepted text; one in other words cannot pass.",
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
    html = environment(autoescape=True).get_template("readiness.html.j2").render(facts)
    markdown = environment(autoescape=False).get_template("readiness.md.j2").render(facts)
    return html.encode(), markdown.encode()


def committed(root: Path, page: str) -> str:
    """Return the commit and the day in which a page last changed, in one line.

    The page holds neither: it is part of the commit that it would name, and its bytes must be those of every
    other machine.
    """
    from workbench.repository.git import Repository

    repository, place = Repository(root=root), os.path.relpath(page, root)
    try:
        if (found := repository.last_change(place)) is None:
            return "no commit holds this page yet"
        now = "; what is there now is not committed" if repository.changed(below=[place]) else ""
    except WorkbenchError as error:  # the page is written; a missing git takes nothing away
        return f"its commit is unknown: {error.message}"
    return f"last changed in commit {found[0]} of {found[1]}{now}"


@cache
def environment(*, autoescape: bool) -> Environment:
    """Return the environment of the templates of this folder, which end at an unknown name.

    A process compiles each template once.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("workbench.pipeline", "."),
        autoescape=autoescape,  # noqa: S701  Markdown is not HTML; the page is escaped
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
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
    gate, case, judged = evidence.gate, evidence.use_case, evidence.judged
    primary, level = judged.score_names[0], gate.confidence
    scorer = evidence.scorers.get(primary, {})
    unstated = gate.verdict == "undecided" and gate.provisional_verdict == "pass"
    return {
        "name": evidence.name,
        "case": case,
        "dataset": evidence.dataset,
        "summary": summary(case, judged, gate, scorer),
        "next": _next_command(evidence),
        "model": judged.settings.get("model", case.model_name),
        "model_digest": judged.settings.get("model_digest", ""),
        "plots": page_plots.plots_of(evidence),
        "scorers": [_scorer(name, source) for name, source in evidence.scorers.items()],
        "gate": gate,
        "sentence": _UNSTATED if unstated else _SENTENCES[gate.verdict],
        "warnings": _warnings(evidence),
        "sliced": _sliced(gate),
        "quality": evidence.quality and _quality(evidence.quality, case),
        "undecided": [line for line in gate.lines if line.verdict == "undecided"],
        "unscored": _unscored(judged),
        "more_reasons": max(0, len(judged.unscored_reasons) - _MOST_REASONS),
        "other": evidence.other,
        "primary": primary,
        "level": percent(level),
        **_arms(evidence, level),
        "compared": list(evidence.explored.comparison or ()),
        "amounts": [_amount(run, level) for run in evidence.runs],
        "wrong": worth_reading(judged, primary, evidence.asked, scorer),
        "versions": evidence.versions,
        "tenants": _tenants(evidence, judged),
        "memory": evidence.memory if case.memory else None,
        "absent": _absent(case),
        "tape": evidence.tape,
        "limits": _limits(evidence, _right(primary, scorer)),
        "approach": _approach(evidence.approach),
        "impact": evidence.impact,
    }


def _absent(case: UseCase) -> str:
    """Return one sentence about the sections that a use case without memory or prompt does not have."""
    named = {"memory": case.memory, "prompt": case.prompt}
    missing = " and no ".join(kind for kind, pin in named.items() if pin is None)
    if not missing:
        return ""
    return f"params.yaml names no {missing} for this use case: the page leaves out what would describe it."


def _next_command(evidence: Evidence) -> str:
    """Return the command that follows from the verdict."""
    gate, comparison = evidence.gate, evidence.explored.comparison
    if gate.verdict == "pass" and evidence.jobs:
        return f"workbench promote job/{evidence.jobs[0]} --to candidate"
    if gate.verdict == "fail" and comparison:
        other = next(iter(comparison)).baseline.arm
        name = evidence.name
        return f"workbench compare {name}/{gate.arm} {name}/{other}   # which cases got worse"
    return gate.card().command if gate.verdict != "pass" else f"workbench gate {evidence.name}/{gate.arm}"


def _limits(evidence: Evidence, right: str) -> list[str]:
    """Return the limits of this use case: its data, what counts as right, and what its owner states."""
    made_up = evidence.gate.synthetic
    data = [f"{made_up.text}: the numbers say how such cases are answered, not yours."] if made_up else []
    return [*data, right, *evidence.use_case.known_limits]


def _control_warnings(evidence: Evidence) -> list[str]:
    """Return a warning for each control that is not surely lower than the judged run."""
    return [
        f"{said.run.arm} is a control and is not surely lower than the judged run: the score may not measure "
        "what the task adds"
        for said in evidence.explored.beside or ()
        if said.run.is_control and _standing(said.lines[0]) != "lower"
    ]


def _warnings(evidence: Evidence) -> list[str]:
    """Return what a reader must know beside the verdict."""
    gate, own = evidence.gate, evidence.explored.own
    degraded = [
        f"{run.arm}: {note}"
        for run in evidence.runs
        for note in (
            *degraded_note(run.n_degraded),
            *truncated_note(run.n_truncated),
            *fallback_note(run.n_fallback, run.fallback_reasons),
        )
    ]
    contradiction = evidence.approach.contradiction if evidence.approach else ""
    made_up = gate.synthetic.text if gate.synthetic else ""
    said = (made_up, gate.selected, gate.contaminated, gate.loosened, gate.note, contradiction)
    controls = _control_warnings(evidence)
    return [
        *degraded,
        *filter(None, said),
        *controls,
        *([_own_text(own)] if own is not None and _differs(own) else []),
    ]


def _quality(report: QualityReport, case: UseCase) -> dict[str, Any]:
    """Return the sentence, the rows and the notes of the table of data quality."""
    card = report.card()
    kept = f"{report.kept} of {report.rows} rows of the dataset pass the rules of {case.quality}"
    return {
        "sentence": f"{kept}: {report.notes()[0]}.",
        "rows": [dict(zip(("rule", "severity", "rows", "first"), row, strict=True)) for row in card.rows],
        "notes": report.notes()[1:],
    }


def _sliced(gate: GateReport) -> list[dict[str, Any]]:
    """Return a table for each column of slices of each line, with a sentence on the worst slice."""
    tables = []
    for line in gate.lines:
        for by, slices in line.by.items():
            worst, demand = slices[0], bool(slices[0].verdict)
            bound = float(line.rule.rsplit(" ", 1)[1]) if demand else None
            tables.append(
                {
                    "title": f"{line.metric} by {by}",
                    "rule": f"each slice {line.rule.removeprefix('worst slice ')}" if demand else "",
                    "sentence": _worst_text(worst, len(slices)),
                    "rows": [_slice_row(item) for item in slices],
                    "plot": page_plots.slices_of(line, by, gate.confidence, bound),
                }
            )
    return tables


def _worst_text(worst: Slice, count: int) -> str:
    """Return the sentence on the worst slice of one column."""
    measured = f"{number(worst.value)} {span(worst.interval)}".strip()
    decided = {
        None: "no line demands anything of it",
        "pass": "it passes, as every other does" if count > 1 else "it passes",
        "fail": "it fails",
        "undecided": f"it is undecided{f', {worst.needed} more cases needed' if worst.needed else ''}",
    }
    which = f"The worst of {count} is" if count > 1 else "The only slice is"
    return f"{which} {worst.name}: {measured} over {worst.n} cases; {decided[worst.verdict]}."


def _slice_row(item: Slice) -> dict[str, Any]:
    """Return one row of a table of slices."""
    return {
        "name": short(item.key),
        "n": item.n,
        "value": number(item.value) if item.n else "",
        "interval": span(item.interval),
        "verdict": item.verdict or "",
        "needed": item.needed,
    }


def _arms(evidence: Evidence, level: float) -> dict[str, Any]:
    """Return the rows of the arms, the judged run first, and the sentences about the notebook's own arms."""
    explored, primary = evidence.explored, evidence.judged.score_names[0]
    changes = {comparison.run.arm: comparison.lines[0] for comparison in explored.beside or ()}
    rows = [
        _arm(
            run, primary, level, changes.get(run.arm), page_plots.role_of(run, judged=run is evidence.judged)
        )
        for run in evidence.runs
    ]
    own = explored.own
    return {
        "arms": rows,
        "explored": [run.arm for run in explored.arms],
        "own": _own_text(own) if own is not None and not _differs(own) else "",
        "left_out": explored.left_out,
        "no_baseline": explored.no_baseline,
    }


def _approach(measured: MeasuredApproach | None) -> dict[str, Any] | None:
    """Return the section on the recorded approach; None when params.yaml records none."""
    if measured is None:
        return None
    facts = {"recorded": measured.recorded, "sentence": measured.sentence, "rule": "", "rows": []}
    facts["note"] = measured.note
    if (compared := measured.comparison) is None:
        return facts
    names = {"costlier": compared.run.arm, "simpler": compared.baseline.arm, "undecided": "neither is shown"}
    first = compared.lines[0]
    measures: list[tuple[str, ComparedMetric | SliceEffect, int, int]]
    measures = [("all cases", first, len(first.improved), len(first.worsened))]
    measures += [(f"{part.by} {part.key}", part, part.improved, part.worsened) for part in compared.slices]
    rows = [
        {
            "name": name,
            "n": part.n,
            "change": f"{part.effect:+.3g} {span(part.interval, signed=True)}",
            "flips": f"+{improved} -{worsened}",
            "pays": names[measured.pays_by(part.interval)],
        }
        for name, part, improved, worsened in measures
    ]
    return {**facts, **names, "rule": measured.rule, "rows": rows, "metric": first.metric}


def _differs(own: OwnArm) -> bool:
    return bool(own.different or own.one_sided or own.rescored)


def _own_text(own: OwnArm) -> str:
    """Return one line on the notebook's own arm of the candidate's name, with up to three ids a part."""

    def few(cases: Sequence[str]) -> str:
        return ", ".join(cases[:_NAMED]) + (", …" if len(cases) > _NAMED else "")

    same = f"the same output for {own.same} of {own.n_cases} judged cases"
    parts = [f"The notebook's own arm {own.arm} gave {same}"]
    if own.different:
        parts.append(f"another output for {len(own.different)} ({few(own.different)})")
    if own.one_sided:
        parts.append(f"only one of the two has an output for {len(own.one_sided)} ({few(own.one_sided)})")
    parts += [f"another score {name} for {count} of the same outputs" for name, count in own.rescored.items()]
    otherwise = ""
    if own.different or own.one_sided:
        otherwise = " Its exploration does something else than the job."
    elif own.rescored:
        otherwise = " Its scorers are not those of params.yaml."
    return f"{'; '.join(parts)}.{otherwise}"


def _scorer(name: str, source: Mapping[str, Any]) -> dict[str, str]:
    """Return what a scorer is: a built-in with its options, or a file with its SHA-256."""
    if "file" in source:
        text, digest, meaning = source["file"], source["sha256"], "a function of this repository"
    else:
        kind, options = next(iter(source.items()))
        stated = ", ".join(f"{option}: {value}" for option, value in options.items())
        text, digest, meaning = f"{kind} ({stated})" if stated else kind, "", _SCORES.get(kind, "")
    return {"name": name, "source": text, "digest": digest, "meaning": meaning}


def _right(primary: str, source: Mapping[str, Any]) -> str:
    """Return what the first score counts as right, for the limits of the page."""
    kind = next(iter(source), "")
    if kind == "file":
        return f"{primary} is what {source['file']} returns; nothing else checks an answer."
    return _RIGHT.get(
        kind, f"{primary} is {_SCORES.get(kind, 'a score of the run')}; nothing else checks an answer."
    )


def _unscored(run: Run) -> list[dict[str, Any]]:
    """Return a row for each of the commonest reasons: its meaning, number of rows and first case by id."""
    import polars as pl

    errors = run.cases.drop_nulls("error").with_columns(reason=pl.col("error").str.split(":").list.first())
    found = errors.group_by("reason").agg(pl.len(), pl.col("case", "error").first())
    rows = found.sort("len", "reason", descending=[True, False]).head(_MOST_REASONS).to_dicts()
    return [
        {
            "reason": one_line(row["reason"]),
            "meaning": _REASONS.get(row["reason"], "the task or a scorer raised this error"),
            "rows": row["len"],
            "case": row["case"],
            "message": one_line(row["error"].partition(":")[2]),
        }
        for row in rows
    ]


def _by_tenant(tenants: Mapping[str, Metric]) -> str:
    shown = (f"{name} {number(m.value)} {span(m.interval)}".strip() for name, m in tenants.items())
    return "; ".join(shown) if len(tenants) > 1 else ""


def _arm(run: Run, primary: str, level: float, change: ComparedMetric | None, role: str) -> dict[str, Any]:
    """Return one row of the arms.

    `change` is the difference of an explored arm from the judged run; it is no verdict on the arm.
    """
    metric = run.metric(primary, level)
    return {
        "name": run.arm,
        "role": role,
        "judged": role == "judged",
        "value": number(metric.value),
        "interval": span(metric.interval),
        "n": metric.n,
        "unscored": run.n_unscored,
        "prompt": run.settings.get("prompt", ""),
        "change": _change(change, role),
    }


def _standing(line: ComparedMetric) -> str:
    """Return how an arm stands beside the judged run, without better or worse."""
    if line.verdict in {"better", "worse"}:
        return "higher" if line.effect > 0 else "lower"
    return "the same on every case" if line.verdict == "same" else "no sure difference"


def _change(line: ComparedMetric | None, role: str) -> str:
    """Return the difference from the judged run in words; of a control, whether it is as expected."""
    if line is None:
        return ""
    word = _standing(line)
    if role == "control":
        word = "control, as expected" if word == "lower" else f"control, not as expected: {word}"
    return f"{line.effect:+.3g} {span(line.interval, signed=True)}: {word}"


def _p(value: float | None) -> str:
    """Return a p-value in three decimals, "" without one."""
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _amount(run: Run, level: float) -> dict[str, Any]:
    """Return cost, tokens and seconds of an arm for each case; "none" for an arm that asks no model."""
    asks = bool(run.cases["calls"].sum())

    def mean(column: str) -> str:
        value = run.cases[column].mean()
        known = value is not None and not math.isnan(float(value))  # type: ignore[arg-type]
        return number(round(float(value), 3)) if known else "unknown" if asks else "none"  # type: ignore[arg-type]

    return {
        "name": run.arm,
        "cost": number(run.metric("cost_usd_per_case", level).value),
        "input": mean("input_tokens"),
        "output": mean("output_tokens"),
        "latency": mean("latency_s"),
        "p95": number(run.metric("latency_p95_s", level).value),
        "total": int(run.cases["input_tokens"].sum()) + int(run.cases["output_tokens"].sum()),
    }


def _tenants(evidence: Evidence, judged: Run) -> Sequence[dict[str, Any]]:
    """Return the rows of the memory and the number of cases of each tenant."""
    entries = evidence.memory.get("tenants", {})
    asked = judged.cases.group_by("tenant").len().sort("tenant").rows()
    cases = dict(asked)
    names = sorted({*entries, *cases})
    return [
        {"name": name, "rows": entries.get(name, {}).get("rows", 0), "cases": cases.get(name, 0)}
        for name in names
    ]
