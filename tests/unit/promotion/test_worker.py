"""What is said between runner and worker; what real processes do is in tests/faults."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import files
from workbench import worker as works
from workbench.errors import ConfigError, NotebookError, RefusedError, UnavailableError, WorkbenchError
from workbench.jobs import runner
from workbench.jobs.runner import Failure, Request, WorkerResult

REQUEST = Request(
    run="aa11", job="answers", use_case="answers", root="/code", home="/home", notebook="/w/task.ipynb",
    cwd="/code/notebooks", parameters={"k": 3}, inputs="/w/rows.jsonl", pins={"prompt": "answer@2"},
    arm={"temperature": 0.5}, memory="m" * 64, memories="/memories", mode="replay", tape="/t", out="/w/out",
)  # fmt: skip
OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "broken": st.floats(0, 1), "tenant": st.none() | st.text(), "journal": st.none() | st.text(),
        "tape_out": st.none() | st.text(), "watch": st.none() | st.text(), "show": st.booleans(),
    },
)  # fmt: skip


def read(kind, data):
    return files.parse(kind, json.loads(data), where="here")


@given(changes=OPTIONAL)
def test_a_request_reads_back_and_says_nothing_that_goes_without_saying(changes):
    request = dataclasses.replace(REQUEST, **changes)
    said = json.loads(runner.told(request))
    assert read(Request, runner.told(request)) == request
    usual = {name: getattr(REQUEST, name) for name in changes}
    assert said.keys() & changes.keys() == {name for name in changes if changes[name] != usual[name]}
    assert said["format"] == runner.FORMAT, "always said, for it is looked at first"


def test_a_result_reads_back_with_its_failure():
    failed = WorkerResult(failure=Failure(kind="RefusedError", message="no", hint="ask", exit_code=1))
    done = WorkerResult(task_digest="t", notebook="/n", counts={"rows": 2, "cost_usd": None})
    assert read(WorkerResult, runner.told(failed)) == failed and read(WorkerResult, runner.told(done)) == done
    assert b"failure" not in runner.told(done) and b"counts" in runner.told(done)


def test_an_older_reader_refuses_only_a_key_it_would_have_to_know():
    said = json.loads(runner.told(REQUEST))
    with pytest.raises(ConfigError, match=r"unknown key 'newer'"):
        files.parse(Request, {**said, "newer": True}, where="here")
    optional = {one.name for one in dataclasses.fields(Request) if one.default is not dataclasses.MISSING}
    assert not (optional - {"format"}) & said.keys()


# -- the runner's side


def test_a_workers_failure_is_raised_here_with_its_hint_and_exit_code(tmp_path):
    path = tmp_path / "result.json"
    failure = Failure(kind="RefusedError", message="no such key", hint="export KEY=…", exit_code=1)
    path.write_bytes(runner.told(WorkerResult(failure=failure)))
    with pytest.raises(WorkbenchError, match="answers: no such key\n  -> export KEY=…") as caught:
        runner._result(path, REQUEST, 1)
    assert caught.value.exit_code == 1


def test_a_version_whose_code_does_not_know_a_key_of_today_is_told_to_be_promoted_again(tmp_path):
    path = tmp_path / "result.json"
    message = "/srv/params.yaml: unknown key 'gateway' (known: 'audit')"
    failure = Failure(kind="ConfigError", message=message, hint="see docs/params.md", exit_code=2)
    path.write_bytes(runner.told(WorkerResult(failure=failure)))
    with pytest.raises(WorkbenchError, match="unknown key 'gateway'") as caught:
        runner._result(path, REQUEST, 2)
    assert caught.value.exit_code == 2 and "promote" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "said"), [(-9, "was killed, perhaps by the system"), (3, "ended with code 3")]
)
def test_a_worker_that_left_no_result_is_said_to_have_died(tmp_path, code, said):
    with pytest.raises(NotebookError, match=f"answers: the worker {said}") as caught:
        runner._result(tmp_path / "result.json", REQUEST, code)
    assert "answers are kept" in caught.value.hint


def test_the_versions_code_and_interpreter_come_first_and_nothing_leads_elsewhere(monkeypatch):
    for name in ("PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "WORKBENCH_EXECUTION", "PYTHONPATH"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("SOME_KEY", "kept")
    monkeypatch.setenv("PATH", "/usr/bin")
    made = runner._environment(REQUEST, Path("/env/bin/python"))
    assert made["PATH"] == f"/env/bin{os.pathsep}/usr/bin" and made["PYTHONPATH"] == "/code"
    assert made["SOME_KEY"] == "kept"
    assert "elsewhere" not in made.values()


def test_words_go_to_standard_error_if_that_is_a_file(monkeypatch, tmp_path):
    assert runner.shown(show=False) == subprocess.DEVNULL
    with (tmp_path / "err").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        assert runner.shown(show=True) == file.fileno()
    assert runner.shown(show=True) == subprocess.DEVNULL, "it is closed"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert runner.shown(show=True) == subprocess.DEVNULL, "as in a notebook"


# -- the worker's side


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Work off a request with `work` in the place of the kernel; the exit code and the result."""
    monkeypatch.setattr(works.processes, "end_with_caller", lambda run: None)

    def ask(raw, work=lambda request: WorkerResult()):
        monkeypatch.setattr(works, "work", work)
        path = tmp_path / "request.json"
        path.write_bytes(raw if isinstance(raw, bytes) else files.pretty(raw))
        code = works.main([str(path)])
        return code, read(WorkerResult, (tmp_path / "result.json").read_bytes())

    return ask


def failing(error):
    def work(request):
        raise error

    return work


def test_a_request_is_worked_off_and_its_result_left_beside_it(asked):
    given = []
    done = WorkerResult(task_digest="t", notebook="/n", counts={"rows": 1})
    code, result = asked(runner.told(REQUEST), lambda request: given.append(request) or done)
    assert (code, result, given) == (0, done, [REQUEST])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong", hint="mend it"), 2),
        (UnavailableError("nobody", hint="wait"), 3),
        (RefusedError("no", hint="ask"), 3),
        (NotebookError("cell 2: KeyError", hint="workbench run /tmp/task.ipynb"), 3),
    ],
)
def test_an_error_of_ours_crosses_with_its_exit_code_and_a_hint_that_can_be_followed(asked, error, code):
    found, result = asked(runner.told(REQUEST), failing(error))
    assert found == result.failure.exit_code == code and result.failure.message == error.message
    assert result.failure.kind == type(error).__name__
    assert result.failure.hint == error.hint or "task.ipynb" not in result.failure.hint


def test_a_notebooks_hint_that_is_not_about_a_file_of_the_run_is_kept(asked):
    error = NotebookError("cell 2: NotFoundError: no column", hint="it needs the columns id, question")
    assert asked(runner.told(REQUEST), failing(error))[1].failure.hint == error.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "reads requests of format 1, not 2"),
        ({"format": None}, "reads requests of format 1, not None"),
        ({"newer": 1}, "unknown key 'newer'"),
        ({"mode": "sometimes"}, "mode: input should be"),
    ],
)
def test_a_request_of_another_time_is_refused_in_the_result(asked, change, said):
    raw = {**json.loads(runner.told(REQUEST)), **change}
    code, result = asked(raw, failing(AssertionError("it must not be begun")))
    assert code == 2 and said in result.failure.message and result.failure.hint


def test_a_notebook_that_publishes_nothing_is_told_the_cell_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(works.config, "load_params", lambda root: None)
    monkeypatch.setattr(works.config, "use_case", lambda params, name: None)
    monkeypatch.setattr(works.config, "pinned", lambda case, pins: None)
    monkeypatch.setattr(works, "snapshot", lambda request, root, case: tmp_path)
    monkeypatch.setattr(works, "_settings", lambda request, case, kernel: None)
    monkeypatch.setattr(works, "run_notebook", lambda *_, **__: SimpleNamespace(records={}))
    request = dataclasses.replace(REQUEST, out=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="published nothing") as caught:
        works.work(request)
    assert "ws.publish(" in caught.value.hint


def test_a_worker_is_started_with_the_mark_of_its_run_and_a_private_umask(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(runner.processes, "start", lambda *a, **options: given.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.run(REQUEST, python=Path("/env/bin/python"), folder=tmp_path, seconds=1)
    assert given["mark"] == "aa11" and given["umask"] == 0o077
