"""What the plots of runs show, beside the numbers of the cards."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from made_runs import a_run, as_control, of

from workbench.errors import ConfigError
from workbench.experiments.compare import compare, compare_all
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.experiment import ComparedRuns
from workbench.experiments.slices import Slicing

N = 40


def compared(*, slices=False, **scores):
    """Three arms over the same cases: the baseline, a control, and a candidate."""
    runs = {
        "today": a_run("today", accuracy=of(20, N), cost=0.002),
        "closed_book": as_control(a_run("closed_book", accuracy=of(0, N), cost=0.001)),
        "new": a_run("new", accuracy=of(30, N), cost=0.003, **scores),
    }
    found = compare_all([runs["closed_book"], runs["new"]], baseline=runs["today"])
    if slices:
        cases = tuple(
            Case(id=case, tenant="acme", inputs={"q": "?"}, expected={"label": f"l{n % 2}"})
            for n, case in enumerate(runs["today"].case_ids)
        )
        found = found.by_slice(Slicing.of(Dataset(name="d", cases=cases), ["label"]))
    return ComparedRuns(runs=runs, comparison=found)


def free(run):
    """The run of an arm that asks no model."""
    return dataclasses.replace(
        run,
        cases=run.cases.with_columns(
            cost_usd=pl.lit(0.0), calls=pl.lit(0), latency_s=pl.lit(None, pl.Float64)
        ),
    )


def test_the_arms_have_the_value_and_interval_of_their_cards_and_controls_are_marked():
    result = compared()
    plot = result.plot()
    marks = {mark.name: mark for mark in plot.marks}
    assert list(marks) == ["today", "closed_book", "new"] and plot.scale == (0.0, 1.0)
    metric = result["new"].metric("accuracy", 0.95)
    assert (marks["new"].value, marks["new"].low, marks["new"].high) == (
        metric.value, metric.interval.low, metric.interval.high,
    )  # fmt: skip
    assert [mark.role for mark in plot.marks] == ["", "control", ""] and "closed_book (control)" in str(plot)


def test_the_forest_has_each_arm_s_effect_in_each_slice_and_a_line_at_none():
    result = compared(slices=True)
    plot = result.plot("slices")
    assert plot.reference == 0.0 and len(plot.marks) == 4
    effects = {effect.key: effect for effect in result.comparison["new"].slices}
    for mark in plot.marks[2:]:
        assert mark.group == "new against today, by label"
        assert (mark.value, mark.low) == (effects[mark.name].effect, effects[mark.name].interval.low)
    assert result.comparison["new"].plot("slices").marks == plot.marks[2:]


def test_without_declared_slices_the_tenants_are_the_slices():
    plot = compared().plot("slices")
    assert [(m.group, m.name) for m in plot.marks][:3] == [
        ("today", "acme"),
        ("today", "globex"),
        ("today", "all"),
    ]
    run = a_run(accuracy=of(20, N))
    assert [mark.value for mark in run.plot("slices").marks] == [0.5, 0.5, 0.5]


def test_cost_against_quality_has_a_point_an_arm_in_money_or_where_nothing_costs_in_seconds():
    paid = compared().plot("cost")
    assert paid.form == "points" and paid.across == "USD per case"
    assert [mark.across for mark in paid.marks] == pytest.approx([0.002, 0.001, 0.003])
    asked, vote = a_run("model", accuracy=of(20, N), cost=0.0), free(a_run("vote", accuracy=of(20, N)))
    timed = compare(vote, asked).plot("cost")
    assert timed.across == "seconds per case"
    assert timed.marks[0].across == pytest.approx(asked.cases["latency_s"].mean())
    assert (timed.marks[1].name, timed.marks[1].across) == ("vote", 0.0)


def test_latency_has_the_quantiles_of_the_recorded_seconds_and_none_for_an_arm_without_a_model():
    run = a_run("slow", accuracy=of(10, 100), latency=[n / 100 for n in range(1, 101)])
    (mark,) = run.plot("latency").marks
    assert (mark.low, mark.inner, mark.value, mark.high) == (0.05, (0.25, 0.75), 0.5, 0.95)
    vote = free(a_run("vote", accuracy=of(20, 100)))
    assert [m.n for m in compare(vote, run).plot("latency").marks] == [100, 0]
    with pytest.raises(ConfigError, match="no arm asked a model"):
        vote.plot("latency")


def test_calibration_shows_the_outcome_beside_the_mean_of_the_forecast_in_each_part():
    grounded = [(n % 10) / 10 + 0.05 for n in range(N)]
    plot = a_run(accuracy=of(20, N), grounded=grounded).plot("calibration")
    assert [mark.name for mark in plot.marks] == [
        "grounded 0 to 0.2", "grounded 0.2 to 0.4", "grounded 0.4 to 0.6", "grounded 0.6 to 0.8",
        "grounded 0.8 to 1",
    ]  # fmt: skip
    assert [mark.across for mark in plot.marks] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert sum(mark.n for mark in plot.marks) == N and "mean forecast" in str(plot)


def test_a_yes_or_no_forecast_has_a_part_for_each_and_the_chosen_one_is_taken():
    found = [float(n % 4 > 0) for n in range(N)]
    run = a_run(accuracy=of(20, N), recall_at_5=found, grounded=[n / N for n in range(N)])
    assert run.plot("calibration").marks[0].name.startswith("grounded")
    plot = run.plot("calibration", by="recall_at_5")
    assert [(m.name, m.n, m.across) for m in plot.marks] == [
        ("recall_at_5 0", 10, 0.0),
        ("recall_at_5 1", 30, 1.0),
    ]


def test_a_run_without_a_forecast_says_what_would_be_one():
    with pytest.raises(ConfigError, match=r"no score forecasts accuracy.*the scores are accuracy") as refused:
        a_run(accuracy=of(20, N)).plot("calibration")
    assert "wb.grounded()" in refused.value.hint
    with pytest.raises(ConfigError, match="score words of arm new is no forecast"):
        a_run(accuracy=of(20, N), words=[5.0] * N).plot("calibration", by="words")


@pytest.mark.parametrize(
    "shown",
    [a_run(s=of(3, N)), compared(), compared().comparison["new"]],
    ids=["run", "result", "comparison"],
)
def test_an_unknown_plot_or_metric_is_an_error_that_lists_the_known_ones(shown):
    with pytest.raises(ConfigError, match=r"there is no plot 'arm'.*arms") as refused:
        shown.plot("arm")
    assert "arms, slices, cost, latency, calibration" in refused.value.hint
    with pytest.raises(ConfigError, match="no metric 'acuracy'"):
        shown.plot("arms", metric="acuracy")


def test_a_run_shows_each_score_from_0_to_1_and_no_other():
    plot = a_run(accuracy=of(20, N), words=[float(n) for n in range(N)]).plot()
    assert [mark.name for mark in plot.marks] == ["accuracy"]
    with pytest.raises(ConfigError, match="no score whose values are from 0 to 1"):
        a_run(words=[5.0 + n for n in range(N)]).plot()


def test_a_case_without_a_score_is_left_out_of_a_plot_and_is_no_zero():
    run = a_run(accuracy=[None, None, *of(38, 38)], grounded=[None, None, *([0.5] * 20), *([0.9] * 18)])
    assert run.plot("arms").marks[0].value == 1.0
    assert sum(mark.n for mark in run.plot("calibration").marks) == 38
