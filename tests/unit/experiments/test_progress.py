"""The progress of a run: what it counts and tells, where it is shown, and how it is stopped."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading

import pytest
from IPython.core.interactiveshell import InteractiveShell

from workbench import _sync
from workbench.errors import RunStoppedError
from workbench.experiments import intervals
from workbench.experiments import progress_display as display
from workbench.experiments.concurrency import for_each
from workbench.experiments.dataset import Question
from workbench.experiments.experiment import Experiment
from workbench.experiments.progress import BudgetRoom, Finished, Progress
from workbench.experiments.scorers import contains
from workbench.experiments.task import task
from workbench.experiments.usage import ENDED_BY, spent
from workbench.widgets.nodes import Words


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def chat(**more):
    return {"port": "model", "operation": "chat", **more}


def test_it_tells_cases_errors_by_kind_spend_score_and_the_end():
    clock = Clock()
    progress = Progress(10, "answers · run", metric="accuracy", monotonic=clock)
    assert str(progress) == "answers · run: 0 of 10 cases, begun 0 s ago"
    for n, error in enumerate(["", "", "timeout", "InvalidOutputError", "timeout"]):
        progress.step(Finished(case=f"c{n}", error=error, spent_usd=0.1, score=None if error else float(n)))
    clock.now = 100.0
    exact = intervals.proportion_interval(1, 2, level=0.9)
    assert progress.facts() == [
        "5 of 10 cases", "3 errors (2 timeout, 1 InvalidOutputError)", "0.5 USD spent",
        f"accuracy 0.5 [{exact.low:.3g}, {exact.high:.3g}]", "about 1 min 40 s left",
    ]  # fmt: skip
    progress.budget = BudgetRoom(name="day", limit_usd=5, left_usd=4.5)
    assert "0.5 USD spent, 4.5 of 5 USD left of the budget day" in progress.facts()
    progress.step(Finished(spent_usd=None))
    assert "spend unknown, 4.5 of 5 USD left of the budget day" in progress.facts()


def test_repeats_of_a_case_count_once_and_another_scale_has_no_interval():
    progress = Progress(4, "t", metric="m")
    for case, score in (("a", 1.0), ("a", 0.0), ("b", 1.0)):
        progress.step(Finished(case=case, score=score))
    exact = intervals.proportion_interval(1.5, 2, level=0.9)
    assert f"m 0.75 [{exact.low:.3g}, {exact.high:.3g}]" in progress.facts()
    progress.step(Finished(case="c", score=7.0))
    progress.end()
    assert "m 2.83" in progress.facts()


@pytest.mark.parametrize(
    ("records", "paid"),
    [
        ([], 0.0),
        ([chat(cost_usd=0.5), chat(cost_usd=0.25)], 0.75),
        ([chat(cost_usd=0.5, replayed=True), chat(cost_usd=0.25)], 0.25),
        ([chat(cost_usd=0.1, replayed=True, source="exact")], 0.1),
        ([chat(cost_usd=None)], None),
        ([{"port": "memory", "operation": "search"}], 0.0),
    ],
)
def test_a_replayed_answer_is_not_paid_for(records, paid):
    assert spent(records) == paid


def test_a_runner_gets_lines_of_json_as_before(tmp_path):
    progress = Progress(3, "t", path=tmp_path / "p")
    for _ in range(3):
        progress.step(Finished())
    lines = [json.loads(line) for line in (tmp_path / "p").read_text().splitlines()]
    assert lines[-1] == {"what": "t", "done": 3, "total": 3}
    assert all(set(line) == {"what", "done", "total"} for line in lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_line_and_a_file_has_plain_ones(monkeypatch):
    monkeypatch.setattr(display.shutil, "get_terminal_size", lambda: os.terminal_size((30, 9)))
    progress = Progress(3, "a long title\x1b[31m of a run")
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        shows = display.lines_for(stream)
        shows.show(progress)
        shows.show(progress)
        assert shows.every_s >= 0.25
        shows.end(progress)
    first, second, _ = terminal.getvalue().split("\r\x1b[2K")[1:]
    assert first == second and len(first) == 29 and "\n" not in first and "\x1b" not in first
    assert terminal.getvalue().endswith("\n")
    assert log.getvalue().count("\n") == 3 and "\x1b" not in log.getvalue() and "\r" not in log.getvalue()


def test_a_short_run_shows_nothing(capsys):
    async def work(_item, _pool):
        return Finished()

    asyncio.run(for_each(range(9), work, workers=2, progress=Progress(9, "t")))
    assert capsys.readouterr() == ("", "")


def test_the_display_begins_after_a_moment_and_ends_with_the_run(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "_DELAY_S", 0.0)
    monkeypatch.setattr(display, "lines_for", lambda _stream: Recorded(shown))
    again = asyncio.Event()

    async def room():
        again.set()
        return BudgetRoom(name="day", limit_usd=1, left_usd=0.5)

    async def work(_item, _pool):
        await again.wait()
        return Finished()

    asyncio.run(for_each([1, 2], work, workers=1, progress=Progress(2, "t", room=room)))
    assert "0.5 of 1 USD left" in shown[0] and "2 of 2 cases" in shown[-1] and "done after" in shown[-1]


class Recorded:
    every_s = 0.0

    def __init__(self, shown):
        self.shown = shown

    def show(self, progress):
        self.shown.append(str(progress))

    end = show


def test_a_display_that_breaks_ends_no_run(monkeypatch, capsys):
    monkeypatch.setattr(display, "_DELAY_S", 0.0)
    monkeypatch.setattr(display, "lines_for", lambda _stream: None)
    turns = []

    async def work(item, _pool):
        await asyncio.sleep(0)
        turns.append(item)
        return Finished()

    asyncio.run(for_each(range(5), work, workers=1, progress=Progress(5, "t")))
    assert turns == [0, 1, 2, 3, 4] and "not shown any more" in capsys.readouterr().err


# -- stopping --------------------------------------------------------------------------------------


class Ws:
    tenant = "acme"


def experiment(kept, **more):
    return Experiment(
        name="answers", use_case="answers", bind=lambda *_: Ws(), describe=lambda _: {"model": "m"},
        keep=kept.append, task_digest="t", gate_digest="g", concurrency=2, **more,
    )  # fmt: skip


def halted(cases_of, n, *, at, halt):
    """A task that calls `halt` in the case number `at` and waits for its end, and the cases."""

    @task
    async def answer(_ws, case: Question) -> str:
        if case.id == f"c{at}":
            halt()
            await asyncio.sleep(3600)
        return "q"

    return answer, cases_of(n)


@pytest.fixture
def cases_of():
    from workbench.experiments.dataset import Case, Dataset

    def made(n):
        of = [
            Case(id=f"c{i}", tenant="acme", inputs={"question": "q"}, expected={"answers": ["q"]})
            for i in range(n)
        ]
        return Dataset(name="questions", cases=tuple(of))

    return made


@pytest.fixture
def progresses(monkeypatch):
    """Each progress that an experiment makes."""
    from workbench.experiments import experiment as module

    made = []

    def progress(*args, **more):
        made.append(Progress(*args, **more))
        return made[-1]

    monkeypatch.setattr(module, "Progress", progress)
    return made


def last_stops(progresses):
    """What stops the last progress, which is made later."""

    def stop():
        progresses[-1].stop()

    return stop


def check_stopped(run, *, least=1):
    assert run.settings[ENDED_BY] == "stopped" and run.n_cases >= least
    assert (run.task_digest, run.gate_digest) == ("", None), "no gate and no promotion knows it"
    assert "ended early (stopped)" in str(run)


def test_a_stop_keeps_what_is_finished_as_a_run_that_no_gate_passes(cases_of, progresses):
    kept = []

    def stop():
        thread = threading.Thread(target=progresses[0].stop)  # a page's message comes on another thread
        thread.start()
        thread.join(10)

    answer, cases = halted(cases_of, 9, at=5, halt=stop)
    with pytest.raises(RunStoppedError, match="of 9 items were finished; they are kept as run ") as stopped:
        experiment(kept).run(answer, cases, scorers=[contains(name="accuracy")])
    (run,) = kept
    check_stopped(run, least=5)
    assert run.id in str(stopped.value) and "stopped after" in str(progresses[0])
    progresses[0].stop()  # again, and after the end: nothing happens


def test_an_interrupt_of_a_sync_verb_keeps_what_is_finished_and_stays_an_interrupt(
    cases_of, progresses, monkeypatch
):
    kept = []
    waiting = _sync.concurrent.futures.Future.result
    reached = threading.Event()

    def result(future, timeout=None):
        if threading.current_thread() is not threading.main_thread():
            return waiting(future, timeout)
        reached.wait(10)
        raise KeyboardInterrupt  # as in a cell that waits, or a terminal

    answer, cases = halted(cases_of, 9, at=5, halt=reached.set)
    monkeypatch.setattr(_sync.concurrent.futures.Future, "result", result)
    with pytest.raises(KeyboardInterrupt):
        experiment(kept).run(answer, cases, scorers=[contains(name="accuracy")])
    monkeypatch.setattr(_sync.concurrent.futures.Future, "result", waiting)
    (run,) = kept
    check_stopped(run, least=5)
    assert f"kept as run {run.id}" in str(progresses[0])


def test_a_cancelled_async_verb_keeps_what_is_finished(cases_of):
    kept, reached = [], threading.Event()
    answer, cases = halted(cases_of, 9, at=5, halt=reached.set)

    async def go():
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(
            experiment(kept).run_async(answer, cases, scorers=[contains(name="accuracy")])
        )
        await loop.run_in_executor(None, reached.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
    _sync.run(asyncio.sleep(0))
    while not kept:  # the loop goes on with what was cancelled
        _sync.run(asyncio.sleep(0))
    check_stopped(kept[0], least=5)


def test_before_the_first_case_there_is_nothing_to_keep(cases_of, progresses):
    kept = []
    answer, cases = halted(cases_of, 1, at=0, halt=last_stops(progresses))
    with pytest.raises(RunStoppedError, match="0 of 1 items were finished\n"):
        experiment(kept).run(answer, cases, scorers=[contains(name="accuracy")])
    assert not kept


def test_what_cannot_be_kept_is_an_error_and_no_silence(cases_of, progresses):
    def full(_run):
        raise OSError(28, "No space left on device")

    made = experiment([])
    object.__setattr__(made, "keep", full)
    answer, cases = halted(cases_of, 9, at=5, halt=last_stops(progresses))
    with pytest.raises(OSError, match="No space left"):
        made.run(answer, cases, scorers=[contains(name="accuracy")])


def test_the_other_arms_of_a_stopped_comparison_do_not_run(cases_of, progresses):
    kept = []
    answer, cases = halted(cases_of, 9, at=5, halt=last_stops(progresses))
    with pytest.raises(RunStoppedError):
        experiment(kept).compare(
            answer, cases, scorers=[contains(name="accuracy")], arms={"one": {}, "two": {}}
        )
    assert [run.arm for run in kept] == ["one"]


def test_a_notebook_shows_no_traceback_of_a_run_that_a_person_stopped():
    shell, error = InteractiveShell(), RunStoppedError("stopped: 7 of 9 items were finished")
    shown = []
    shell._showtraceback = lambda kind, value, lines: shown.extend(lines)
    shell.user_ns["error"] = error
    shell.run_cell("raise error")
    assert shown == [f"RunStoppedError: {error}"] and "ws.runs()" in str(error)


# -- the panel -------------------------------------------------------------------------------------


def test_the_panel_shows_the_facts_and_stops_the_run_once(monkeypatch):
    cancelled = []
    progress = Progress(4, "answers · run", metric="accuracy")
    progress.stops_with(lambda: cancelled.append(True))
    panel = display.ProgressPanel(progress)
    progress.step(Finished(case="a", error="timeout"))
    text = str(panel)
    assert "1 of 4 cases" in text and "1 error (1 timeout)" in text
    waited = display.ProgressPanel(progress, interrupted=True)
    assert "interrupt the kernel" in str(waited) and '"t": "button"' not in json.dumps(waited.to_json())
    monkeypatch.setattr(display, "is_reached_while_busy", lambda: True)
    assert "Or interrupt" in str(waited) and '"t": "button"' in json.dumps(waited.to_json())
    panel.act("stop")
    panel.act("stop")
    panel.stop()
    assert cancelled == [True] and "stopping" in str(panel)
    progress.end()
    assert "stopped after" in str(panel) and "interrupt" not in str(waited)
    one_line = Words(text=str(progress), tone="warn").to_json()
    assert panel.to_json()["view"] == one_line, "no button any more"


def test_a_page_is_told_to_interrupt_where_the_main_thread_waits():
    async def waits():
        return _sync.main_thread_waits()

    assert _sync.run(waits()) and not _sync.main_thread_waits()
    assert not asyncio.run(_sync.run_async(waits()))
    found = []
    thread = threading.Thread(target=lambda: found.append(_sync.run(waits())))
    thread.start()
    thread.join(10)
    assert found == [False]


def test_a_stop_that_comes_before_the_work_is_not_lost():
    cancelled = []
    progress = Progress(1, "t")
    progress.stop()
    progress.stops_with(lambda: cancelled.append(True))
    assert cancelled == [True]
