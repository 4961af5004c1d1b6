"""What a runner, the stages and the gate say of one small use case, on an endpoint that answers at once."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, notebook, small_repository, with_pipeline, write

import workbench as wb
from workbench import config, layout
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, NotebookError
from workbench.pipeline import stages
from workbench.pipeline.explore import explore, find, judged
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import open_tape

MODEL = "served/Some-7B:latest"
pytestmark = pytest.mark.timeout(180)


def passage(payload) -> str:
    """The passage it was shown, as an answer."""
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture
def served():
    return FakeModel(passage)


@pytest.fixture
def root(tmp_path, monkeypatch, served):
    """A small repository, in which the test stands, on an endpoint whose model has no card."""
    with endpoint(speaking(served)) as url:
        folder = small_repository(tmp_path / "small", model=MODEL, endpoint=url)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        yield folder


def replaced(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def with_cell(root: Path, source: str) -> None:
    (root / NOTEBOOK).write_text(notebook(cells=(*CELLS, ([], source))))


def pipeline(root: Path) -> None:
    for stage in ("prepare", "remember", "judge", "experiment", "gate", "report"):
        assert stages.main([stage, "small"]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small repository after its pipeline, and its model, which still answers."""
    model = FakeModel(passage)
    with endpoint(speaking(model)) as url, pytest.MonkeyPatch.context() as patch:
        folder = small_repository(tmp_path_factory.mktemp("made") / "small", model=MODEL, endpoint=url)
        patch.setenv("OPENAI_API_KEY", "k-123")
        with contextlib.chdir(folder):
            pipeline(folder)
        assert len(model.calls) == 4
        yield folder, model


@pytest.fixture
def piped(made, tmp_path, monkeypatch):
    """A copy of the repository after its pipeline, in which the test stands."""
    folder = shutil.copytree(made[0], tmp_path / "small", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    return folder


def test_a_model_without_a_card_is_asked_by_its_own_name_and_its_price_is_unknown(root, served):
    found = check_all(root)
    assert found.passed, str(found)
    replaced(root / "params.yaml", "    price_per_million: {input_usd: 0}\n", "")
    explored = explore(root, Path(NOTEBOOK), given={}, show=False)
    assert {call["model"] for call in served.calls} == {MODEL} and len(served.calls) == 4
    (candidate,) = [run for run in explored.runs if run.arm == "candidate"]
    assert candidate.settings["model"] == MODEL and candidate.n_unscored == 0
    assert candidate.metric("accuracy").n == 4 and candidate.metric("cost_usd_per_case").value is None


def test_check_names_the_new_key_for_who_keeps_memories(root):
    replaced(root / "params.yaml", "    tenants: [acme]\n", "    tenants: [acme]\n    keepers: [ann]\n")
    found = check_all(root)
    assert found.passed and "use_cases.small.keepers to admins" in str(found)


def test_a_model_with_a_card_is_asked_elsewhere_by_the_card_s_name(root, served):
    replaced(root / "params.yaml", MODEL, "smollm2-135m")
    with contextlib.closing(wb.connect("small", root=root)) as ws:
        ws.model().chat("What is paid?")
    assert [(call["model"], call["temperature"]) for call in served.calls] == [("smollm2-135m", 0)]


def test_a_run_by_hand_writes_another_tape_of_answers_that_stood_on_the_first(made, piped):
    asked, tape = len(made[1].calls), piped / layout.judge_tape_of("small")
    assert not (piped / layout.JOURNAL).exists() and not open_tape(piped / layout.tape_of("small"))
    explore(piped, Path(NOTEBOOK), given={}, tape=piped / "copy.jsonl", show=False)
    assert len(made[1].calls) == asked and len(open_tape(tape)) == 4
    assert (piped / "copy.jsonl").read_bytes() == tape.read_bytes()
    for_its_owner_alone(piped / ".workbench")


def for_its_owner_alone(folder: Path) -> None:
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    shown = [str(path) for path in found if path.stat().st_mode & 0o077]
    assert len(found) > 20 and shown == [] and folder.stat().st_mode & 0o777 == 0o700


def test_an_error_of_ours_in_a_cell_keeps_its_hint_as_the_last_word_and_its_exit_code(root):
    with_cell(root, 'ws.memory("smal")')
    with pytest.raises(NotebookError, match=r"cell 5: NotFoundError: there is no memory 'smal'") as caught:
        explore(root, root / NOTEBOOK, given={}, show=False)
    *_, again, last = str(caught.value).splitlines()
    assert again.startswith(f"  again: workbench run {NOTEBOOK}   (the executed copy is .workbench/")
    assert last == "  -> ls pipelines/memories" and caught.value.exit_code == 2


def test_any_other_error_in_a_cell_says_how_to_run_it_again_here(root):
    with_cell(root, "ratio = 1 / 0")
    with pytest.raises(NotebookError, match=r"cell 5: ZeroDivisionError") as caught:
        explore(root, root / NOTEBOOK, given={"k": 2}, show=False)
    assert caught.value.exit_code == 3 and "ratio = 1 / 0" in str(caught.value)
    assert str(caught.value).splitlines()[-1].startswith(f"  -> workbench run {NOTEBOOK} -p k=2   (the")


def test_the_gate_judges_the_task_and_the_text_that_were_stated(piped):
    root = piped
    run = find(root, "small/candidate")
    assert judged(root, run).exit_code == 0 and "4 of 4 judged answers" in judged(root, run).note
    other = judged(root, run, phase="mlvp")
    assert (other.provisional_verdict, other.exit_code) == ("pass", 4) and "NOT stated" in str(other)

    replaced(root / "params.yaml", "mvp: {accuracy: {min: 0.05}", "mvp: {accuracy: {min: 0.04}")
    assert (judged(root, run).verdict, judged(root, run).exit_code) == ("undecided", 4)
    replaced(root / "params.yaml", "mvp: {accuracy: {min: 0.04}", "mvp: {accuracy: {min: 0.05}")

    replaced(root / NOTEBOOK, "ws.memory().search(case.question)", "ws.memory().search(case.question, k=1)")
    with pytest.raises(ConfigError, match=rf"run {run.id} is of task .*, {NOTEBOOK} holds") as caught:
        judged(root, run)
    assert caught.value.hint == "dvc repro"
    replaced(root / NOTEBOOK, "ws.memory().search(case.question, k=1)", "ws.memory().search(case.question)")

    explored = explore(root, Path(NOTEBOOK), given={"k": 2}, show=False)
    (draft,) = [one for one in explored.runs if one.arm == "candidate"]
    report = judged(root, find(root, draft.id))
    assert (report.verdict, report.exit_code) == ("undecided", 4)
    assert "explored: of another task than notebooks/small.ipynb" in str(report)
    assert report.to_json()["note"] == report.note


def test_a_baseline_that_was_not_explored_is_said_by_check_and_by_the_page(piped):
    root = piped
    replaced(
        root / "params.yaml",
        "    candidate: candidate\n",
        "    candidate: candidate\n    baseline: plane\n",
    )
    found = check_all(root)
    said = {one.what: one for one in found.findings if one.warning}
    assert "nearest: 'plain'" in said["small: baseline 'plane'"].problem
    assert stages.main(["report", "small"]) == 0
    page = (root / "reports/small.md").read_text()
    assert "The baseline 'plane' is no arm" in page and "(nearest: 'plain')" in page


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "data: data/small",
            "data: data/other",
            "reads data/small, which is outside of use_cases.small.data",
        ),
        ("data: data/small", "data: data/none", "reads data/small, which is outside of"),
        ("source: data/small", "source: pydoc:topics", "reads pydoc:topics, which is outside of"),
        ("questions: data/small", "questions: data/elsewhere", "reads data/elsewhere/questions.jsonl, which"),
    ],
)
def test_check_names_what_the_pipeline_would_not_see_change(root, before, after, said):
    (root / "data/other").mkdir()
    spec = root / "pipelines/memories/small/1.yaml"
    path = root / "params.yaml" if before.startswith("data:") else spec
    replaced(path, before, after)
    if path == spec:
        from workbench import files

        page = spec.with_name("asset.yaml")
        old = next(line.split()[1] for line in page.read_text().splitlines() if "digest:" in line)
        replaced(page, old, files.digest(spec.read_bytes()))
    found = check_all(root)
    assert not found.passed and said in str(found) and "-> write data: " in str(found)


def test_what_a_killed_stage_left_is_gone_when_the_next_begins_and_is_not_in_git(root):
    with_pipeline(root)
    left = [f"results/small/{name}.0123abcd" for name in (".memory", ".answered", ".judged")]
    left = [f"{folder}/part" for folder in left]
    left += ["results/small/.gate.json.0123abcd", "reports/.small.html.0123abcd"]
    left += [f"pipelines/tapes/.small{name}.jsonl.0123abcd" for name in ("", ".judge")]
    tapes = [str(layout.tape_of("small")), str(layout.judge_tape_of("small"))]
    kept = ["pipelines/tapes/.other.jsonl.0123abcd", "results/small/.memory.draft"]
    for name in (*left, *kept):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("half")
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    named = [n for n in listed.stdout.splitlines() if n.startswith(("res", "rep", "pipelines/tapes"))]
    assert sorted(named) == sorted([*tapes, "results/small/.memory.draft"])
    assert stages.main(["prepare", "small"]) == 0
    assert not [name for name in left if (root / name).exists()] and not (root / left[0]).parent.exists()
    assert all((root / name).exists() for name in kept)


#: In the first stage, which starts no kernel: on the path of every Python that the pipeline starts.
STOPPER = """
import os, signal, sys, time


def stop(name, arguments):
    if name == "open" and str(arguments[0]).endswith("/params.yaml"):
        WAY


if "workbench.pipeline.stages settings" in " ".join(sys.orig_argv):
    sys.addaudithook(stop)
"""


def reproduced(root: Path, way: str = "pass") -> tuple[int, str]:
    """`workbench repro`, in a process group of its own: its exit code and what it said."""
    write(root, "../path/sitecustomize.py", STOPPER.replace("WAY", way))
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "repro"],
        cwd=root, capture_output=True, text=True, timeout=150, start_new_session=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{root.parent / 'path'}:{root}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_pipeline_s_exit_code_is_that_of_the_stage_that_failed(root):
    """Stages without a kernel; test_bad_input has one with it, above is the code of an error in a cell."""
    with_pipeline(root)
    for way, expected in (
        ("os.kill(os.getpid(), signal.SIGKILL)", 3),
        ("os.killpg(os.getpgid(0), signal.SIGINT); time.sleep(60)", 130),
    ):
        code, said = reproduced(root, way)
        assert code == expected and "Running stage 'settings@small'" in said, f"{way}: {code}\n{said}"
        assert "next: make repro" in said
    questions = root / "data/small/questions.jsonl"
    first, *others = questions.read_text().splitlines(keepends=True)
    questions.write_text("".join([first, *others, first]))
    code, said = reproduced(root)
    assert code == 2 and "Running stage 'prepare@small'" in said, said
    assert "next: make repro" in said and "Traceback" not in said
    assert re.search(r"'q1'.*^  -> \S", said, flags=re.MULTILINE | re.DOTALL), said
    (root / "dvc.yaml").write_text("stages: [")
    assert reproduced(root)[0] == 2


def test_the_page_tells_of_an_arm_whose_prompt_is_a_draft(piped):
    root = piped
    drafted = (
        'draft = ws.prompt().edit(system="Answer in one word.")\n'
        'ws.experiment().run(answer, ws.cases(), arm="drafted", scorers=scorers, settings={"prompt": draft})'
    )
    (root / NOTEBOOK).write_text(notebook(cells=(*CELLS, (["explore"], drafted))))
    for stage in ("experiment", "report"):
        assert stages.main([stage, "small"]) == 0
    page = (root / config.use_case(config.load_params(root), "small").report).with_suffix(".md").read_text()
    assert "@draft-" in page and "a draft, not saved" in page
