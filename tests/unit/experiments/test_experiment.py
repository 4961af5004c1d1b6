from __future__ import annotations

import asyncio
import dataclasses
import decimal
import inspect
import json
import threading
import time

import numpy as np
import pytest

from workbench import _sync
from workbench.context import current_invocation
from workbench.errors import (
    ConfigError,
    InvalidOutputError,
    NoAnswerError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
)
from workbench.experiments.dataset import Case, Dataset, Question
from workbench.experiments.experiment import Experiment
from workbench.experiments.gates import GateSpec, judge
from workbench.experiments.scorers import Scorer, contains, scorer
from workbench.experiments.task import Answer, Task, task

SCORERS = [contains(name="accuracy")]


def cases(n=6):
    return Dataset(
        name="made",
        cases=tuple(
            Case(
                id=f"c{i:02}", tenant="acme" if i % 2 else "globex", inputs={"question": f"q{i}"},
                expected={"answers": ["yes"], "page": "p"},
            )
            for i in range(n)
        ),
    )  # fmt: skip


@pytest.fixture
def kept():
    return []


@pytest.fixture
def experiment(kept):
    return Experiment(
        name="e", use_case="u", bind=lambda tenant, settings: (tenant, dict(settings)),
        describe=dict, keep=kept.append, task_digest="t", gate_digest="g", concurrency=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "gate"), [("handbook@2", "g"), ("handbook@1", "g"), ("python-reference@1", None)]
)
def test_a_gate_is_stated_for_runs_over_the_use_cases_own_memory_only(experiment, memory, gate):
    one = dataclasses.replace(experiment, gated_memory="handbook")
    run = one.run(yes, cases(), scorers=SCORERS, settings={"memory": memory})
    assert run.gate_digest == gate


@task
def yes(ws, case: Question) -> Answer:
    return Answer(text="yes", sources=(ws[0],))


@task
async def later(ws, case: Question) -> Answer:
    await asyncio.sleep(0)
    return Answer(text="yes" if ws[0] == case.tenant else "no")


@pytest.mark.parametrize("what", [yes, later], ids=["sync", "async"])
def test_every_case_is_asked_for_its_own_tenant_and_scored(experiment, kept, what):
    run = experiment.run(what, cases(), scorers=SCORERS, arm="a", settings={"prompt": "p@1"})
    assert run.cases["score.accuracy"].to_list() == [1.0] * 6 and kept == [run]
    assert (run.settings["prompt"], run.settings["task"], run.task_digest) == ("p@1", what.name, "t")
    assert run.cases["tenant"].to_list() == ["globex", "acme"] * 3


def test_a_case_that_errors_is_unscored_and_counted_never_a_zero(experiment):
    @task
    def sometimes(ws, case: Question) -> Answer:
        if case.id == "c01":
            raise InvalidOutputError("not JSON")
        if case.id == "c02":
            raise KeyError("a secret text")
        return Answer(text="yes")

    run = experiment.run(sometimes, cases(), scorers=SCORERS)
    assert run.n_unscored == 2 and run.metric("accuracy").value == 1.0 and run.metric("accuracy").n == 4
    assert run.cases["error"].to_list()[1:3] == ["InvalidOutputError: not JSON", "KeyError"]


def test_a_run_counts_searches_of_the_last_snapshot_and_says_nothing_without_any(experiment):
    @task
    def searching(ws, case: Question) -> Answer:
        away = case.id in {"c01", "c04"}
        search = {"port": "memory", "operation": "search", "degraded": away}
        current_invocation().records.extend([search] * (2 if case.id == "c04" else 1))
        return Answer(text="yes")

    run = experiment.run(searching, cases(), scorers=SCORERS)
    assert run.n_degraded == 3 and run.cases["degraded"].to_list() == [0, 1, 0, 0, 2, 0]
    assert "degraded: 3 searches were answered by the last snapshot: the server was away" in str(run)
    healthy = experiment.run(yes, cases(), scorers=SCORERS)
    assert healthy.n_degraded == 0 and "degraded" not in healthy.cases.columns
    assert "degraded" not in str(healthy)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"), UnavailableError("nobody"), ReplayMissError("no recording"),
        RefusedError("who are you", status=401),
    ],
)  # fmt: skip
def test_what_every_other_case_would_meet_too_stops_the_run(experiment, kept, error):
    @task
    def broken(ws, case: Question) -> Answer:
        raise error

    with pytest.raises(type(error)) as caught:
        experiment.run(broken, cases(), scorers=SCORERS)
    assert caught.value is error and not kept


def test_a_case_that_still_waits_does_not_hold_up_the_end_of_the_run(experiment, kept):
    @task
    def one_fails(ws, case: Question) -> Answer:
        if case.question.endswith("0"):
            raise UnavailableError("nobody")
        _sync.run(asyncio.sleep(0.1))
        return Answer(text="yes")

    with pytest.raises(UnavailableError):
        experiment.run(one_fails, cases(), scorers=SCORERS)
    assert not kept


def test_no_more_than_the_allowed_number_run_at_once(experiment):
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(3, timeout=5)

    @task
    def slow(ws, case: Question) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        return Answer(text="yes")

    experiment.run(slow, cases(6), scorers=SCORERS)
    assert most == 3


def test_each_case_and_repeat_is_an_occurrence_of_its_own(experiment):
    seen = []

    @task
    def look(ws, case: Question) -> Answer:
        where = current_invocation()
        seen.append((where.case, where.repeat, where.number("digest")))
        return Answer(text="yes")

    run = experiment.run(look, cases(2), scorers=SCORERS, repeats=2)
    assert sorted(seen) == [("c00", 0, 0), ("c00", 1, 0), ("c01", 0, 0), ("c01", 1, 0)]
    assert run.repeats == 2 and run.n_cases == 2


def test_arms_are_compared_with_the_first_unless_another_is_named(experiment):
    @task
    def no(ws, case: Question) -> Answer:
        return Answer(text="no")

    arms = {"today": {"task": no}, "new": {}}
    result = experiment.compare(yes, cases(12), scorers=SCORERS, arms=arms)
    assert result.comparison["new"].verdict == "better"
    named = experiment.compare(yes, cases(12), scorers=SCORERS, arms=arms, baseline="new")
    assert named.comparison["today"].verdict == "worse"
    with pytest.raises(ConfigError, match="baseline 'old' is not among the arms"):
        experiment.compare(yes, cases(), scorers=SCORERS, arms=arms, baseline="old")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scorers": []}, "scorers with different names"),
        ({"scorers": SCORERS * 2}, "scorers with different names"),
        ({"repeats": 0}, "repeats must be 1 or more"),
    ],
)
def test_a_wrong_set_up_is_refused_before_the_first_call(experiment, change, said):
    with pytest.raises(ConfigError, match=said):
        experiment.run(yes, cases(), **{"scorers": SCORERS, **change})
    with pytest.raises(ConfigError, match="has no cases"):
        experiment.run(yes, cases(0), scorers=SCORERS)
    with pytest.raises(ConfigError, match="is not a task"):
        experiment.run(print, cases(), scorers=SCORERS)


def test_progress_is_told_to_a_runner_in_lines(experiment, kept, tmp_path):
    import dataclasses

    path = tmp_path / "progress"
    dataclasses.replace(experiment, progress=path).run(yes, cases(), scorers=SCORERS, arm="a")
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert told[-1] == {"what": "e · a", "done": 6, "total": 6}


def test_a_task_must_say_what_it_takes_and_gives():
    with pytest.raises(ConfigError, match="needs the parameters"):
        task(lambda ws, case: None)

    @task
    def wrong(ws, case: Question) -> Answer:
        return 3

    with pytest.raises(InvalidOutputError, match="declares Answer and returned int"):
        wrong.write(3)
    assert time.monotonic() and wrong(None, None) == 3


def scored(experiment, gives, value, scorers=SCORERS):
    """A run in which case c01 gives `value` and all others give what scores 1."""

    def odd(ws, case: Question):
        return value if case.id == "c01" else good

    good = "yes"
    odd.__annotations__["return"] = gives
    return experiment.run(task(odd), cases(), scorers=scorers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    value: object
    text: str = "yes"


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**64, "not_storable"),
        (-(2**63) - 1, "not_storable"),
        (10**400, "not_storable"),
        ("half a pair \ud83d", "not_storable"),
        ({"a": "\udc00"}, "not_storable"),
        ({1: "a"}, "not_storable"),
        (b"bytes", "not_storable"),
        ({1, 2}, "not_storable"),
        (1j, "not_storable"),
        (object(), "not_storable"),
        (nested(400), "not_storable"),
        (float("nan"), "not_a_number"),
        ({"a": [1.0, float("nan")]}, "not_a_number"),
        (float("inf"), "infinite"),
        ([None, {"b": (-float("inf"),)}], "infinite"),
    ],
)
def test_a_case_with_an_output_that_cannot_be_stored_is_unscored(experiment, kept, value, reason):
    run = scored(experiment, object, Held(value=value))
    assert kept == [run] and run.unscored_reasons == {reason: 1} and run.n_unscored == 1
    row = run.cases.row(1, named=True)
    assert (row["status"], row["output"], row["score.accuracy"]) == ("unscored", None, None)
    assert row["error"].startswith(f"{reason}: the output")
    assert run.metric("unscored_rate").value == pytest.approx(1 / 6) and run.metric("accuracy").n == 5
    assert f"unscored: 1 {reason}" in str(run)


@pytest.mark.parametrize("value", [None, 2**63, -(2**63), 0.1, "null", {"a": None}, [], "\u2028", True, "😀"])
def test_an_output_that_json_can_hold_is_stored_exactly(experiment, value):
    run = scored(experiment, object, Held(value=value))
    assert run.n_unscored == 0
    assert json.loads(run.cases["output"][1])["value"] == value


@pytest.mark.parametrize(
    "sources", ["page", ("page",), ["page"], (), 5, [5], {"page"}, None, [None], [["page"]]]
)
def test_sources_of_any_type_lose_no_run(experiment, sources):
    run = scored(experiment, object, dataclasses.make_dataclass("O", ["text", "sources"])("yes", sources))
    first = run.cases["sources"][1].to_list()
    assert first == (["page"] if sources in ("page", ("page",), ["page"]) else [])
    assert run.unscored_reasons == ({"not_storable": 1} if sources == {"page"} else {})


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (float("nan"), "not_a_number"),
        (float("inf"), "infinite"),
        (-float("inf"), "infinite"),
        (np.float32("nan"), "not_a_number"),
        (np.float64("inf"), "infinite"),
        (decimal.Decimal("NaN"), "not_a_number"),
        (decimal.Decimal("Infinity"), "infinite"),
        (1e308 * 10, "infinite"),
        ("nan", "InvalidOutputError"),
        ("inf", "InvalidOutputError"),
        (10**400, "InvalidOutputError"),
        ([1.0], "InvalidOutputError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_score_that_is_no_finite_number_is_never_a_pass(experiment, score, reason):
    def faithful(seen):
        value = score if seen.case.id == "c01" else 1.0
        return value() if callable(value) else value

    run = scored(experiment, str, "yes", [*SCORERS, scorer(faithful)])
    assert run.unscored_reasons == {reason: 1} and run.metric("accuracy").n == 5
    assert run.metric("faithful").value == 1.0
    gate = GateSpec.parse({"unscored_rate": {"max": 0.02}, "confidence": 0.9}, where="x")
    report = judge(run, gate, phase="mvp")
    assert report.verdict != "pass" and report.to_json()["unscored"] == {reason: 1}
    assert f"1 rows unscored: 1 {reason}" in str(report)
    gate = GateSpec.parse({"faithful": {"min": 0.1}, "confidence": 0.9}, where="x")
    line = judge(run, gate, phase="mvp").lines[0]
    assert line.n == 5 and "1 of 6 cases without a value" in line.note
    assert (line.verdict, "returned infinity for 1 rows" in line.note) == (
        ("undecided", True) if reason == "infinite" else ("pass", False)
    )
    everywhere = experiment.run(yes, cases(), scorers=[Scorer(name="s", function=lambda _: float("inf"))])
    line = judge(
        everywhere, GateSpec.parse({"s": {"min": 0.1}, "confidence": 0.9}, where="x"), phase="x"
    ).lines[0]
    assert (line.verdict, line.value, line.n) == ("undecided", None, 0)


def test_an_error_with_a_reason_is_counted_by_it_and_odd_texts_in_it_lose_no_run(experiment):
    @task
    def refusing(ws, case: Question) -> Answer:
        if case.id == "c01":
            raise NoAnswerError("the model refused: \ud83d", reason="refusal")
        if case.id > "c03":
            b"\xff".decode()
        return Answer(text="yes")

    run = experiment.run(refusing, cases(), scorers=SCORERS)
    assert run.unscored_reasons == {"UnicodeDecodeError": 2, "refusal": 1}
    assert run.cases["error"][1] == "refusal: the model refused: \\ud83d"


@pytest.mark.parametrize("usage", ["ten", [1], {"a": 1}, float("nan"), float("inf"), None])
def test_a_usage_that_is_no_number_is_unknown_and_loses_no_run(experiment, usage):
    @task
    def counted(ws, case: Question) -> Answer:
        current_invocation().records.append({"port": "model", "operation": "chat", "cost_usd": usage})
        return Answer(text="yes")

    run = experiment.run(counted, cases(), scorers=SCORERS)
    assert run.cases["cost_usd"].null_count() == 6 and run.n_unscored == 0


@pytest.mark.parametrize("answers", [46, ["yes", 46], None, "", ["yes", "…"]])
def test_one_case_that_cannot_be_scored_is_refused_before_the_first_call(experiment, kept, answers):
    called = []

    @task
    def answer(ws, case: Question) -> str:
        called.append(case.id)
        return "yes"

    good = cases()
    odd = dataclasses.replace(good.cases[4], expected={"answers": answers, "page": "p"})
    mixed = dataclasses.replace(good, cases=(*good.cases[:4], odd, good.cases[5]))
    with pytest.raises(ConfigError, match=r"case c04: .*answers"):
        experiment.run(answer, mixed, scorers=[scorer(lambda _: 1.0), *SCORERS])
    assert not called and not kept


@pytest.mark.parametrize("verb", [Experiment.run, Experiment.compare, Task.map])
def test_a_verb_has_a_twin_with_its_parameters_and_a_docstring(verb):
    owner = Task if verb is Task.map else Experiment
    twin = getattr(owner, f"{verb.__name__}_async")
    assert inspect.iscoroutinefunction(twin) and not inspect.iscoroutinefunction(verb)
    assert inspect.signature(verb) == inspect.signature(twin) and verb.__doc__ == twin.__doc__ is not None


def test_twins_give_the_same_run_in_a_script_and_in_a_running_loop(experiment):
    async def notebook():
        inside = experiment.run(later, cases(), scorers=SCORERS)
        awaited = await experiment.run_async(later, cases(), scorers=SCORERS)
        arms = await experiment.compare_async(
            yes, cases(), scorers=SCORERS, arms={"a": {}, "b": {"task": later}}
        )
        return inside, awaited, arms["b"]

    alone = experiment.run(later, cases(), scorers=SCORERS)
    inside, awaited, arm = asyncio.run(notebook())
    assert alone.id == inside.id == awaited.id
    assert arm.cases.equals(alone.cases)
