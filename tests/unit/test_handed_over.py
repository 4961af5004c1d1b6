"""What the calls of a judged case tell is held against its recordings."""

from __future__ import annotations

import pytest

from workbench.errors import RefusedError
from workbench.promotion.handed_over import check_amounts
from workbench.records.keys import Entry, RecordedRequest


def recording(case="a", *, usage=(10, 5), latency=0.5, operation="model.chat", n=0):
    tokens = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
    question = RecordedRequest(operation=operation, identity={}, request={}, case=case, repeat=0, n=n)
    return Entry(
        key=f"{case}{n}", question=question, target="m", result={"events": [{"usage": tokens}]},
        latency_s=latency, first_event_s=latency, processor={},
    )  # fmt: skip


def call(**amounts):
    usual = {"recorded_latency_s": 0.5, "input_tokens": 10, "output_tokens": 5, "cost_usd": 0.15}
    return {"port": "model", "operation": "chat", **usual, **amounts}


def check(calls, *recordings):
    check_amounts(
        {"a": {"records": calls}, "b": {"records": []}},
        recordings,
        price=lambda target, usage: None if usage.input_tokens is None else usage.input_tokens * 0.015,
        notebook="n.ipynb",
    )


@pytest.mark.parametrize(
    ("calls", "recordings"),
    [
        ([call()], [recording()]),
        ([call()], []),  # a call that is not recorded
        ([call(), call()], [recording()]),
        (
            [call(input_tokens=20, output_tokens=10, cost_usd=0.3, recorded_latency_s=1.0)],
            [recording(), recording(n=1)],
        ),
        ([call(input_tokens=None, output_tokens=None, cost_usd=None)], [recording(usage=None)]),
        ([call(input_tokens=None, cost_usd=None), call()], [recording()]),  # the first failed and was caught
        ([call()], [recording(), recording("b", operation="model.count")]),
        ([call(recorded_latency_s=0.5000001)], [recording(latency=0.50000012)]),
    ],
)  # fmt: skip
def test_an_honest_case_tells_at_least_what_its_recordings_hold(calls, recordings):
    check(calls, *recordings)


@pytest.mark.parametrize(
    "calls",
    [
        [call(cost_usd=0.0)],
        [call(recorded_latency_s=0.01)],
        [call(input_tokens=1)],
        [call(output_tokens=0)],
        [call(cost_usd=None)],
        [call(input_tokens=None, output_tokens=None, recorded_latency_s=None)],
        [],
        [{**call(), "operation": "embed"}],
    ],
)
def test_a_case_that_tells_less_than_its_recordings_hold_is_refused(calls):
    with pytest.raises(RefusedError, match=r"n.ipynb: the calls of case a tell \w+ .*, its recordings hold"):
        check(calls, recording())


def test_every_recording_of_a_case_counts():
    with pytest.raises(RefusedError, match="input_tokens"):
        check([call()], recording(usage=(1, 0), latency=0.0), recording(usage=(10, 0), latency=0.0, n=1))
    with pytest.raises(RefusedError, match="case b"):
        check([call()], recording("b"))
