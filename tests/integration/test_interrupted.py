"""The pipeline killed in the middle of each stage, interrupted, or asked for more than its tape holds."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ("prepare", "remember", "experiment", "gate", "report")
TAPE = "pipelines/tapes/answers.jsonl"
JOURNAL = ".workbench/cache/answers.jsonl"


def begun(process, stage: str) -> None:
    """Read the output until the stage has begun."""
    for line in process.stdout:
        if f"Running stage '{stage}@answers'" in line:
            return
    pytest.fail(f"the stage {stage} never began")


def ended(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_killed_in_the_middle_of_each_stage_it_resumes(fresh_clone):
    for stage in STAGES:
        if stage == "gate":  # its verdict is in git, so that a clone need not judge again
            (fresh_clone.folder / "results/answers/gate.json").unlink()
        process = fresh_clone.start("dvc", "repro", network=False)
        begun(process, stage)
        time.sleep(4.0 if stage == "experiment" else 0.3)
        ended(process)
    rest = fresh_clone.run("make", "repro", network=False)
    assert "· PASS" in rest
    assert fresh_clone.status() == ""
    assert "Running stage" not in fresh_clone.run("dvc", "repro", network=False)


def lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_an_interrupted_live_stage_asks_only_for_the_rest(fresh_clone):
    """SIGINT while the model answers: the tape is as it was, and no answer is asked for twice."""
    fresh_clone.run("dvc", "repro", "prepare@answers", "remember@answers", network=False)
    text = (fresh_clone.folder / "params.yaml").read_text()
    cut = text.replace("tenants: [acme, globex]\n    gates", "tenants: [acme]\n    gates")
    assert cut != text
    (fresh_clone.folder / "params.yaml").write_text(cut.replace("{min: 100}", "{min: 5}"))
    questions = fresh_clone.folder / "data/handbook/questions.jsonl"
    few = [line for line in questions.read_text().splitlines(keepends=True) if '"acme-00' in line]
    questions.write_text("".join(few))
    tape = fresh_clone.folder / TAPE
    tape.write_bytes(b"")

    process = fresh_clone.start("workbench", "repro", network=False)
    begun(process, "experiment")
    journal = fresh_clone.folder / JOURNAL
    waited = time.monotonic()
    while lines(journal) < 5:
        assert time.monotonic() - waited < 120, "nothing was answered"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode not in {0, 4}, said
    assert tape.read_bytes() == b""
    kept = lines(journal)

    fresh_clone.run("workbench", "repro", network=False, code=None)
    entries = lines(tape) - 1
    assert entries >= 4 * len(few)
    assert lines(journal) == entries, "an answer that was kept was asked for again"
    assert kept < entries

    shutil.rmtree(fresh_clone.folder / ".workbench/cache")
    before = tape.read_bytes()
    fresh_clone.run("dvc", "repro", "--force", "experiment@answers", network=False)
    assert tape.read_bytes() == before and lines(journal) == 0
