"""A second, small use case beside the first: what a new prompt version reruns, asks and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench import layout, wire
from workbench.workspace.boundary import open_tape

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARAMS = """
  small:
    title: A small use case
    purpose: To see what reruns.
    owner: tests
    phase: mvp
    notebook: notebooks/small.ipynb
    tenants: [acme]
    groups: [everyone]
    data: data/little
    as_of: "2026-11-01"
    memory: {name: little, version: 1}
    prompt: {name: brief, version: 1}
    model: smollm2-135m
    report: reports/small
    gates:
      mvp: {accuracy: {min: 0.05}, cases: {min: 2}, confidence: 0.9}
"""
TASK = """import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    hits = ws.memory().search(case.question, k=1)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits), max_tokens=16)"""
RUN = """scorers = [wb.contains(name="accuracy")]
ws.experiment().run(answer, ws.cases(), arm="candidate", scorers=scorers)"""
PUBLISH = 'ws.publish(answer.map(ws.inputs(inputs)), "answers")'
CELLS = ((["parameters"], 'inputs = ""'), ([], TASK), (["explore"], RUN), ([], PUBLISH))
SETUP = """
from pathlib import Path
from workbench import registry
root = Path()
questions = root / "data/handbook/questions.jsonl"
own = '"tenant": "acme"', '"page": "travel-expenses"'
few = [line for line in questions.read_text().splitlines(keepends=True) if all(map(line.__contains__, own))]
assert len(few) == 2
Path("data/little").mkdir()
Path("data/little/questions.jsonl").write_text("".join(few))
for page in Path("data/handbook/acme").glob("travel*.md"):
    target = Path("data/little/acme") / page.name
    target.parent.mkdir(exist_ok=True)
    target.write_text(page.read_text())
spec = (root / "pipelines/memories/handbook/2.yaml").read_text()
spec = spec.replace("data/handbook", "data/little")
registry.save_version(root, "memory", "little", spec.encode(), author="t", reason="small", parent=None)
text = (root / "pipelines/prompts/answer/2.prompty").read_text().replace("name: answer", "name: brief")
text = text.replace("parent: 1\\n", "")
registry.save_version(root, "prompt", "brief", text.encode(), author="t", reason="small", parent=None)
"""
SAVE = """
import workbench as wb
draft = wb.connect("small").prompt("brief").edit(system="Answer in one short sentence.")
print(draft.save(reason="shorter").reference)
"""


def notebook() -> str:
    cells = [
        {
            "cell_type": "code", "execution_count": None, "id": f"c{n}", "outputs": [],
            "metadata": {"tags": tags} if tags else {}, "source": source.splitlines(keepends=True),
        }
        for n, (tags, source) in enumerate(CELLS)
    ]  # fmt: skip
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return json.dumps(
        {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    )


def stages_of(said: str) -> str:
    """The stages that ran, but `settings`, which reads the prompts and memories of all use cases."""
    lines = [line for line in said.splitlines() if line.startswith("Running stage")]
    return "".join(line + "\n" for line in lines if "'settings@" not in line)


def test_a_new_prompt_version_reruns_its_use_case_only_and_extends_its_tape(reproduced_clone):
    clone = reproduced_clone.folder
    clone.joinpath("notebooks/small.ipynb").write_text(notebook())
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("use_cases:\n", "use_cases:" + PARAMS, 1))
    reproduced_clone.run("python", "-c", SETUP)
    for name in ("small", "small.judge"):
        clone.joinpath(f"pipelines/tapes/{name}.jsonl").touch()
    others = tapes_of(clone, "answers")
    beside = stages_of(reproduced_clone.run("dvc", "repro", network=False))
    assert "judge@small" in beside and "experiment@small" in beside and "@answers'" not in beside
    first = answers_of(clone)
    assert len(first) == 2

    assert "brief@2" in reproduced_clone.run("python", "-c", SAVE)
    params.write_text(params.read_text().replace("{name: brief, version: 1}", "{name: brief, version: 2}"))
    targets = ("experiment@small", "plots@answers", "report@answers")  # the page of `small` was made above
    again = stages_of(reproduced_clone.run("dvc", "repro", *targets, network=False))
    assert "judge@small" in again and "experiment@small" in again and "@answers'" not in again
    second = answers_of(clone)
    assert len(second) == 2 and not second.keys() & first.keys(), "the tape is pruned to what is judged"
    assert tapes_of(clone, "answers") == others
    assert not (clone / layout.JOURNAL).exists(), "the experiment had nothing to ask"


def tapes_of(clone: Path, name: str) -> list[bytes]:
    return [(clone / path(name)).read_bytes() for path in (layout.judge_tape_of, layout.tape_of)]


def answers_of(clone: Path) -> dict[str, str]:
    """The judge's recorded answers by key; the experiment, which has no other arm, has none of its own."""
    assert not open_tape(clone / layout.tape_of("small"))
    entries = open_tape(clone / layout.judge_tape_of("small")).entries()
    return {entry.key: wire.text_of(wire.fold(entry.events())) for entry in entries}


def test_two_lines_of_params_send_it_to_another_endpoint(fresh_clone):
    """`provider` and `base_url`, and a key in the environment; a closed port is one clear error."""
    params = fresh_clone.folder / "params.yaml"
    text = params.read_text().replace(
        "    model: smollm2-135m\n",
        "    model: smollm2-135m\n    provider: openai\n    base_url: http://127.0.0.1:9/v1\n",
        1,
    )
    params.write_text(text)
    code = (
        "import workbench as wb; ws = wb.connect('answers'); ws.boundary.replay.mode = 'live'; "
        "print(ws.model().card.base_url); import workbench.workspace.boundary as b; "
        "ws.model().chat('hello')"
    )
    said = fresh_clone.run("python", "-c", code, code=1, OPENAI_API_KEY="k-123", timeout=120)
    assert "http://127.0.0.1:9/v1" in said and "UnavailableError" in said and "k-123" not in said


def test_the_same_use_case_runs_on_another_openai_compatible_endpoint(fresh_clone):
    """A real one: the embedded model's own server, reached as a stranger's would be, with a key."""
    code = """
import asyncio
from pathlib import Path
import workbench as wb
from workbench import _sync
from workbench.models import load_card, open_model

root = Path()
card = load_card(root, "smollm2-135m")
server = open_model(card, root)
hello = [{"role": "user", "content": "Say hello."}]
asked = {"model": card.model, "messages": hello, **card.wire_defaults()}

async def once():
    return [event async for event in server.chat(asked)]

_sync.run(once())
address = next(iter(server._pool.servers)).model.base_url
params = root / "params.yaml"
lines = f"    model: smollm2-135m\\n    provider: openai\\n    base_url: {address}\\n"
params.write_text(params.read_text().replace("    model: smollm2-135m\\n", lines, 1))
local = wb.connect("answers")
assert local.model().card.base_url == address
reply = local.model().chat("Say hello.")
said = local.openai().chat.completions.create(model="smollm2-135m", messages=hello, max_tokens=64)
same, outcomes = reply.text == said.choices[0].message.content, local.calls()["outcome"].to_list()
print("SAID", same, reply.cost_usd, outcomes)
local.close()
_sync.run(server.aclose())
"""
    said = fresh_clone.run("python", "-c", code, network=False, OPENAI_API_KEY="k-123")
    assert "SAID True None ['ok', 'ok']" in said
