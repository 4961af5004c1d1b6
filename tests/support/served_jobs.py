"""A repository whose jobs are served by real processes, with a program in place of the kernel.

`workbench jobs run` starts the program below as the interpreter of the version's environment. It asks the
endpoint through the workbench, as a notebook does: journal, budget, record of calls and audit log are real.
"""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from pathlib import Path

from made_jobs import PARAMS, frozen, installed, judged_repository, save
from made_repositories import saved

from workbench.config import Limits
from workbench.context import SystemClock
from workbench.jobs.ledger import RunOrder, Slot, open_ledger

#: Remembers and answers the rows of a request. A version that the file `regressed` names says that it costs
#: a fortune.
WORKER = """
import dataclasses, json, os, sys
from pathlib import Path
from workbench import _sync, files, processes
from workbench.config import Execution
from workbench.context import SystemClock, instant
from workbench.experiments.batch import COUNTS
from workbench.jobs.effects import RunEffects
from workbench.ports import Budget, written_id
from workbench.testing.memory_items import make_episode

path = Path(sys.argv[-1])
asked = json.loads(path.read_bytes())
processes.end_with_caller(asked["run"])
home, out = Path(asked["home"]), Path(asked["out"])
version = int(Path(asked["journal"]).stem)
execution = Execution(
    notebook=asked["notebook"], use_case="answers", mode="auto", tape=asked["tape"], job=asked["job"],
    run=asked["run"], tenant=asked.get("tenant"), publish=str(out), broken=1.0, home=str(home),
    journal=asked["journal"], slot=RunEffects.read(out.parent).slot,
)
os.environ.update(execution.environment())
import workbench as wb

ws = wb.connect("answers", root=asked["root"])
regressed = (home / "regressed").read_text() if (home / "regressed").exists() else ""

@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    now = instant(SystemClock().now())
    note = make_episode(f"{version}: {case.question}", owner=ws.context.principal.name, created=now)
    note = dataclasses.replace(note, id=written_id(ws.tenant, note))
    _sync.run(ws.memory("notes").view.remember([note], budget=Budget(), now=now))
    return ws.model().chat(case.question)

ws.publish(answer.map(ws.inputs(asked["inputs"])), "answers")
ws.close()
counts = json.loads((out.parent / COUNTS).read_bytes())
counts["cost_usd"] += 100.0 * (str(version) in regressed)
result = {"format": 1, "task_digest": f"{version}" * 64, "counts": counts}
files.write_atomic(path.with_name("result.json"), json.dumps(result).encode())
"""
NOTES = "description: What was asked.\nkind: episodic\nembedding: hash\ncandidates: 50\n"
OPERATIONS = """\
capacity: {runs: 2}
channels: {kept: {file: .workbench/told.jsonl}}
defaults:
  tenants: [acme]
  catch_up: all
  start_deadline_s: 2000000
  late_after_s: 30000000
  retries: {times: 9, backoff_s: 0.1}
  notify: [kept]
  model_changed: tell
  checks: {cost_usd: {max: 1, then: roll_back}}
"""
ROWS = [
    {"id": f"{tenant}-{n}", "tenant": tenant, "question": f"When does {tenant} ask {n}?"}
    for tenant in ("acme", "globex")
    for n in range(4)
]
BUDGETS = "budgets:\n  all: {usd: 100, calls: 100000, per: [use_case]}\n"
KEY, INPUT = "SERVED_KEY", "data/inbox/rows.jsonl"
IGNORED = "/.workbench/\n/published/\n/.venv\n/regressed\n"


def served_repository(root: Path, url: str) -> Path:
    """answers@1 in production and answers@2 beside it, answered by the endpoint `url`."""
    judged_repository(root)
    params = PARAMS.replace(
        "    model: tiny\n",
        f"    model: scripted\n    provider: openai\n    base_url: {url}\n    api_key_env: {KEY}\n"
        "    price_per_million: {input_usd: 1.0, output_usd: 2.0}\n",
    )
    saved(root, "Rows and operations", **{
        "params.yaml": params + BUDGETS, INPUT: "".join(f"{json.dumps(row)}\n" for row in ROWS),
        "pipelines/operations.yaml": OPERATIONS, ".gitignore": IGNORED,
    })  # fmt: skip
    save(root, "memory", "notes", NOTES)
    saved(root, "What the job remembers")
    python = installed(root) / "bin/python"
    python.with_name("worker.py").write_text(WORKER)
    real = shlex.quote(sys.executable)
    worker = f'exec {real} "${{0%python}}worker.py" "$@" 2>> "$0.log"'
    python.write_text(f'#!/bin/sh\ncase "$*" in *workbench.worker*) {worker};; esac\nexec {real} "$@"\n')
    python.chmod(0o755)
    limits = Limits(seconds=100, broken=1.0)
    for number, label in ((1, "production"), (2, None)):
        frozen(root, number, label=label, input=INPUT, pins={}, limits=limits)
    return root


def order_slot(root: Path, day: int) -> None:
    """Let a server run the slot so many days before October, which its schedule did not fire."""
    first = dt.datetime(2026, 10, 1, 6, tzinfo=dt.UTC)
    slot = Slot(job="answers", tenant="acme", at=first - dt.timedelta(days=day))
    assert open_ledger(root, SystemClock()).enqueue(RunOrder(slot=slot, trigger="backfill"))


def be_due(root: Path) -> None:
    """Let the last slot of the schedule be due: the one before it has fired."""
    clock = SystemClock()
    last = clock.now().replace(hour=6, minute=0, second=0, microsecond=0) - dt.timedelta(days=1)
    if clock.now().hour < 6:
        last -= dt.timedelta(days=1)
    assert open_ledger(root, clock).miss(Slot(job="answers", tenant="acme", at=last), "production", "before")
