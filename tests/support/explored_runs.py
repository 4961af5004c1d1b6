"""Two runs over one dataset, with what a workspace adds, for the tests of the explorer of cases."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from made_runs import made_of

from workbench.display import Card
from workbench.experiments.case_context import CaseContext
from workbench.experiments.case_notes import CaseNote, add_note, content_digest, read_notes
from workbench.experiments.compare import compare_all
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.experiment import ComparedRuns
from workbench.experiments.kept_attempts import KeptAttempts
from workbench.types import Hit

AMOUNTS = {"latency_s": 0.5, "cost_usd": 0.001, "input_tokens": 200, "output_tokens": 10, "calls": 1}


@dataclass
class Verbs:
    """The verbs of a workspace, whose calls are kept in a list."""

    root: Path
    asked: list = field(default_factory=list)

    def why(self, tenant, trace, *, text, passages):
        self.asked.append((tenant, trace, text, len(passages)))
        return Told(trace)

    def note(self, case, reason):
        note = CaseNote(
            case=case.id, tenant=case.tenant, digest=content_digest(case), reviewer="ann",
            at="2026-11-24T06:00:00Z", reason=reason,
        )  # fmt: skip
        return add_note(self.root, "answers", note)

    def notes(self):
        return read_notes(self.root, "answers")


class Told:
    """What an explanation shows."""

    def __init__(self, trace):
        self.trace = trace

    def card(self):
        return Card(title=f"call {self.trace}", head=("", ""), rows=[("model", "small")])


def dataset(n=6, question="How long is the holiday of year {}?"):
    cases = [
        Case(
            id=f"q{i:04}", tenant=("acme", "globex")[i % 2], inputs={"question": question.format(i)},
            expected={"answers": [f"{20 + i} days"], "page": "holiday"}, provenance={"author": "ann"},
        )
        for i in range(n)
    ]  # fmt: skip
    return Dataset(name="questions", cases=tuple(cases))


def hit(text, source="holiday"):
    return Hit(
        id="h1", text=text, source=source, title="t", version=2, score=0.5, tenant="acme", as_of="2026-11-01",
        stale=False, digest="0" * 64, memory="handbook",
    )  # fmt: skip


def explored(arm, scores, cases, *, verbs=None, answers=None, repeats=1):
    """A run with a score of `accuracy` for each case (None: unscored), as an experiment makes it."""
    rows, kept = [], KeptAttempts()
    for case, score in zip(cases, scores, strict=True):
        for repeat in range(repeats):
            failed = score is None
            text = (answers or {}).get(case.id, f"It is {case.id[-1]} days in {arm}.")
            rows.append(
                {
                    "case": case.id, "repeat": repeat, "tenant": case.tenant,
                    "status": "unscored" if failed else "scored",
                    "error": "truncated: the answer was cut" if failed else None,
                    "output": None if failed else json.dumps({"text": text}, ensure_ascii=False),
                    "sources": [] if failed else ["holiday"], "score.accuracy": score, **AMOUNTS,
                }
            )  # fmt: skip
            record = {"port": "model", "operation": "chat", "trace_id": f"{arm}-{case.id}"}
            passage = f"The holiday has {20 + int(case.id[1:])} days. " + case.inputs["question"]
            kept.keep(case.id, repeat, [record], [hit(passage)])
    run = made_of(arm, rows, ["accuracy"], dataset=cases.digest)
    return replace(run, context=CaseContext(dataset=cases, kept=kept, verbs=verbs))


def compared(root, *, old=(1, 1, 0, 0, 1, None), new=(1, 0, 1, 0, 1, 1), **how):
    """The result of an experiment with the arms old and new over six cases, below a repository `root`."""
    cases, verbs = how.pop("cases", None) or dataset(len(old)), Verbs(root)
    runs = {"old": explored("old", old, cases, verbs=verbs, **how)}
    runs["new"] = explored("new", new, cases, verbs=verbs, **how)
    return ComparedRuns(runs=runs, comparison=compare_all([runs["new"]], baseline=runs["old"]))
