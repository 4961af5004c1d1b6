"""Clones as tests change them, look at them, and hear of their errors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import psutil
from clones import Clone

import workbench as wb
from workbench import files, registry
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import JobRun
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.layout import JOB_LEDGER as LEDGER
from workbench.processes import MARK
from workbench.promotion import release
from workbench.testing.fakes import FakeClock

NOTEBOOK = "notebooks/answers.ipynb"
INBOX = "data/inbox/2026-11-24.parquet"
SAMPLE = "data/inbox/sample.jsonl"
CODE = ".workbench/cache/code"
SLOT = "published/answers/all/20261124T060000Z"
#: The gate of a few cases: five right of six pass, none right fails.
GATE = "      mvp: {accuracy: {min: 0.4}, cross_tenant_hits: {count: 0}, cases: {min: 6}, confidence: 0.9}\n"
RUN = ("workbench", "jobs", "run", "answers", "--at", "2026-11-24T06:00Z", "--input")


def emptied(clone: Clone) -> Clone:
    """A clone without the use cases and jobs that ship, which would be reproduced at each step too.

    Its `make repro` asks one answer again, not ten: test_reproduce and test_live ask more.
    """
    replaced(clone, "workbench/pipeline/repro.py", "\nSAMPLE = 10\n", "\nSAMPLE = 1\n")
    clone.folder.joinpath("params.yaml").write_text("# What production depends on.\nuse_cases:\njobs:\n")
    for job in clone.folder.glob("pipelines/jobs/*/"):
        shutil.rmtree(job)
    release.write_stages(clone.folder)
    clone.run("git", "commit", "--quiet", "--all", "--message", "Nothing yet")
    return clone


def source(cell: dict) -> str:
    return "".join(cell["source"])


def edit_cells(root: Path, change, path: str = NOTEBOOK) -> None:
    """Change a notebook's cells in place."""
    notebook = json.loads((root / path).read_text())
    change(notebook["cells"])
    (root / path).write_text(json.dumps(notebook, indent=1) + "\n")


def add_to_task(text: str):
    """A change of cells: some lines before the task's own."""

    def change(cells):
        (task,) = (cell for cell in cells if "@wb.task\ndef answer" in source(cell))
        task["source"] = (text + "\n" + source(task)).splitlines(keepends=True)

    return change


def replaced(clone: Clone, path: str, before: str, after: str) -> None:
    text = (clone.folder / path).read_text()
    assert before in text, f"{path} no longer holds {before!r}"
    (clone.folder / path).write_text(text.replace(before, after, 1))


def without_use_case(root: Path, name: str) -> None:
    """Remove a use case and the job of its name from params.yaml."""
    text = (root / "params.yaml").read_text()
    kept, found = re.subn(rf"^  {name}:\n(?:(?:    .*)?\n)*", "", text, flags=re.MULTILINE)
    assert found == 2, f"params.yaml no longer holds a use case and a job {name!r}"
    (root / "params.yaml").write_text(kept)


def make_small(root: Path, *, cases: Sequence[str], rows: Sequence[str]) -> None:
    """Leave one use case with these cases, of which the job's sample has `rows`, and no promoted version."""
    shutil.rmtree(root / "pipelines/jobs")
    shutil.rmtree(root / "results/jobs", ignore_errors=True)
    files.write_atomic(root / "pipelines/jobs/stages.yaml", b"promoted: {}\n")
    without_use_case(root, "triage")  # each `dvc repro` would judge and explore it too
    (root / "dvc.lock").unlink()  # DVC reads all of it in each command, the stages that are gone too
    questions = root / "data/handbook/questions.jsonl"
    lines = {json.loads(line)["id"]: line for line in questions.read_text().splitlines(keepends=True)}
    questions.write_text("".join(line for name, line in lines.items() if name in cases))
    kept = [
        {k: v for k, v in json.loads(lines[name]).items() if k not in {"page", "answers"}} for name in rows
    ]
    (root / SAMPLE).write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    inbox = pl.read_parquet(root / INBOX)
    pl.concat([inbox.head(3), inbox.tail(1)]).write_parquet(root / INBOX)  # the last row is broken
    params = (root / "params.yaml").read_text()
    assert params.count("    concurrency: 2\n") == 1
    params = params.replace("    concurrency: 2\n", "    concurrency: 1\n")  # each more starts a server
    before, rest = params.split("      mvp:\n", 1)
    (root / "params.yaml").write_text(f"{before}{GATE}      mlvp:{rest.split('      mlvp:', 1)[1]}")


def commit(clone: Clone, message: str) -> None:
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", message)


def reforged(clone: Clone, change, **page) -> None:
    """Make another answers@1, by hand and whole, of cells or limits that no promotion would take."""
    spec, folder = jobspec.load(clone.folder, "answers", 1)
    edit_cells(folder, change, jobspec.TASK)
    data = dataclasses.replace(spec, files=jobspec.digests(folder), **page).text()
    (folder / jobspec.PAGE).write_bytes(data)
    asset = registry.load(clone.folder, "job", "answers")
    entry = dataclasses.replace(asset.versions[1], digest=files.digest(data))
    registry.write(clone.folder, dataclasses.replace(asset, versions={1: entry}))
    commit(clone, "Another answers@1")


def state(clone: Clone) -> dict[str, str]:
    """What a refusal must leave as it was: git's status, and every file but caches and logs."""
    passing = {".git", ".venv", ".workbench", ".dvc", "__pycache__"}
    found = {
        path.relative_to(clone.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in clone.folder.rglob("*")
        if path.is_file() and not passing.intersection(path.relative_to(clone.folder).parts)
    }
    return {**found, "git": clone.status() + clone.run("git", "rev-parse", "HEAD")}


def one_error(said: str) -> str:
    """The output, after a look that it is one error in words, with the next command as its last line."""
    assert "Traceback" not in said, said
    assert said.count("error: ") == 1 and said.strip().splitlines()[-1].strip().startswith("-> "), said
    return said


def next_command(said: str) -> str:
    """What a card says to type next."""
    (line,) = (line for line in said.splitlines() if line.startswith("next: "))
    return line.removeprefix("next: ")


def row_of(card: str, what: str) -> list[str]:
    """Return the words of the only line of a card that begins with this one."""
    (found,) = (line.split() for line in card.splitlines() if line.split()[:1] == [what])
    return found


def runs(clone: Clone) -> list[JobRun]:
    """The ledger's runs, the last first."""
    return SqliteLedger(clone.folder / LEDGER, clock=FakeClock()).history()


def questions_of(clone: Clone, run: str) -> pl.DataFrame:
    """The questions that a job's run asked, as `ws.calls()` has them; `row` is the input's."""
    ws = wb.connect("answers", root=clone.folder)
    calls = ws.calls().filter(pl.col("operation") == "chat")
    ws.close()
    labels = pl.Struct({"row": pl.String})
    calls = calls.with_columns(pl.col("labels").str.json_decode(labels)).unnest("labels")
    return calls.filter(pl.col("run") == run)


def processes(clone: Clone) -> list[psutil.Process]:
    """What lives of the runs in the ledger, by the mark that every process of a run inherits."""
    return list(_marked({run.run for run in runs(clone)}))


def _marked(known: set[str]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) in known and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def rows(clone: Clone, path: str, frame: pl.DataFrame) -> str:
    """Write an input into the clone; its path there."""
    (clone.folder / path).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(clone.folder / path)
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
