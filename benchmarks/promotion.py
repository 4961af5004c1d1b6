"""The ratios of promotion: the judge, a job run against plain papermill, a rollback, twenty jobs."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import Row, alternating, clone, nothing_to_do, run, timed
from workbench import registry

NAME, INPUT = "answers", "data/inbox/2026-11-24.parquet"
PLAIN = """
import sys, papermill
papermill.execute_notebook("notebooks/plain.ipynb", "executed.ipynb", parameters={"inputs": sys.argv[1]},
                           kernel_name="python3", progress_bar=False, log_output=False, cwd="notebooks")
"""
REMEMBER = """
import workbench as wb
ws = wb.connect("answers")
for tenant in ("acme", "globex"):
    ws.bind(tenant=tenant).memory().add(wb.load("data/handbook"))
"""


def judging() -> Row:
    """The stage `judge` as DVC runs it, with every answer on its tape: what it adds to `make repro`."""
    with tempfile.TemporaryDirectory() as name:
        folder = clone(Path(name) / "clone")
        run("dvc", "repro", f"judge@{NAME}", cwd=folder)
        stage = ("sh", "workbench/pipeline/stage.sh", "judge", NAME)
        seconds = statistics.median(timed(lambda: run(*stage, cwd=folder)) for _ in range(5))
        cases = len((folder / "data/handbook/questions.jsonl").read_text().splitlines())
    return f"the stage `judge` of {cases} cases, replayed", f"{seconds:.1f} s", "<= 3 s"


def job_run() -> Row:
    """A job run of twenty questions asked live, against the same notebook run by papermill, also live."""
    with tempfile.TemporaryDirectory() as name:
        folder = clone(Path(name) / "clone")
        version = registry.load(folder, "job", NAME).labels["production"]
        shutil.copy(folder / f"pipelines/jobs/{NAME}/{version}/task.ipynb", folder / "notebooks/plain.ipynb")
        run(sys.executable, "-c", REMEMBER, cwd=folder)
        job = ("workbench", "jobs", "run", NAME, "--input", INPUT, "--at", "2026-11-24", "--replace")
        run(*job, cwd=folder)  # exports the code and builds the snapshot, once for each version

        def plain() -> None:
            (folder / ".workbench/cache/answers.jsonl").unlink(missing_ok=True)  # or it would not ask
            run(sys.executable, "-c", PLAIN, INPUT, cwd=folder)

        ours, theirs = alternating(lambda: run(*job, cwd=folder), plain, rounds=3)
    return (
        "a job run against the same notebook run by plain papermill",
        f"{ours / theirs:.2f}x ({ours:.1f} s)",
        "<= 1.15x",
    )


def going_back() -> Row:
    """`workbench rollback` of a job that has two versions."""
    with tempfile.TemporaryDirectory() as name:
        folder = clone(Path(name) / "clone")
        params = folder / "params.yaml"
        params.write_text(params.read_text().replace("seconds: 900", "seconds: 901"))
        run("git", "commit", "--quiet", "--all", "-m", "another limit", cwd=folder)
        run("dvc", "repro", cwd=folder)
        run("workbench", "promote", f"job/{NAME}", "--commit", cwd=folder)
        seconds = timed(lambda: run("workbench", "rollback", f"job/{NAME}", cwd=folder))
    return "`workbench rollback`", f"{seconds:.1f} s", "<= 2 s"


def twenty_jobs() -> Row:
    """`dvc repro` with nothing to do and twenty promoted jobs, against the same graph of `true`."""
    with tempfile.TemporaryDirectory() as name:
        ours, trivial = (clone(Path(name) / which) for which in ("ours", "true"))
        for folder in (ours, trivial):
            _twenty(folder)
        mine, theirs = nothing_to_do(ours, trivial)
    return (
        "no-op `dvc repro` with 20 promoted jobs against the same graph of `true`",
        f"{mine / theirs:.2f}x ({mine:.1f} s)",
        "<= 1.2x",
    )


def _twenty(folder: Path) -> None:
    """Twenty names for the promoted version. DVC decides what to run; no run is measured here."""
    lines = ["promoted:"]
    for number in range(20):
        shutil.copytree(folder / f"pipelines/jobs/{NAME}/1", folder / f"pipelines/jobs/j{number}/1")
        lines.append(f'  j{number}-1: {{name: "j{number}", version: 1}}')
    (folder / "pipelines/jobs/stages.yaml").write_text("\n".join(lines) + "\n")
    text = (folder / "dvc.yaml").read_text()
    command = "cmd: sh workbench/pipeline/stage.sh job ${item.name}@${item.version}"
    quick = "cmd: mkdir -p results/jobs/${key} && echo ${key} > results/jobs/${key}/out"
    (folder / "dvc.yaml").write_text(text.replace(command, quick))
