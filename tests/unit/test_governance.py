"""What the controls did, counted from the record of calls: equal to a count by hand, and one line."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.records.calls import Chosen
from workbench.records.columns import frame_of_lines
from workbench.records.governance import Governance, counted, governance_of
from workbench.records.log import Lines

AT = dt.datetime(2026, 11, 24, 9, tzinfo=dt.UTC)
DECISION = {"id": "0" * 16, "allowed": True, "action": "model.chat", "policies": [], "policy_set": "ab"}
RECORDS = st.fixed_dictionaries(
    {
        "port": st.sampled_from(["model", "memory"]),
        "outcome": st.sampled_from(["ok", "refused", "failed"]),
        "error": st.sampled_from([None, "PolicyError", "PrivacyError"]),
        "replayed": st.booleans(),
        "source": st.sampled_from([None, "live", "exact", "stated"]),
        "input_tokens": st.sampled_from([None, 7]),
        "cost_usd": st.sampled_from([None, 0.0, 0.25]),
        "decision": st.sampled_from([None, DECISION]),
        "findings": st.lists(
            st.builds(lambda kind, n: {"kind": kind, "count": n}, st.sampled_from("abc"), st.integers(1, 5)),
            max_size=3,
        ),
        "checks": st.lists(
            st.sampled_from([{"check": "size", "direction": "in", "action": "flag", "score": 0.5}]),
            max_size=2,
        ),
        "would_refuse": st.lists(st.sampled_from(["policy:x", "moderation:y"]), max_size=2),
        "fallback_reason": st.sampled_from([None, "unavailable", "policy"]),
    }
)


def lines(records):
    return b"\n".join(orjson.dumps({"at": AT.isoformat(), "trace_id": "1", **record}) for record in records)


def by_hand(records) -> Governance:
    findings = Counter()
    for record in records:
        for item in record["findings"]:
            findings[item["kind"]] += item["count"]
    refused = [item for item in records if item["outcome"] == "refused" and item["error"]]
    paid = [item for item in records if not item["replayed"]]
    asked = [item for item in paid if item["source"] not in {"exact", "stated"} and item["port"] == "model"]
    return Governance(
        calls=len(records),
        replayed=sum(item["replayed"] for item in records),
        decisions=sum(item["decision"] is not None for item in records),
        findings=dict(findings),
        checks=dict(Counter(item["check"] for record in records for item in record["checks"])),
        refused=dict(Counter(item["error"] for item in refused)),
        would_refuse=sum(bool(item["would_refuse"]) for item in records),
        fallbacks=dict(Counter(item["fallback_reason"] for item in records if item["fallback_reason"])),
        cost_usd=sum(item["cost_usd"] or 0.0 for item in paid),
        unpriced=sum(item["cost_usd"] is None and item["input_tokens"] is not None for item in asked),
    )


@given(st.lists(RECORDS, max_size=12))
def test_the_counts_are_those_of_a_count_by_hand(records):
    assert counted(frame_of_lines(lines(records))[0].lazy()) == by_hand(records)


def test_a_line_says_everything_that_happened_and_nothing_else(tmp_path):
    log = Lines(tmp_path / "calls.jsonl")
    assert "no call" in str(governance_of(log.path))
    quiet = {"outcome": "ok", "port": "model", "replayed": True, "decision": DECISION, "cost_usd": 0.5}
    log.append(lines([quiet]))
    assert str(governance_of(log.path)) == (
        "governance: 1 call (1 replayed), 1 decision, 0 findings, 0 refusals, 0.0000 USD"
    )
    loud = {
        "outcome": "refused", "error": "PolicyError", "port": "model", "input_tokens": 3,
        "decision": DECISION,
        "findings": [{"kind": "email", "count": 1}, {"kind": "person", "count": 2}],
        "checks": [{"check": "canary", "direction": "out", "action": "flag", "score": None}],
        "would_refuse": ["policy:x"], "fallback_reason": "policy",
    }  # fmt: skip
    log.append(lines([loud]))
    text = str(governance_of(log.path))
    for part in ("2 calls", "2 decisions", "3 findings (person 2, email 1)", "1 check (canary 1)",
                 "1 refusal (PolicyError 1)", "1 would be refused", "1 fall-back (policy 1)",
                 "and 1 without a price"):  # fmt: skip
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(("since", "calls"), [(AT, 1), (AT + dt.timedelta(seconds=1), 0)])
def test_only_the_chosen_calls_count(tmp_path, since, calls):
    log = Lines(tmp_path / "calls.jsonl")
    log.append(lines([{"outcome": "ok"}]))
    assert governance_of(log.path, Chosen(since=since)).calls == calls
