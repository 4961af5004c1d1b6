"""A run in another environment than the judged one: told, kept in its line, or refused before its worker."""

# ruff: noqa: F811 - fixtures are imported
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_jobs import OUTPUTS, frozen
from told_jobs import asked, promoted, root, task  # noqa: F401 - fixtures

from workbench import files
from workbench.errors import RefusedError
from workbench.jobs import run as jobs
from workbench.jobs.parity import ENVIRONMENT
from workbench.repository.fingerprint import fingerprint
from workbench.testing.fakes import FakeClock

HERE = fingerprint(Path("python"), confinement="full")  # of the interpreter that the fixture `root` names


def judged(root, *, phase="mvp", **changes):
    """A version in production that was promoted in an environment with these parts."""
    evidence = files.pretty(dataclasses.replace(HERE, **changes).to_json())
    outputs = {name: files.digest(data) for name, data in OUTPUTS.items()}
    more = {ENVIRONMENT: evidence}
    frozen(root, 3, label="production", phase=phase, more=more, sample_outputs=outputs)


def line(root):
    return jobs.ledger(root, FakeClock()).history("answers")[0]


def test_a_run_keeps_the_fingerprint_of_its_environment_in_its_line(root, asked, capsys):
    judged(root, phase="mlvp", kernel="1.0")
    jobs.run(root, task(confinement="full", show=True))
    kept = line(root)
    assert (kept.outcome, kept.fingerprint) == ("published", HERE.digest)
    assert kept.facts["parity"] == "equal" and kept.facts["environment"] == HERE.to_json()
    assert kept.facts["differences"] == [f"kernel is {HERE.kernel}, judged with 1.0"]
    assert "judged one" not in capsys.readouterr().err


def test_a_version_without_evidence_runs_and_its_line_says_unknown(root, asked):
    jobs.run(root, task())
    assert line(root).facts["parity"] == "unknown"


def test_a_difference_is_told_before_the_run_and_kept(root, asked, capsys):
    judged(root, machine="riscv64")
    asked.during = lambda tick: told.append(capsys.readouterr().err)
    told = []
    assert jobs.run(root, task(confinement="full", show=True)).outcome == "published"
    assert told == [
        f"answers@3: this environment is not the judged one: machine is {HERE.machine}, judged with riscv64\n"
    ]
    assert line(root).facts["parity"] == "differs"


@pytest.mark.parametrize("changed", [{"machine": "riscv64"}, {"packages": "0" * 64}, {"python": "3.1.0"}])
def test_the_strict_phase_refuses_it_before_a_worker_starts_and_leaves_a_line(root, asked, changed):
    judged(root, phase="mlvp", **changed)
    with pytest.raises(RefusedError, match=next(iter(changed))) as caught:
        jobs.run(root, task(confinement="full"))
    assert caught.value.hint.startswith("workbench promote job/answers")
    assert not asked and not (root / "published").exists()
    kept = line(root)
    assert (kept.outcome, kept.version) == ("refused", 3) and next(iter(changed)) in kept.detail


def test_a_machine_that_confines_less_is_another_environment(root, asked):
    judged(root, phase="mlvp")
    with pytest.raises(RefusedError, match="confinement is none, judged with full"):
        jobs.run(root, task(confinement="none"))
    assert jobs.run(root, task(confinement="full")).outcome == "published"
