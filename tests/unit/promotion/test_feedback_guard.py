"""The guard `feedback`: answers of a canary and of production that people spoke of, in pairs that stay."""

from __future__ import annotations

import datetime as dt

import orjson
import pytest

from workbench.layout import CALLS, OUTCOMES
from workbench.promotion.feedback_guard import feedback_differences
from workbench.records.outcomes import RecordedOutcome, feedback_of, keep_outcome
from workbench.records.segments import CallLog

BEGAN = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)


@pytest.fixture
def root(tmp_path):
    """Runs of production and a canary, of four rows each; a row has two calls."""
    log = CallLog(tmp_path / CALLS)
    with log._lines.writing() as append:
        for run in ("prod", "canary", "other"):
            for n in range(8):
                append(orjson.dumps({
                    "trace_id": f"{run}-{n}", "at": BEGAN.isoformat(timespec="microseconds"), "run": run,
                    "use_case": "answers", "tenant": "acme", "port": "model",
                    "labels": {"job": "answers", "run": run, "row": f"r{n // 2}"},
                }))  # fmt: skip
    return tmp_path


def said(root, trace, value, *, by="ada", name="feedback", session="chat-1"):
    keep_outcome(root / OUTCOMES, RecordedOutcome(
        at="2026-11-24T09:00:00+00:00", use_case="answers", tenant="acme", principal=by, trace_id=trace,
        session=session, name=name, value=value,
    ))  # fmt: skip


def differences(root, *, since=BEGAN):
    found = feedback_differences(root, {"canary"}, {"prod"}, since=since)
    return found.n, found.mean


def test_without_feedback_on_both_there_is_nothing_to_compare(root):
    assert differences(root) == (0, None)
    said(root, "canary-0", 0.0)
    said(root, "other-0", 1.0)
    said(root, "prod-0", 1.0, name="resolved")
    said(root, "prod-2", 7.0)
    said(root, "gone-0", 1.0)
    assert differences(root) == (0, None)
    said(root, "prod-4", 1.0)
    assert differences(root) == (1, -1.0)
    assert differences(root, since=BEGAN + dt.timedelta(days=1)) == (0, None), "before the label moved"
    assert feedback_differences(root, set(), {"prod"}, since=BEGAN).n == 0


def test_rows_are_paired_in_the_order_of_the_first_word_and_stay_so(root):
    for trace, value in (("prod-0", 1.0), ("canary-2", 0.0), ("prod-2", 0.0), ("canary-4", 0.0)):
        said(root, trace, value)
    assert differences(root) == (2, -0.5)
    said(root, "prod-0", 1.0)  # again: the pairs are the same
    assert differences(root) == (2, -0.5)
    assert next(iter(feedback_of(root / OUTCOMES))) == "prod-0"
    said(root, "canary-4", 1.0)  # another opinion of the same person
    assert differences(root) == (2, 0.0)


def test_a_row_counts_once_however_many_people_and_calls_it_has(root):
    said(root, "prod-0", 1.0)
    said(root, "canary-0", 0.0)
    said(root, "canary-1", 0.0)
    said(root, "canary-0", 1.0, by="bob")
    said(root, "canary-0", 1.0, by="eve")
    assert differences(root) == (1, -0.5)
