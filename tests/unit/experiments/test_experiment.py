from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time

import pytest

from workbench import _sync
from workbench.context import current_invocation
from workbench.errors import ConfigError, InvalidOutputError, RefusedError, ReplayMissError, UnavailableError
from workbench.experiments.dataset import Case, Dataset, Question
from workbench.experiments.experiment import Experiment
from workbench.experiments.scorers import contains
from workbench.experiments.task import Answer, task

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
