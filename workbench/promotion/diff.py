"""Differences between two versions, as rows of a card: (what, live, new)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench import files, registry
from workbench.display import number, span
from workbench.errors import WorkbenchError
from workbench.experiments.compare import check_pair
from workbench.experiments.gates import GateReport
from workbench.experiments.pairs import Pairs
from workbench.experiments.runs import Run
from workbench.jobs.spec import JobSpec
from workbench.promotion.requirements import Draft
from workbench.registry import Asset

Rows = list[tuple[str, str, str]]


def entry_rows(asset: Asset, now: int | None, new: int) -> Rows:
    """Return the number, reason and author of two versions, as `asset.yaml` records them."""
    old = asset.versions.get(now) if now is not None else None
    entry = asset.versions[new]
    return [
        ("version", "none" if now is None else str(now), str(new)),
        ("reason", old.reason if old else "", entry.reason),
        ("author", old.author if old else "", entry.author),
    ]


def lines_of(root: Path, asset: Asset, now: int | None, new: int) -> Iterator[str]:
    """Yield the first twenty lines of the unified diff between two versions of a spec."""
    if now is None:
        return
    old, changed = (
        files.read_text(registry.path_of(root, asset.kind, asset.name, n)).splitlines() for n in (now, new)
    )
    lines = list(difflib.unified_diff(old, changed, lineterm="", n=0))[2:]
    yield from lines[:20]
    if len(lines) > 20:
        yield f"… and {len(lines) - 20} more lines"


def spec_rows(live: JobSpec | None, new: JobSpec) -> Rows:
    """Compare every part of a job with the live version; an equal part reads "the same"."""
    kinds = {**(live.pins if live else {}), **new.pins}
    pairs = [
        ("code", _code(live), _code(new)),
        ("task", live.task_digest[:12] if live else "", new.task_digest[:12]),
        *((kind, _pin(live, kind), _pin(new, kind)) for kind in kinds),
        ("snapshot", _snapshot(live), _snapshot(new)),
        ("lock", live.digests["lock"][:12] if live else "", new.digests["lock"][:12]),
        *_parameter_rows(live, new),
        ("schedule", _schedule(live), _schedule(new)),
        ("input", (live.input or "none") if live else "", new.input or "none"),
        ("limits", _limits(live), _limits(new)),
    ]
    return [
        (what, before, "the same" if live and before == after else after) for what, before, after in pairs
    ]


def _pin(spec: JobSpec | None, kind: str) -> str:
    return "" if spec is None else spec.pins.get(kind, "none")


def _snapshot(spec: JobSpec | None) -> str:
    if spec is None:
        return ""
    return spec.digests["memory"][:12] if "memory" in spec.pins else "none"


def _code(spec: JobSpec | None) -> str:
    return "" if spec is None else f"{spec.code.get('workbench', spec.commit)[:12]}"


def _schedule(spec: JobSpec | None) -> str:
    if spec is None:
        return ""
    return f"{spec.schedule.cron} {spec.schedule.timezone}" if spec.schedule else "none"


def _limits(spec: JobSpec | None) -> str:
    return "" if spec is None else f"{spec.limits.seconds} s, {spec.limits.broken:.0%} broken"


def _parameter_rows(live: JobSpec | None, new: JobSpec) -> Rows:
    """Return the parameters and the arm's settings that are added, removed or changed."""
    rows = []
    for kind, before, after in (
        ("parameter", live.values() if live else {}, new.values()),
        ("setting", live.arm if live else {}, new.arm),
    ):
        for name in sorted(before.keys() | after.keys()):
            then, now = (
                files.canonical(values[name]).decode() if name in values else "" for values in (before, after)
            )
            rows += [(f"{kind} {name}", then, now)] if then != now else []
    return rows


def gate_rows(gate: GateReport, run: Run, then: Run | None) -> Rows:
    """Compare each gate metric and the cost per case with the live version's judged run."""
    names = [line.metric for line in gate.lines if not line.rule.startswith("worst slice ")]
    names += ["cost_usd_per_case"] if "cost_usd_per_case" not in names else []
    return [(name, _measured(then, name), _measured(run, name) + _effect(run, then, name)) for name in names]


def _measured(run: Run | None, name: str) -> str:
    if run is None:
        return ""
    try:
        found = run.metric(name)
    except WorkbenchError:
        return "not measured"
    return f"{number(found.value)} {span(found.interval)}".strip()


def _effect(run: Run, then: Run | None, name: str) -> str:
    """Return the paired effect on the live version, with its interval; "" without common cases."""
    if then is None or name == "cases":
        return ""
    try:
        check_pair(run, then)
        pairs = Pairs.of(run, then, name)
    except WorkbenchError:
        return "  (other cases)"
    if not pairs.n or pairs.effect is None:
        return ""
    return f"  ({pairs.effect:+.3g} {span(pairs.interval(level=0.9), signed=True)})"


def freezes(draft: Draft, counts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return notes on the files that the version freezes and on the clean run's counts."""
    names = ", ".join(name for name in draft.spec.files if not name.startswith("evidence/"))
    notes = [f"freezes {names or 'the notebook, its specs, its sample and its tape'}"]
    if counts:
        notes.append(f"ran clean alone: {counts['answered']} of {counts['rows']} sample rows answered")
    return tuple(notes)
