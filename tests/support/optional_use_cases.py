"""Use cases without memory, prompt, pages and accepted answers: one classifies, one extracts, one writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from small_use_case import ROOT, notebook, write

from workbench.promotion import release

PUBLISH = "ws.publish(answer.map(ws.inputs(inputs)), 'answers')"
HEAD = """import json
from dataclasses import dataclass

import workbench as wb

ws = wb.connect("NAME")


@dataclass(frozen=True)
class Message:
    text: str


"""
CLASSIFY = """@dataclass(frozen=True)
class Route:
    label: str


@wb.task
def answer(ws, case: Message) -> Route:
    return Route(label=ws.model().chat(f"Label: {case.text}").text)"""
EXTRACT = """@dataclass(frozen=True)
class Invoice:
    amount: str
    due: str


@wb.task
def answer(ws, case: Message) -> Invoice:
    return Invoice(**json.loads(ws.model().chat(f"Fields: {case.text}").text))"""
WRITE = """@wb.task
def answer(ws, case: Message) -> str:
    return ws.model().chat(f"Reply: {case.text}").text"""
POLITE = """import workbench as wb


def score(outcome: wb.Outcome) -> float | None:
    return float("thank you" in outcome.text.lower())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of use case: its task, its rows, its keys of params.yaml and the cells of its exploration."""

    task: str
    rows: tuple[dict[str, str], ...]
    expected: tuple[str, ...]
    gate: dict[str, Any]
    scorers: dict[str, Any] | None = None
    explored: str = 'scorers = [wb.exact(name="accuracy", answers="label")]'


KINDS = {
    "classify": Kind(
        task=CLASSIFY,
        rows=(
            {"text": "The bill is too high.", "label": "billing"},
            {"text": "The screen is broken.", "label": "hardware"},
            {"text": "The bill came twice.", "label": "billing"},
        ),
        expected=("label",),
        gate={"accuracy": {"min": 0.1}},
    ),
    "extract": Kind(
        task=EXTRACT,
        rows=(
            {"text": "Pay 12.50 by May.", "amount": "12.50", "due": "May"},
            {"text": "Pay 7 by June.", "amount": "7", "due": "June"},
            {"text": "Pay 30 by July.", "amount": "30", "due": "August"},
        ),
        expected=("amount", "due"),
        gate={"amount": {"min": 0.1}, "due": {"min": 0.05}},
        explored='scorers = [wb.exact(name="amount", answers="amount")]',
    ),
    "write": Kind(
        task=WRITE,
        rows=({"text": "I moved."}, {"text": "I paid."}, {"text": "I wait."}),
        expected=(),
        gate={"polite": {"min": 0.1}},
        scorers={"polite": "pipelines/scorers/polite.py"},
        explored=(
            "def polite(outcome):\n"
            '    return float("thank you" in outcome.text.lower())\n\n\n'
            "scorers = [wb.scorer(polite)]"
        ),
    ),
}


def answered(payload) -> str:
    """The answer to the last message, as a model of these tasks gives it."""
    kind, _, text = payload["messages"][-1]["content"].partition(": ")
    if kind == "Label":
        return "Billing." if "bill" in text else "hardware"
    if kind == "Fields":
        amount, due = text.removeprefix("Pay ").removesuffix(".").split(" by ")
        return json.dumps({"amount": amount, "due": due})
    return f"Thank you. You wrote: {text}"


def add(folder: Path, kind: str, *, endpoint: str) -> None:
    """Add the use case of this kind, named after it, to the repository in `folder`."""
    made = KINDS[kind]
    params = folder / "params.yaml"
    whole = yaml.safe_load(params.read_text()) if params.exists() else {"use_cases": {}}
    case = {
        "title": f"To {kind}", "purpose": "To need no memory.", "owner": "tests", "phase": "mvp",
        "notebook": f"notebooks/{kind}.ipynb", "tenants": ["acme"], "data": f"data/{kind}",
        "model": "smollm2-135m", "provider": "openai", "base_url": endpoint,
        "price_per_million": {"input_usd": 0}, "report": f"reports/{kind}",
        "dataset": {
            "file": f"data/{kind}/cases.jsonl", "inputs": ["text"], "expected": list(made.expected),
        },
        "gates": {"mvp": {**made.gate, "cases": {"min": 3}, "confidence": 0.9}},
    }  # fmt: skip
    whole["use_cases"][kind] = case | ({"scorers": made.scorers} if made.scorers else {})
    jobs = {"use_case": kind, "sample": f"data/{kind}/sample.jsonl"}
    whole["jobs"] = {**whole.get("jobs", {}), kind: jobs}
    params.write_text(yaml.safe_dump(whole, sort_keys=False))
    rows = [{"id": f"c{n}", "tenant": "acme", **row} for n, row in enumerate(made.rows)]
    write(folder, f"data/{kind}/cases.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    sample = [{key: row[key] for key in ("id", "tenant", "text")} for row in rows[:2]]
    write(folder, f"data/{kind}/sample.jsonl", "".join(json.dumps(row) + "\n" for row in sample))
    explore = f'{made.explored}\nws.experiment().run(answer, ws.cases(), arm="again", scorers=scorers)'
    cells = (
        (["parameters"], 'inputs = ""'),
        ([], HEAD.replace("NAME", kind) + made.task),
        (["explore"], explore),
        ([], PUBLISH),
    )
    write(folder, f"notebooks/{kind}.ipynb", notebook(cells=cells))


def plain_repository(folder: Path, *kinds: str, endpoint: str) -> Path:
    """Write a repository of these use cases into `folder`; it has no prompt and no memory."""
    folder.mkdir()
    shutil.copytree(ROOT / "pipelines/models", folder / "pipelines/models")
    for kind in kinds:
        add(folder, kind, endpoint=endpoint)
    write(folder, "pipelines/scorers/polite.py", POLITE)
    release.write_stages(folder)
    return folder
