"""Fixtures of jobs whose worker writes what the test tells it, for tests without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_jobs import COUNTS, OUTPUTS, copied, frozen, judged_repository

from workbench import files
from workbench.config import Limits
from workbench.jobs import run as jobs
from workbench.jobs import runner
from workbench.jobs.runner import WorkerResult
from workbench.jobs.slots import RunRequest
from workbench.repository import environments
from workbench.testing.fakes import FakeClock

AT = "2026-11-24T06:00Z"


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """Version 1 in production, version 2 a candidate."""
    root = judged_repository(tmp_path_factory.mktemp("promoted") / "repo")
    frozen(root, 1, label="production", sample_outputs={n: files.digest(d) for n, d in OUTPUTS.items()})
    frozen(root, 2, label="candidate", limits=Limits(seconds=7))
    return root


@pytest.fixture
def root(promoted, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "python_of", lambda root, lock, install_hint: Path("python"))
    root = copied(promoted, tmp_path / "repo")
    (root / ".git/info/exclude").write_text(".workbench/\npublished/\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def asked(monkeypatch):
    """What the worker was asked; `counts` and `outputs` are what it answers, `error` what it raises."""

    class Asked(list):
        counts, outputs, error, seconds, during = COUNTS, OUTPUTS, None, None, None

    told = Asked()

    def work(request, *, python, folder, seconds, tick=lambda: None):
        told.append((request, Path(request.inputs).read_bytes()))
        told.seconds = seconds
        if told.during:
            told.during(tick)
        if told.error:
            raise told.error
        for name, data in told.outputs.items():
            files.write_atomic(Path(request.out) / name, data)
        executed = folder / "executed.ipynb"
        executed.touch()
        return WorkerResult(task_digest="t" * 64, notebook=str(executed), counts=dict(told.counts))

    monkeypatch.setattr(runner, "run", work)
    return told


def task(**given):
    usual = {"reference": "answers", "input": "data/inbox/sample.jsonl", "at": AT, "show": False}
    return RunRequest(**{**usual, "clock": FakeClock("2026-11-25T01:02:03Z"), **given})


def recorded(model):
    """A line of a journal or a tape: an answer of the card `tiny` that names this model."""
    entry = {
        "key": "k" * 64, "operation": "chat", "result": {"events": [{"model": model}]},
        "target": {"name": "tiny@1"},
    }  # fmt: skip
    return files.canonical(entry) + b"\n"


def history(root):
    return [
        (run.state, run.outcome, run.version) for run in jobs.ledger(root, FakeClock()).history("answers")
    ]


def left(root):
    """What a run leaves where only running ones have something."""
    return [
        p for p in (root / ".workbench/cache").rglob("*") if p.is_file() and not {"code", "env"} & {*p.parts}
    ]
