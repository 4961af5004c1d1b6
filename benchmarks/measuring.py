"""How the benchmarks measure: whole processes, two kinds of work in turns, clones."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Row = tuple[str, str, str]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternating(
    one: Callable[[], object], other: Callable[[], object], *, rounds: int
) -> tuple[float, float]:
    """Medians of two kinds of work, taken in turns so that noise meets both."""
    times = [(timed(one), timed(other)) for _ in range(rounds)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def run(*command: str, cwd: Path = ROOT) -> str:
    """A command's output; it must succeed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def clone(folder: Path) -> Path:
    """A clone of what is committed, with this environment and its own code."""
    run("git", "clone", "--quiet", str(ROOT), str(folder))
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".git" / "info" / "exclude").write_text("/.venv\n")
    os.environ["PYTHONPATH"] = str(folder)
    return folder


def nothing_to_do(ours: Path, trivial: Path) -> tuple[float, float]:
    """Seconds of a `dvc repro` that has nothing to do, in a clone and in one whose commands become `true`."""
    page = trivial / "dvc.yaml"
    lines = page.read_text().splitlines()
    text = "\n".join("      cmd: 'true'" if line.strip().startswith("cmd:") else line for line in lines)
    page.write_text(text + "\n")
    run("dvc", "repro", cwd=ours)
    for part in ("results", "reports"):
        shutil.copytree(ours / part, trivial / part, dirs_exist_ok=True)
    run("dvc", "commit", "--force", cwd=trivial)
    return alternating(
        lambda: run("dvc", "repro", cwd=ours), lambda: run("dvc", "repro", cwd=trivial), rounds=5
    )
