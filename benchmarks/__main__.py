"""The ratios of docs/benchmarks.md, measured in one run: `make bench`. Nothing is asserted.

With `--write` the tables of docs/benchmarks.md are replaced by what was measured. A name of `PARTS` chooses a
table; without a name all are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

import workbench as wb
from benchmarks import audit, controls, gateway, jobs, memory, moderation, policy, privacy
from benchmarks import boundary as boundary_costs
from benchmarks.measuring import ROOT, Row, alternating, clone, nothing_to_do, run, timed
from benchmarks.promotion import going_back, job_run, judging, twenty_jobs
from benchmarks.wire_format import reading_answers
from workbench.config import Execution
from workbench.controls import stack
from workbench.controls.replay import Replay
from workbench.notebooks.execution import execute
from workbench.records.journal import Journal
from workbench.records.keys import processor
from workbench.workspace import boundary
from workbench.workspace.connection import connect

VENDORS = ("aiohttp", "dvc", "openai", "papermill", "polars", "numpy", "weaviate", "wordllama", "xllamacpp")
NOTEBOOK = """{"cells": [
 {"cell_type": "code", "execution_count": null, "id": "p", "metadata": {"tags": ["parameters"]}, "outputs": [], "source": "x = 1"},
 {"cell_type": "code", "execution_count": null, "id": "c", "metadata": {}, "outputs": [], "source": "print(x + 1)"}],
 "metadata": {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}},
 "nbformat": 4, "nbformat_minor": 5}"""  # noqa: E501


def importing() -> Row:
    """`import workbench`, over an interpreter that imports nothing; and which vendors it loads."""
    with_it, without = alternating(
        lambda: run(sys.executable, "-c", "import workbench"),
        lambda: run(sys.executable, "-c", "pass"),
        rounds=15,
    )
    code = f"import sys, workbench; print([v for v in {VENDORS!r} if v in sys.modules])"
    loaded = run(sys.executable, "-c", code).strip()
    return (
        "`import workbench`",
        f"{(with_it - without) * 1000:.0f} ms; vendors loaded: {loaded}",
        "<= 100 ms, none",
    )


@wb.task
def answer(ws: wb.Workspace, case: wb.Question) -> wb.Answer:
    """The task of the first notebook."""
    hits = ws.memory().search(case.question, k=5)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits[:1]))


def replaying() -> Row:
    """An experiment over 20 cases, searches and scores included, replayed and asked."""
    live, replay = (connect("answers", root=ROOT, mode=mode) for mode in ("live", "replay"))
    cases = live.cases().sample(20, seed=1)
    for ws in (live, replay):
        for tenant in cases.tenants:
            ws.bind(tenant=tenant).memory().add(wb.load("data/handbook", root=ROOT))
        ws.bind(tenant=cases.tenants[0]).memory().search("taxi")  # loads the embedding

    def experiment(ws: wb.Workspace) -> float:
        scorers = [wb.contains(name="accuracy"), wb.recall_at(5)]
        return timed(lambda: ws.experiment("benchmark").run(answer, cases, scorers=scorers))

    live.model().chat("Hello.", max_tokens=1)  # starts the server
    asked, replayed = experiment(live), min(experiment(replay) for _ in range(3))
    live.close()
    return "replaying an experiment of 20 cases against asking", f"{asked / replayed:.0f}x faster", ">= 20x"


def replay_hit() -> Row:
    """One hit in the replay control: key, look-up, events."""
    ws = connect("answers", root=ROOT, mode="replay")
    tape = boundary.recorded_tape(ROOT, "answers")
    from workbench.context import InvocationScope, invocation_scope
    from workbench.ports import Call

    entries = [entry for entry in tape.entries() if entry.question.case][:500]
    calls = [
        Call(
            port="model", operation="chat", target=e.target, payload=e.question.request, context=ws.context,
            identity=e.question.identity,
        )
        for e in entries
    ]  # fmt: skip

    def nothing(_: object) -> object:
        raise AssertionError("a hit asks nobody")

    with tempfile.TemporaryDirectory() as folder:
        control = Replay("replay", tape=tape, journal=Journal(Path(folder) / "j"))
        handler = stack.around(control, nothing)

        async def all_hits() -> float:
            began = time.perf_counter()
            for entry, call in zip(entries, calls, strict=True):
                with invocation_scope(
                    InvocationScope(case=entry.question.case, repeat=entry.question.repeat)
                ):
                    async with aclosing(handler(call)) as events:
                        async for _ in events:
                            pass
            return (time.perf_counter() - began) / len(entries)

        best = min(asyncio.run(all_hits()) for _ in range(5))
    return "a replay hit", f"{best * 1e6:.0f} µs", "<= 15 µs"


def no_op() -> Row:
    """`dvc repro` with nothing to do, against the same graph whose commands are `true`."""
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = nothing_to_do(*(clone(Path(folder) / which) for which in ("ours", "true")))
    return (
        "no-op `dvc repro` against the same graph of `true`",
        f"{mine / theirs:.2f}x ({mine:.1f} s)",
        "<= 1.15x",
    )


def notebook() -> Row:
    """A small notebook through our runner, against plain papermill."""
    import papermill

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "n.ipynb"
        path.write_text(NOTEBOOK)

        def ours() -> None:
            execute(path, root=Path(folder), parameters={}, execution=Execution(notebook="n"), show=False)

        def plain() -> None:
            papermill.execute_notebook(
                str(path),
                str(Path(folder) / "out.ipynb"),
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
            )

        plain()
        mine, theirs = alternating(ours, plain, rounds=5)
    return (
        "a notebook through our runner against plain papermill",
        f"{mine / theirs:.2f}x ({mine:.1f} s)",
        "<= 1.1x",
    )


MEASURES = (
    importing,
    reading_answers,
    replay_hit,
    replaying,
    notebook,
    no_op,
    judging,
    job_run,
    going_back,
    twenty_jobs,
)


def rows() -> Iterator[Row]:
    """All rows of the first table, each when it has been measured."""
    for measure in MEASURES:
        yield measure()


PARTS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "workbench": rows,
    "memory": memory.rows,
    "boundary": boundary_costs.rows,
    "controls": controls.rows,
    "moderation": moderation.rows,
    "privacy": privacy.rows,
    "policy": policy.rows,
    "audit": audit.rows,
    "gateway": gateway.rows,
    "jobs": jobs.rows,
}


def main() -> None:
    """Measure everything, or the parts that are named, and print a table for each."""
    asked = _arguments().parse_args()
    for part in [name for name in PARTS if name in asked.parts] or PARTS:
        lines = [_machine(), "", "| what | measured | target |", "| --- | --- | --- |"]
        print(*lines, sep="\n", flush=True)
        for name, value, target in PARTS[part]():
            lines.append(f"| {name} | {value} | {target} |")
            print(lines[-1], flush=True)
        if asked.write:
            _write(part, lines)


def _arguments() -> argparse.ArgumentParser:
    described = f"Measure the tables of docs/benchmarks.md: {', '.join(PARTS)}. This takes many minutes."
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=described, allow_abbrev=False)
    parser.add_argument(
        "parts", nargs="*", type=_part, metavar="TABLE", help="measure this table [default: all]"
    )
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/benchmarks.md")
    parser.add_argument(
        "--flat", action="store_true", help="also measure 100,000 calls, in the table boundary"
    )
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"no table is called {name!r} (known: {', '.join(PARTS)})")
    return name


def _machine() -> str:
    cpu = " ".join(str(value) for value in processor().values())
    load = f"load {os.getloadavg()[0]:.1f} when it began"
    python = f"{platform.system()}, Python {platform.python_version()}"
    return f"Machine: {os.cpu_count()} cores ({cpu}), shared with other work and noisy, {load}; {python}."


def _write(part: str, lines: list[str]) -> None:
    """Replace what stands between the part's two marks."""
    page = ROOT / "docs" / "benchmarks.md"
    begin, end = f"<!-- measured: {part} -->", f"<!-- end: {part} -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    tail = rest.partition(end)[2]
    page.write_text(head + "\n".join([begin, "", *lines, "", end]) + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
