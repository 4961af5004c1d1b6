"""The pipeline killed in the middle of each stage, interrupted, or asked for more than its tape holds."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from sizes import kill_points

from workbench import layout
from workbench.records.confirmed import Confirmed
from workbench.records.tape import Tape, write

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
#: test_judge_stage has an interrupt of the stage that asks, without DVC.
PIPELINES = pytest.mark.drawn("pipelines that are cut off", 1)
JUDGE_TAPE, TAPE = "pipelines/tapes/answers.judge.jsonl", "pipelines/tapes/answers.jsonl"
#: Answers that the interrupted pipeline has to ask for: half of the judge's, and one of the exploring cells.
MISSING, EXPLORED = 3, 1
JUDGE_JOURNAL = ".workbench/cache/judge/answers.answers.jsonl"
JOURNAL = ".workbench/cache/answers.jsonl"
#: The first call of a stage's kernel, at the gateway in the stage's process.
ASKED = ("open", r"/state/calls\.jsonl$")
#: On the path of every Python that the pipeline starts: in the one whose command line names PROCESS, just
#: before it does EVENT to a path that ends or goes on as PATH says, everything is killed, the kernel too.
KILLER = """
import os, re, signal, sys

wanted, event, path = os.environ["PROCESS"], os.environ["EVENT"], re.compile(os.environ["PATTERN"])


def kill(name, arguments):
    if name == event and path.search(str(arguments[name == "os.rename"])):
        with open(os.environ["KILLED"], "w") as file:
            file.write(str(arguments[name == "os.rename"]))
        os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


if wanted in " ".join(sys.orig_argv):
    sys.addaudithook(kill)
"""
#: What each stage leaves, in the pipeline's order, and an early and a late point in its work.
STAGES = {
    "prepare": (
        "results/answers/prepared",
        ("open", r"/\.cases\.parquet\."),
        ("os.rename", r"/summary\.json$"),
    ),
    "remember": (
        "results/answers/memory",
        ("sqlite3.connect", r"/handbook/2\.sqlite$"),
        ("os.rename", "/answers/memory$"),
    ),
    "judge": ("results/answers/judged", ASKED, ("os.rename", r"/judged/candidate\.parquet$")),
    "experiment": ("results/answers/runs", ASKED, ("os.rename", r"/runs/candidate\.parquet$")),
    "gate": ("results/answers/gate.json", ("open", r"/\.gate\.json\."), ("os.rename", r"/gate\.json$")),
    "report": ("reports", ("open", r"/\.readiness\.html\."), ("os.rename", r"/readiness\.md$")),
}


def left(clone, out: str) -> dict[str, bytes]:
    """What stands under an output, but for what a killed writer was about to put there."""
    path = clone.folder / out
    found = [path] if path.is_file() else path.rglob("*")
    return {str(p): p.read_bytes() for p in found if p.is_file() and not p.name.startswith(".")}


def killed(clone, stage: str, event: str, pattern: str) -> str:
    """Run the pipeline until it is killed there; its output."""
    folder = clone.home / "killer"
    folder.mkdir(exist_ok=True)
    folder.joinpath("sitecustomize.py").write_text(KILLER)
    marker = clone.home / "killed"
    marker.unlink(missing_ok=True)
    in_kernel = stage == "experiment" and (event, pattern) != ASKED
    where = {
        "PROCESS": "ipykernel_launcher" if in_kernel else f"workbench.pipeline.stages {stage}",
        "EVENT": event,
        "PATTERN": pattern,
        "KILLED": str(marker),
        "PYTHONPATH": f"{folder}:{clone.folder}",
    }
    said = clone.run("dvc", "repro", network=False, code=-signal.SIGKILL, **where)
    assert re.search(pattern, marker.read_text()), said
    return said


def stages_of(said: str) -> list[str]:
    """The stages of the use case that ran, in the pipeline's order."""
    return [stage for stage in STAGES if f"Running stage '{stage}@answers'" in said]


@PIPELINES
def test_killed_in_the_middle_of_each_stage_it_resumes(small_clone):
    small_clone.folder.joinpath("results/answers/gate.json").unlink()  # in git: a clone need not judge again
    chosen = kill_points([(stage, point) for stage, (_, *points) in STAGES.items() for point in points])
    unfinished, due = {}, []
    for stage, (out, *points) in STAGES.items():
        for point in points:
            if (stage, point) in chosen:
                said = killed(small_clone, stage, *point)
                assert stages_of(said) == [*due, stage], "what was finished is not repeated, the rest is"
                unfinished[stage, point] = left(small_clone, out)
                due = []
        due = [*due, stage]

    assert stages_of(small_clone.run("dvc", "repro", network=False)) == due
    verdict = json.loads((small_clone.folder / "results/answers/gate.json").read_bytes())["verdict"]
    assert verdict == "pass"
    assert asked_of(small_clone, JUDGE_TAPE) == lines(small_clone.folder / JOURNAL) == 0, "the tapes suffice"
    for (stage, point), files in unfinished.items():
        assert files.keys() < left(small_clone, STAGES[stage][0]).keys(), f"{point}: all was done already"
    assert small_clone.status() == ""
    assert "Running stage" not in small_clone.run("dvc", "repro", network=False)


def keys_of(tape: Path) -> list[str]:
    """Return the keys of a tape's recordings, in their order."""
    return [entry.key for entry in Tape.read(tape).entries()]


def asked_of(clone, tape: str) -> int:
    """How many answers of a tape were asked of the model in this clone."""
    return Confirmed(clone.folder / layout.CONFIRMED).of(keys_of(clone.folder / tape)).n


def begun(process, stage: str) -> None:
    """Read the output until the stage has begun."""
    for line in process.stdout:
        if f"Running stage '{stage}@answers'" in line:
            return
    pytest.fail(f"the stage {stage} never began")


def lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@PIPELINES
def test_an_interrupted_live_stage_asks_only_for_the_rest(small_clone):
    """SIGINT while the model answers: the tapes are as they were, and no answer is asked for twice."""
    tapes, journal = [small_clone.folder / name for name in (JUDGE_TAPE, TAPE)], small_clone.folder / JOURNAL
    recorded = [lines(tape) - 1 for tape in tapes]
    keys = [keys_of(tape) for tape in tapes]
    assert recorded[0] > MISSING and recorded[1] > EXPLORED
    write(tapes[0], [entry.line() for entry in list(Tape.read(tapes[0]).entries())[MISSING:]])
    write(tapes[1], [entry.line() for entry in list(Tape.read(tapes[1]).entries())[EXPLORED:]])
    shortened = [tape.read_bytes() for tape in tapes]

    process = small_clone.start("workbench", "repro", network=False)
    begun(process, "judge")
    judged = small_clone.folder / JUDGE_JOURNAL
    waited = time.monotonic()
    while lines(judged) < 1:
        assert time.monotonic() - waited < 120, "nothing was answered"
        time.sleep(0.01)  # a busy machine answers the others soon
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert [tape.read_bytes() for tape in tapes] == shortened
    kept = lines(judged)

    small_clone.run("dvc", "repro", "experiment@answers", network=False)
    assert [lines(tape) - 1 for tape in tapes] == recorded
    asked = asked_of(small_clone, JUDGE_TAPE)
    assert asked == MISSING - kept > 0, "an answer that was kept was asked for again"
    assert not judged.exists() and lines(journal) == EXPLORED
    # The recordings with which the test above asks nothing.
    assert [keys_of(tape) for tape in tapes] == keys
