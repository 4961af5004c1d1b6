"""A run whose output a check or another model holds back: what is kept, said, paused, and asked again."""

# ruff: noqa: F811 - fixtures are imported

from __future__ import annotations

from pathlib import Path

import pytest
from made_jobs import COUNTS, OUTPUTS
from made_repositories import tree
from told_jobs import promoted, recorded, root, task  # noqa: F401 - fixtures

from workbench import files
from workbench.audit import Filter, rows_of
from workbench.config.operations import OPERATIONS
from workbench.errors import RefusedError
from workbench.jobs import run as jobs
from workbench.jobs import runner
from workbench.jobs.runner import WorkerResult
from workbench.layout import AUDIT, AUDIT_KEYS, judge_tape_of
from workbench.testing.fakes import FakeClock

CLOCK = FakeClock("2026-11-25T01:02:03Z")


@pytest.fixture
def answers(monkeypatch):
    """The model that answers; the worker appends an answer to the slot's journal unless it has one."""
    model = ["tiny-1"]

    def work(request, *, python, folder, seconds, tick=lambda: None):
        journal = Path(request.home) / request.journal
        if not journal.exists():
            files.write_atomic(journal, recorded(model[0]))
        # The judge's tape lies in the exported code of the version.
        files.write_atomic(Path(request.root) / judge_tape_of("answers"), recorded("tiny-1"))
        for name, data in OUTPUTS.items():
            files.write_atomic(Path(request.out) / name, data)
        return WorkerResult(task_digest="t" * 64, notebook="", counts=dict(COUNTS))

    monkeypatch.setattr(runner, "run", work)
    return model


def run(root, **given):
    return jobs.run(root, task(**given))


def operated(root, text):
    files.write_atomic(root / OPERATIONS, text.encode())


def audited(root):
    """The rows of the audit log about outputs that were checked."""
    return rows_of(root / AUDIT, Filter(action="check_output"), root / AUDIT_KEYS)


def last(root):
    return jobs.ledger(root, CLOCK).history("answers")[0]


def test_a_breached_check_keeps_the_output_and_publishes_nothing(root, answers):
    operated(root, "jobs: {answers: {checks: {rows: {min: 3}, cost_usd: {max: 1}}}}\n")
    held = run(root)
    assert (held.outcome, held.exit_code) == ("held", 1)
    assert tree(root / held.folder).keys() == OUTPUTS.keys()
    assert not list((root / "published").rglob("*.parquet"))
    line = last(root)
    assert (line.outcome, line.rows) == ("held", 2)
    assert line.detail.startswith("rows 2, at least 3")
    assert [check["state"] for check in line.facts["checks"]] == ["breach", "pass"]
    assert "rows 2, at least 3" in str(held)
    [row] = audited(root)
    assert (row["activity"], row["status"], row["status_detail"]) == ("check_output", "Failure", "hold")
    assert row["facts"]["checks"] == {"rows": "breach", "cost_usd": "pass"}
    assert held.to_json()["detail"] == held.detail
    operated(root, "{}\n")
    assert run(root).outcome == "published", "the answers were kept, and the check is gone"


def test_a_check_may_take_the_version_back(root, answers):
    operated(root, "jobs: {answers: {checks: {rows: {min: 3, then: roll_back}}}}\n")
    taken = run(root)
    assert (taken.outcome, taken.exit_code, last(root).outcome) == ("rolled_back", 1, "rolled_back")
    assert "taken back" in str(taken)


def test_a_check_of_an_output_with_too_many_broken_rows_counts_too(root, answers, monkeypatch):
    monkeypatch.setitem(COUNTS, "held", True)
    assert run(root).outcome == "held" and "1 of 2 rows broken" in last(root).detail
    operated(root, "jobs: {answers: {checks: {quarantined_rate: {max: 0.1, then: roll_back}}}}\n")
    taken = run(root)
    assert (taken.outcome, last(root).outcome) == ("rolled_back", "rolled_back")
    assert last(root).detail.startswith(f"1 of 2 rows broken: {taken.folder}")
    assert "quarantined_rate 0.5, at most 0.1" in last(root).detail
    assert taken.folder.endswith(".parquet") and (root / taken.folder).is_file()
    assert not (root / "published").exists()


def test_a_check_that_only_tells_publishes_and_says_it(root, answers):
    operated(root, "jobs: {answers: {checks: {rows: {min: 3, then: tell}, grounded: {min: 0.5}}}}\n")
    assert run(root).outcome == "published"
    assert "rows 2, at least 3" in last(root).detail
    assert "grounded undecided" in last(root).detail


def test_another_model_holds_the_output_and_pauses_the_version_until_it_is_resumed(root, answers):
    answers[0] = "tiny-2"
    held = run(root)
    assert held.outcome == "held"
    assert "tiny-2 answered, tiny-1 was judged" in held.detail
    assert last(root).facts["paused"] is True
    [pause] = jobs.ledger(root, CLOCK).pauses()
    assert (pause.job, pause.version) == ("answers", 1)
    with pytest.raises(RefusedError, match="paused"):
        run(root)
    jobs.ledger(root, CLOCK).resume("answers")
    answers[0] = "tiny-1"
    assert run(root).outcome == "published", "the answers of the other model are not used again"
    assert last(root).facts["models"] == [
        {"target": "tiny", "model": "tiny-1", "fingerprint": "", "answers": 1}
    ]


def test_another_model_is_only_told_where_operations_say_so(root, answers):
    operated(root, "defaults: {model_changed: tell}\n")
    answers[0] = "tiny-2"
    assert run(root).outcome == "published"
    assert "tiny-2" in last(root).detail
    assert jobs.ledger(root, CLOCK).pauses() == []
