"""A repository with one small use case on the code of this checkout: its stages take seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from workbench import config, registry
from workbench.pipeline.repro import make_tapes
from workbench.promotion import release

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "notebooks/small.ipynb"
PARAMS = """\
use_cases:
  small:
    title: A small use case
    purpose: To see what happens.
    owner: tests
    phase: mvp
    notebook: notebooks/small.ipynb
    tenants: [acme]
    data: data/small
    as_of: "2026-11-01"
    memory: {name: small, version: 1}
    prompt: {name: brief, version: 1}
    model: MODEL
    candidate: candidate
    concurrency: 2
    seed: 7
    report: reports/small
    gates:
      mvp: {accuracy: {min: 0.05}, cases: {min: 2}, confidence: 0.9}
      mlvp: {accuracy: {min: 0.05}, cases: {min: 3}, confidence: 0.9}
"""
TASK = """import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    hits = ws.memory().search(case.question)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits))"""
RUN = """for tenant in ws.cases().tenants:
    ws.bind(tenant=tenant).memory().add(wb.load("data/small"))
scorers = [wb.contains(name="accuracy")]
arms = {"plain": {"task": answer}, "candidate": {}}
ws.experiment().compare(answer, ws.cases(), arms=arms, scorers=scorers)"""
PUBLISH = 'ws.publish(answer.map(ws.inputs(inputs)), "answers")'
CELLS = ((["parameters"], 'k = 1\ninputs = ""'), ([], TASK), (["explore"], RUN), ([], PUBLISH))
PAGES = {
    "taxi": "A taxi is paid after ten at night. Keep the receipt and hand it in within 30 days.",
    "hotel": "A hotel room may cost 135 euros a night. Breakfast is paid in addition.",
}
QUESTIONS = (
    ("q1", "taxi", "Within how many days is a receipt handed in?", "30 days"),
    ("q2", "hotel", "What may a hotel room cost?", "135 euros"),
    ("q3", "taxi", "After which hour is a taxi paid?", "ten at night"),
    ("q4", "hotel", "Is breakfast paid?", "in addition"),
)


def small_repository(folder: Path, *, model: str = "smollm2-135m", endpoint: str = "") -> Path:
    """Write the repository into `folder`; `endpoint` is where its model is asked instead."""
    moved = (
        f"{model}\n    provider: openai\n    base_url: {endpoint}\n    price_per_million: {{input_usd: 0}}"
    )
    write(folder, "params.yaml", PARAMS.replace("MODEL", moved if endpoint else model))
    write(folder, NOTEBOOK, notebook())
    for name, text in PAGES.items():
        write(folder, f"data/small/acme/{name}.md", page(name, text))
    rows = [{"id": n, "tenant": "acme", "question": q, "page": p, "answers": [a]} for n, p, q, a in QUESTIONS]
    write(folder, "data/small/questions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(ROOT / "pipelines/models", folder / "pipelines/models")
    memory = (ROOT / "pipelines/memories/handbook/2.yaml").read_text().replace("data/handbook", "data/small")
    prompt = (ROOT / "pipelines/prompts/answer/2.prompty").read_text()
    prompt = prompt.replace("name: answer", "name: brief").replace("parent: 1\n", "")
    for kind, name, text in (("memory", "small", memory), ("prompt", "brief", prompt)):
        registry.save_version(folder, kind, name, text.encode(), author="t", reason="small", parent=None)
    release.write_stages(folder)
    return folder


def with_pipeline(folder: Path) -> Path:
    """Give a small repository git, DVC and what its stages depend on."""
    copied = (".dvc/config", ".dvc/.gitignore", ".dvc/plots/intervals.json", ".dvcignore", ".gitignore")
    for name in ("dvc.yaml", *copied, "locks/workbench.lock"):
        write(folder, name, (ROOT / name).read_text())
    for name in ("workbench", "pipelines/scorers", "pipelines/policies"):
        shutil.copytree(ROOT / name, folder / name)  # compiled as it is, or each copy would compile it again
    make_tapes(folder, config.load_params(folder))
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def write(folder: Path, name: str, text: str) -> None:
    """Write a file, its folder included."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def page(name: str, text: str) -> str:
    """A page of the memory."""
    front = (
        f"title: {name}\ntenant: acme\nversion: 1\naccess: [everyone]\nvalid_from: 2025-01-01\n"
        "expires: null\nowner: tests\nsynthetic: true\nauthor: tests\ngenerator_version: 1\nseed: 0\n"
    )
    return f"---\n{front}---\n\n{text}\n"


def notebook(*, cells: tuple = CELLS) -> str:
    """A notebook of these cells: tags and source."""
    made = [
        {
            "cell_type": "code", "execution_count": None, "id": f"c{n}", "outputs": [],
            "metadata": {"tags": tags} if tags else {}, "source": source.splitlines(keepends=True),
        }
        for n, (tags, source) in enumerate(cells)
    ]  # fmt: skip
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
