"""Limits of a run: which ends it, what is told, what is kept, and whose calls are counted together."""

import asyncio
import threading
from dataclasses import dataclass, replace

import pytest
from calls import ask, behind, chat, read

from workbench.config import Execution, Job, JobLimits, RunLimits, UseCase, load_params, run_limits
from workbench.context import RunScope
from workbench.controls.limits import LimitedRuns
from workbench.controls.stack import fold
from workbench.errors import ConfigError, LimitExceededError
from workbench.experiments.batch import Batch
from workbench.experiments.concurrency import for_each
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.experiment import Experiment
from workbench.experiments.inputs import InputRow, Inputs
from workbench.experiments.progress import Progress
from workbench.experiments.scorers import contains
from workbench.experiments.task import task
from workbench.experiments.usage import ENDED_BY
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.types import Event
from workbench.workspace.boundary import _stated_limits


def limited(leaf=None, **limits):
    control = LimitedRuns(
        RunLimits(**limits), where="use_cases.answers.limits", price=lambda _target, usage: 0.25
    )
    return fold({"limits": control}, leaf or behind(FakeModel()))


def until_it_ends(handler, calls):
    """The number of calls that were answered, and the error of the next one."""
    for n, call in enumerate(calls):
        try:
            ask(handler, call)
        except LimitExceededError as error:
            return n, error
    return None


@pytest.mark.parametrize(
    ("limits", "answered", "told"),
    [
        ({"calls": 3}, 3, "3 calls"),
        ({"tokens": 13}, 3, "13 tokens"),  # an answer has 4 + 2 tokens
        ({"usd": 0.6}, 3, "0.6 USD"),
        ({"seconds": 4.5}, 5, "4.5 s"),
        ({"repeated": 2}, 2, "2 identical requests"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_limit_ends_the_run_and_says_which_and_what_was_spent(limits, answered, told):
    clock = FakeClock()

    def calls():
        for _ in range(10):
            yield chat("a taxi", clock=clock)
            clock.advance(1)

    n, error = until_it_ends(limited(**limits), calls())
    (name,) = limits
    assert n == answered and error.limit == name and f"limit of {told}" in error.message
    assert error.spent["calls"] == answered and not error.retryable
    tokens = {"tokens"} if name in {"tokens", "usd"} else set()
    assert error.spent.keys() == {"calls", "seconds", name} | tokens  # 0 is no number of what is not counted
    assert f"use_cases.answers.limits.{name}" in error.hint


def test_another_request_is_not_a_repeated_one():
    handler = limited(repeated=2)
    assert until_it_ends(handler, [chat(str(n)) for n in range(9)]) is None
    assert until_it_ends(handler, [chat("0"), chat("0")])[0] == 1


def test_a_run_that_has_ended_stays_ended_with_the_same_limit():
    clock = FakeClock()
    handler = limited(calls=1, seconds=5)
    ask(handler, chat(clock=clock))
    clock.advance(10)
    limits = {until_it_ends(handler, [chat(clock=clock)])[1].limit for _ in range(3)}
    assert len(limits) == 1


def test_calls_in_flight_are_counted_so_that_no_call_is_made_beyond_the_limit():
    model = FakeModel()
    handler = limited(behind(model), calls=7)

    async def several():
        return await asyncio.gather(*(read(handler, chat()) for _ in range(40)), return_exceptions=True)

    ends = asyncio.run(several())
    assert len(model.calls) == 7
    assert sum(isinstance(end, LimitExceededError) for end in ends) == 33


def test_threads_share_the_count():
    model = FakeModel()
    handler = limited(behind(model), calls=20)

    def work():
        until_it_ends(handler, [chat() for _ in range(20)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(model.calls) == 20


def test_a_replayed_answer_costs_no_tokens_and_no_money():
    async def replayed(call):
        call.span.note(replayed=True)
        yield Event(data={"usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}})

    assert until_it_ends(limited(replayed, tokens=1, usd=0.01), [chat() for _ in range(5)]) is None
    assert until_it_ends(limited(replayed, calls=3), [chat() for _ in range(5)])[0] == 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_endpoint_that_states_no_usage_escapes_no_limit(stream):
    async def silent(_call):
        yield Event(data={"choices": [{"delta" if stream else "message": {"content": "four"}}]})
        if stream:
            yield Event(data={"choices": [{"delta": {"content": "more"}, "finish_reason": None}]})

    calls = [chat(stream=stream) for _ in range(5)]
    taken = len("systembe briefusera taxi?") + 2 * 16 + (8 if stream else 4)
    assert until_it_ends(limited(silent, tokens=2 * taken), calls)[0] == 2
    assert until_it_ends(limited(silent, tokens=2 * taken + 1), calls)[0] == 3
    assert until_it_ends(limited(silent, usd=0.5), calls)[0] == 2


def test_what_is_computed_here_or_only_counted_takes_no_tokens():
    async def silent(_call):
        yield Event(data={"input_tokens": 5})

    counts = [replace(chat(), operation="count") for _ in range(5)]
    here = [chat(labels={"recorded": False}) for _ in range(5)]
    assert until_it_ends(limited(silent, tokens=1), counts) is None
    assert until_it_ends(limited(silent, tokens=1), here) is None


def test_each_run_begins_anew_and_a_jobs_process_is_one_run():
    handler = limited(calls=2)

    async def run(call):
        with RunScope.entered():
            return await asyncio.gather(*(read(handler, call) for _ in range(3)), return_exceptions=True)

    def ended(ends):
        return sum(isinstance(end, LimitExceededError) for end in ends)

    assert [ended(asyncio.run(run(chat()))) for _ in range(2)] == [1, 1]
    job = chat()
    job = replace(job, context=replace(job.context, job="answers", run="r1"))
    assert [ended(asyncio.run(run(job))) for _ in range(2)] == [1, 3]
    with pytest.raises(LimitExceededError) as caught:
        ask(handler, job)
    assert "promote" in caught.value.hint


@dataclass
class Ws:
    """What a task is given: a tenant, and calls of one handler."""

    handler: object
    tenant: str = "acme"

    async def chat(self, text):
        events = await read(self.handler, chat(text))
        return events[0]["choices"][0]["message"]["content"]


@dataclass
class Asked:
    question: str


@task
async def answer(ws, case: Asked) -> str:
    return await ws.chat(case.question)


def cases(n):
    return Dataset(
        name="questions",
        cases=tuple(
            Case(id=f"c{i}", tenant="acme", inputs={"question": f"q{i}"}, expected={"answers": ["q"]})
            for i in range(n)
        ),
    )


def test_an_experiment_keeps_its_finished_cases_and_raises_one_error_that_says_how_many():
    kept = []
    handler = limited(calls=5)
    experiment = Experiment(
        name="answers", use_case="answers", bind=lambda tenant, settings: Ws(handler),
        describe=lambda settings: {"model": "m"}, keep=kept.append, task_digest="t", gate_digest="g",
        concurrency=4,
    )  # fmt: skip
    with pytest.raises(LimitExceededError, match="of 12 items were finished") as caught:
        experiment.run(answer, cases(12), scorers=[contains(name="accuracy")])
    (run,) = kept
    assert run.settings[ENDED_BY] == "calls" == caught.value.limit
    assert (run.task_digest, run.gate_digest) == ("", None), "no gate and no promotion knows it"
    assert 1 <= run.cases.height <= 5 and set(run.cases["status"]) == {"scored"}
    assert f"{run.cases.height} of 12" in caught.value.message


def test_a_batch_ends_with_one_error_and_not_with_a_broken_row_for_each():
    handler = limited(calls=3)
    rows = tuple(
        InputRow(number=n, columns={"id": f"r{n}", "tenant": "acme", "question": f"q{n}"}) for n in range(9)
    )
    inputs = Inputs(name="x", rows=rows, tenants=("acme",), bind=lambda tenant: Ws(handler), concurrency=2)
    with pytest.raises(LimitExceededError, match="of 9 items were finished"):
        answer.map(inputs)
    few = replace(inputs, rows=rows[:3], bind=lambda tenant: Ws(limited(calls=3)))
    assert isinstance(answer.map(few), Batch)


def test_other_errors_of_a_run_stay_as_they_are():
    async def work(item, pool):
        raise KeyError(item)

    with pytest.raises(KeyError):
        asyncio.run(for_each([1], work, workers=1, progress=Progress(1, "x")))


# -- in params.yaml -------------------------------------------------------------------------------


def test_a_job_states_its_own_limits_and_takes_the_others_of_its_use_case(tmp_path, shipped_params):
    text = shipped_params.replace(
        "    tenants:", "    limits: {calls: 100, tokens: 5000, usd: 1.5, repeated: 20}\n    tenants:", 1
    )
    (tmp_path / "params.yaml").write_text(
        text + "\n  lim: {use_case: answers, sample: s.jsonl, limits: {seconds: 9, calls: 7}}\n"
    )
    params = load_params(tmp_path)
    case = params.use_cases["answers"]
    assert run_limits(params, case, None) == RunLimits(calls=100, tokens=5000, usd=1.5, repeated=20)
    assert run_limits(params, case, "lim") == RunLimits(calls=7, tokens=5000, usd=1.5, repeated=20)
    assert params.jobs["lim"].limits.of_version.seconds == 9
    in_job = Execution(notebook="", job="lim")
    assert _stated_limits(tmp_path, "answers", case, in_job)[0] == "jobs.lim.limits"
    assert _stated_limits(tmp_path, "answers", case, Execution(notebook=""))[0] == "use_cases.answers.limits"
    assert run_limits(params, params.use_cases["triage"], None) is None


@pytest.mark.parametrize("wrong", ["calls: 0", "usd: 0", "seconds: -1", "repeated: 0", "call: 3"])
def test_a_wrong_limit_is_an_error_that_names_it(tmp_path, shipped_params, wrong):
    text = shipped_params.replace("    tenants:", f"    limits: {{{wrong}}}\n    tenants:", 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=wrong.partition(":")[0]):
        load_params(tmp_path)


def test_without_limits_nothing_is_stated():
    assert Job(use_case="a", sample="s").limits == JobLimits()
    assert UseCase.__dataclass_fields__["limits"].default is None


@pytest.fixture
def shipped_params():
    from pathlib import Path

    return (Path(__file__).parents[3] / "params.yaml").read_text()
