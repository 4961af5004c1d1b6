"""Events of a business joined with the calls that led to them: no call counts twice, and none is hidden."""

import datetime as dt

import polars as pl
import pytest

from workbench.errors import ConfigError
from workbench.records.columns import columns
from workbench.workspace.impact import events_of, impact_of

AT = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def calls(rows) -> pl.LazyFrame:
    shared = {
        "at": AT, "use_case": "answers", "tenant": "acme", "prompt": "answer@1", "model": "small@1",
        "port": "model", "operation": "chat", "outcome": "ok", "duration_s": 1.0, "cost_usd": 0.5,
        "replayed": False, "session": "",
    }  # fmt: skip
    made = [{"trace_id": f"t{n}", **shared, **row} for n, row in enumerate(rows)]
    return pl.DataFrame(
        [{name: row.get(name) for name in columns()} for row in made], schema=columns()
    ).lazy()


TEN = [{"prompt": f"answer@{1 + n % 2}", "duration_s": float(n), "session": f"s{n // 2}"} for n in range(10)]


def by_trace(values, **more) -> pl.DataFrame:
    return pl.DataFrame({"trace_id": [f"t{n}" for n in range(len(values))], "resolved": values, **more})


def test_each_group_has_its_outcome_and_how_many_are_missing():
    events = by_trace([True, False, True, None, True, False])
    found = impact_of(calls(TEN), events, on="trace_id", by=["prompt"])
    first, second = found.rows
    assert (first.group, first.units, first.missing, first.outcome.n) == (("answer@1",), 5, 2, 3)
    assert (first.outcome.value, second.outcome.value, second.missing) == (1.0, 0.0, 3)
    assert first.outcome.interval.low < 0.5 < first.outcome.interval.high == 1.0
    assert first.latency_s.value == 4.0 and first.cost_usd.value == 0.5 and first.success.value == 1.0
    frame = found.to_frame()
    assert frame["missing"].to_list() == [2, 3] and frame["value"].to_list() == [1.0, 0.0]
    assert "missing" in str(found) and "answer@2" in found._repr_html_()


def test_a_session_is_one_unit_with_all_its_calls():
    rows = [*TEN, {"session": "s0", "outcome": "failed", "cost_usd": None, "duration_s": 5.0}]
    events = pl.DataFrame({"session": ["s0", "s1", "s9"], "revenue": [10, 20, 30]})
    (row,) = impact_of(calls(rows), events, on="session", by="tenant").rows
    assert (row.units, row.missing, row.outcome.value) == (5, 3, 15.0)
    assert row.success.value == 0.8 and row.cost_usd.n == 4 and row.cost_usd.value == 1.0
    several = impact_of(calls(rows), events, on="session", by="prompt")
    assert several.rows[0].group == ("answer@1 + answer@2",) and several.unmatched == 1


def test_a_replayed_answer_costs_nothing_and_takes_what_it_took():
    rows = [{"replayed": True, "recorded_latency_s": 7.0, "duration_s": 0.0}]
    (row,) = impact_of(calls(rows), by_trace([1]), on="trace_id").rows
    assert row.latency_s.value == 7.0 and row.cost_usd.value == 0.0


def test_what_is_no_answer_is_no_unit():
    rows = [*TEN, {"port": "memory", "operation": "search"}, {"operation": "embed"}]
    assert sum(row.units for row in impact_of(calls(rows), by_trace([1]), on="trace_id").rows) == 10


def test_an_outcome_may_have_the_name_of_a_column_of_calls():
    events = by_trace([1.0]).rename({"resolved": "cost_usd"})
    (row,) = impact_of(calls([{}]), events, on="trace_id").rows
    assert (row.name, row.outcome.value, row.cost_usd.value) == ("cost_usd", 1.0, 0.5)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (pl.DataFrame({"trace_id": ["t0", "t0"], "x": [1, 2]}), "2 events share"),
        (pl.DataFrame({"trace_id": ["t0", None], "x": [1, 2]}), "empty values"),
        (pl.DataFrame({"trace_id": ["t0", ""], "x": [1, 2]}), "empty values"),
        (pl.DataFrame({"trace_id": [0, 1], "x": [1, 2]}), "is Int64"),
        (pl.DataFrame({"trace_id": ["t0"], "x": ["1"]}), "no column of numbers"),
        (pl.DataFrame({"trace_id": ["t0"], "x": [float("nan")]}), "not finite"),
        (pl.DataFrame({"trace_id": ["t0"], "x": [float("-inf")]}), "not finite"),
        (pl.DataFrame({"trace_id": ["t0", "t1"], "x": [1e308, 1.7e308]}), "beyond 1e"),
        (pl.DataFrame({"trace": ["t0"], "x": [1]}), "no column 'trace_id'"),
        (pl.DataFrame({"trace_id": ["t0"], "tenant": ["globex"], "x": [1]}), "another tenant"),
        (pl.DataFrame({"trace_id": ["t0"], "use_case": ["triage"], "x": [1]}), "another use_case"),
        ({"trace_id": ["t0"], "x": [1]}, "not builtins.dict"),
    ],
)
def test_events_that_cannot_be_joined_are_an_error_with_what_to_type(events, said):
    with pytest.raises(ConfigError, match=said) as caught:
        impact_of(calls(TEN), events, on="trace_id")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"on": "id"}, "does not identify"), ({"on": "trace_id", "by": ["promt"]}, "nearest: 'prompt'"),
        ({"on": "trace_id", "by": []}, "empty"), ({"on": "trace_id", "by": ["prompt", "prompt"]}, "twice"),
        ({"on": "trace_id", "outcomes": ["solved"]}, "solved"), ({"on": "trace_id", "level": 95}, "level"),
    ],
)  # fmt: skip
def test_arguments_of_impact_are_checked(arguments, said):
    with pytest.raises(ConfigError, match=said):
        impact_of(calls(TEN), by_trace([1]), **arguments)


def test_a_session_of_two_tenants_needs_the_tenant():
    rows = [{"session": "s", "tenant": "acme"}, {"session": "s", "tenant": "globex"}]
    events = pl.DataFrame({"session": ["s"], "resolved": [True]})
    with pytest.raises(ConfigError, match="several tenants"):
        impact_of(calls(rows), events, on="session")
    named = events.with_columns(tenant=pl.lit("globex"))
    found = impact_of(calls(rows), named, on="session", by="tenant")
    assert [(row.group, row.missing) for row in found.rows] == [(("acme",), 1), (("globex",), 0)]


def test_events_of_calls_that_are_not_seen_are_counted():
    for events, told in (([1, 0, 1, 1], "2 events name none"), ([1, 0, 1], "1 event names none")):
        found = impact_of(calls(TEN[:2]), by_trace(events), on="trace_id")
        assert found.unmatched == len(events) - 2 and told in str(found)


def test_rows_in_place_of_a_frame_are_told_what_makes_one_of_them():
    for rows in ([{"trace_id": "t0", "x": 1}], {"trace_id": ["t0"], "x": [1]}):
        with pytest.raises(ConfigError, match="polars DataFrame") as caught:
            impact_of(calls(TEN), rows, on="trace_id")
        assert "pl.DataFrame(events)" in caught.value.hint


def test_recorded_outcomes_are_events():
    kept = pl.DataFrame(
        {
            "trace_id": ["t0", "t0", ""], "session": ["", "", "s"], "use_case": "answers", "tenant": "acme",
            "name": ["resolved", "rating", "resolved"], "value": [1.0, 4.0, 0.0],
        }
    )  # fmt: skip
    events = events_of(kept, "trace_id")
    found = impact_of(calls(TEN), events, on="trace_id", by="tenant")
    assert {row.name: row.outcome.value for row in found.rows} == {"resolved": 1.0, "rating": 4.0}
    assert events_of(kept, "session").to_dicts() == [
        {"session": "s", "use_case": "answers", "tenant": "acme", "resolved": 0.0}
    ]
    with pytest.raises(ConfigError, match="no outcome of a call"):
        events_of(kept.filter(pl.col("trace_id") == ""), "trace_id")


def test_the_same_events_in_another_order_have_the_same_impact():
    events = by_trace([n % 3 / 2 for n in range(10)])
    turned = [{**row, "trace_id": f"t{n}"} for n, row in enumerate(TEN)][::-1]
    there = impact_of(calls(TEN), events, on="trace_id")
    assert impact_of(calls(turned), events.reverse(), on="trace_id").to_json() == there.to_json()
