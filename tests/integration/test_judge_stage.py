"""What the stage judge leaves of notebooks that fail, of answers that are none, and of an interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, QUESTIONS, TASK, notebook, small_repository

from workbench import layout
from workbench.errors import ConfigError, NotebookError, NotFoundError
from workbench.experiments.runs import load_runs
from workbench.layout import Results
from workbench.pipeline import stages
from workbench.pipeline.explore import explore, find, judged
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import open_tape

RESULTS = Results(use_case="small")
JOURNAL = layout.JUDGE_JOURNALS / "small.answers.jsonl"
pytestmark = pytest.mark.timeout(180)


def passage(payload) -> str:
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


def finished(reason: str, content: str | None = None, **message) -> dict:
    """A whole answer in the wire format that ends for this reason."""
    choice = {"index": 0, "finish_reason": reason}
    choice["message"] = {"role": "assistant", "content": content, **message}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


#: How the endpoint answers each question that it does not answer with the passage.
NO_ANSWERS = {
    "Within how many days": finished("length"),
    "After which hour": finished("stop", refusal="I cannot help with that."),
    "Is breakfast paid": finished("content_filter", ""),
}
#: The task finds no entry for the first word of one question.
LOOKUP = TASK.replace(
    "    hits =",
    '    {"Within": 1, "After": 2, "Is": 3, "When": 4}[case.question.split()[0]]\n    hits =',
)


def scripted(payload):
    question = payload["messages"][-1]["content"].rpartition("Question:")[2].strip()
    return next((a for start, a in NO_ANSWERS.items() if question.startswith(start)), passage(payload))


@contextlib.contextmanager
def repository(folder: Path, answer, *, cells=CELLS):
    """A small repository with a prepared use case, in which the test stands, on an endpoint of its own."""
    with endpoint(answer) as url, pytest.MonkeyPatch.context() as patch:
        root = small_repository(folder / "small", model="served/Some-7B", endpoint=url)
        (root / NOTEBOOK).write_text(notebook(cells=cells))
        patch.chdir(root)
        patch.setenv("OPENAI_API_KEY", "k-123")
        yield root


def done(*names: str) -> None:
    for name in names:
        assert stages.main([name, "small"]) == 0, name


# -- answers that are none ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unscored(tmp_path_factory):
    """The judged run and the gate's report of five cases, of which one has an answer."""
    cells = (CELLS[0], ([], LOOKUP), CELLS[3])
    with repository(tmp_path_factory.mktemp("none"), speaking(FakeModel(scripted)), cells=cells) as root:
        with (root / "data/small/questions.jsonl").open("a") as file:
            row = {"id": "q5", "tenant": "acme", "question": "When is a taxi paid?", "page": "taxi"}
            file.write(json.dumps({**row, "answers": ["after ten"]}) + "\n")
        done("prepare", "remember", "judge", "gate")
        (run,) = load_runs(root / RESULTS.judged)
        yield run, judged(root, run), json.loads((root / RESULTS.gate).read_bytes())


def test_a_task_that_raises_on_one_case_leaves_that_case_unscored_and_the_run_whole(unscored):
    run, _, _ = unscored
    rows = {row["case"]: row for row in run.cases.to_dicts()}
    assert rows.keys() == {"q1", "q2", "q3", "q4", "q5"}
    assert (rows["q2"]["status"], rows["q2"]["error"]) == ("unscored", "KeyError")
    assert rows["q2"]["score.accuracy"] is None and rows["q2"]["output"] is None
    assert (rows["q5"]["status"], rows["q5"]["score.accuracy"]) == ("scored", 1.0)


@pytest.mark.parametrize(("case", "reason"), [("q1", "truncated"), ("q3", "refusal"), ("q4", "filtered")])
def test_an_answer_that_is_none_is_unscored_with_its_reason_on_the_gate_s_card(unscored, case, reason):
    run, report, written = unscored
    (row,) = [row for row in run.cases.to_dicts() if row["case"] == case]
    assert row["status"] == "unscored" and row["error"].startswith(f"{reason}: ")
    assert row["score.accuracy"] is None
    assert written["unscored"] == {"KeyError": 1, "filtered": 1, "refusal": 1, "truncated": 1}
    (line,) = [line for line in str(report).splitlines() if "rows unscored" in line]
    assert "5 cases, 4 rows unscored" in line and reason in line


# -- notebooks ---------------------------------------------------------------------------------------


def test_cells_that_only_explore_fail_alone_and_the_judged_run_is_still_the_gate_s(tmp_path, capsys):
    cells = (*CELLS[:3], (["explore"], "ratio = 1 / 0"), CELLS[3])
    with repository(tmp_path, speaking(FakeModel(passage)), cells=cells) as root:
        done("prepare", "remember", "judge")
        assert stages.main(["experiment", "small"]) == 3
        assert "ZeroDivisionError" in capsys.readouterr().err
        run = find(root, "small/candidate")
        (made,) = load_runs(root / RESULTS.judged)
        assert (run.id, run.experiment) == (made.id, "judge")
        assert judged(root, run).verdict == "pass"

        path = root / NOTEBOOK
        path.write_text(path.read_text().replace("search(case.question)", "search(case.question, k=1)"))
        with pytest.raises(ConfigError, match=rf"run {run.id} is of task") as caught:
            judged(root, run)
        assert caught.value.hint == "dvc repro"


def test_an_explored_run_of_the_same_arm_is_found_by_its_id_and_never_passes(tmp_path):
    with repository(tmp_path, speaking(FakeModel(passage))) as root:
        explored = explore(root, Path(NOTEBOOK), given={}, show=False)
        draft = next(run for run in explored.runs if run.arm == "candidate")
        with pytest.raises(NotFoundError, match="small/candidate"):
            find(root, "small/candidate")
        report = judged(root, find(root, draft.id))
        assert (report.provisional_verdict, report.verdict, report.exit_code) == ("pass", "undecided", 4)
        assert "dvc repro" in str(report)


# -- interrupts --------------------------------------------------------------------------------------


class Stalling:
    """An endpoint that answers two questions, and the others only after `go`."""

    def __init__(self) -> None:
        self.model, self.go, self.begun = FakeModel(passage), False, 0

    async def answer(self, request):
        self.begun += 1
        while self.begun > 2 and not self.go:
            await asyncio.sleep(0.02)
        return await speaking(self.model)(request)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_an_interrupted_stage_asks_only_for_the_rest_and_leaves_no_journal(tmp_path):
    served = Stalling()
    with repository(tmp_path, served.answer) as root:
        done("prepare", "remember")
        stage = subprocess.Popen(
            [sys.executable, "-m", "workbench.pipeline.stages", "judge", "small"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  as a shell starts it
        )  # fmt: skip
        end = time.monotonic() + 60
        while lines_of(root / JOURNAL) < 2:
            assert stage.poll() is None and time.monotonic() < end, stage.communicate()[1]
            time.sleep(0.02)
        os.killpg(stage.pid, signal.SIGINT)
        _, said = stage.communicate(timeout=60)
        assert stage.returncode == 130 and said.strip().endswith("-> dvc repro"), said
        assert lines_of(root / JOURNAL) == 2 and not (root / RESULTS.judged).exists()
        assert not (root / layout.judge_tape_of("small")).exists()

        served.go = True
        asked = len(served.model.calls)
        done("judge")
        assert len(served.model.calls) - asked == len(QUESTIONS) - 2
        assert not (root / JOURNAL).exists() and not (root / layout.JOURNAL).exists()
        assert len(open_tape(root / layout.judge_tape_of("small"))) == len(QUESTIONS)
        (run,) = load_runs(root / RESULTS.judged)
        assert run.n_unscored == 0
        assert not list((root / layout.CACHE / "judging").iterdir())


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        ("unknown + 1", "notebooks/small.ipynb, cell 4: NameError", "remove the tag `explore`"),
        ("1 / 0", "notebooks/small.ipynb, cell 4: ZeroDivisionError", "correct the cell, then: dvc repro"),
        ("ws.cases()", "notebooks/small.ipynb, cell 4: RefusedError", "tag the cell `explore`"),
    ],
)
def test_a_failing_cell_is_named_as_the_notebook_numbers_it(tmp_path, code, said, hint):
    cells = (CELLS[0], (["explore"], "unknown = 1"), *CELLS[1:2], ([], code), CELLS[3])
    with repository(tmp_path, speaking(FakeModel(passage)), cells=cells) as root:
        done("prepare", "remember")
        with pytest.raises(NotebookError) as caught:
            stages.judge(root, "small", show=False)
    assert caught.value.message.startswith(
        f"without its `explore` cells, as the judge and a job run it: {said}"
    )
    assert hint in caught.value.hint
