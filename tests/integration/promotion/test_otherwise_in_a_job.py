"""A small use case from its judge to its promotion: the job answers the judged cases as the judge saw it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from clone_edits import add_to_task, edit_cells, source, state
from clones import Clone
from endpoint import endpoint, speaking
from made_repositories import saved, tree
from small_use_case import CELLS, NOTEBOOK, PUBLISH, TASK, notebook, small_repository, with_pipeline

from workbench import layout, registry
from workbench.cli import app
from workbench.errors import ConfigError, RefusedError, WorkbenchError
from workbench.experiments.runs import load_runs, save_runs
from workbench.jobs import spec as jobspec
from workbench.layout import Results
from workbench.pipeline import stages
from workbench.promotion import promote, requirements
from workbench.promotion.promote import ReleaseOptions
from workbench.testing.fakes import FakeModel

pytestmark = pytest.mark.timeout(300)
#: test_freezing has each of these refusals with a worker that is told its answers.
IN_A_REAL_WORKER = pytest.mark.drawn("refusals of a real worker", 1)

RESULTS = Results(use_case="small")
SAMPLE = "data/inbox/sample.jsonl"
JOBS = f"""\
jobs:
  small:
    use_case: small
    sample: {SAMPLE}
    limits: {{seconds: 60, broken: 0.25}}
"""
PROMOTE = ("promote", "job/small")
ANSWERED = "return ws.model().chat(ws.prompt().render(question=case.question, passages=hits))"


def taxis_alone(payload):
    """The passage for a question about taxis: of the four answers two are right, and one is refused."""
    passage, _, question = payload["messages"][-1]["content"].partition("Question:")
    if "breakfast" in question:
        return RefusedError("filtered", status=400)
    return passage.strip() if "taxi" in question or "receipt" in question else "I do not know."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small use case with a job, its cases and its memory, committed."""
    with endpoint(speaking(FakeModel(taxis_alone))) as url:
        root = with_pipeline(small_repository(tmp_path_factory.mktemp("made") / "small", endpoint=url))
        (root / SAMPLE).parent.mkdir()
        (root / SAMPLE).write_text('{"id": "s1", "tenant": "acme", "question": "When is a taxi paid?"}\n')
        (root / "params.yaml").write_text((root / "params.yaml").read_text() + JOBS)
        saved(root, "A small use case with a job")
        stages.prepare(root, "small")
        stages.remember(root, "small")
        yield root


@pytest.fixture(scope="module")
def failed(made, tmp_path_factory):
    """Judged by a bound that the run fails."""
    return judged(made, tmp_path_factory.mktemp("failed") / "failed", 0.99)


@pytest.fixture(scope="module")
def passed(failed, tmp_path_factory):
    """Judged again by a bound that it passes."""
    return judged(failed, tmp_path_factory.mktemp("passed") / "passed", 0.05)


@pytest.fixture
def standing(tmp_path, monkeypatch):
    """Copy a repository and stand in the copy. DVC is left out."""
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: [])
    monkeypatch.setattr(promote, "_reproduce", lambda root, show: None)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")

    def stand(source: Path) -> Path:
        root = shutil.copytree(source, tmp_path / source.name, symlinks=True)
        monkeypatch.chdir(root)
        return root

    return stand


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a command as the console script does; its exit code and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as done:
            app.main()
        said = capsys.readouterr()
        return done.value.code, said.out + said.err

    return run


def judged(source: Path, root: Path, bound: float) -> Path:
    """Judge a copy by this bound, write the page and commit."""
    shutil.copytree(source, root, symlinks=True)
    text = (root / "params.yaml").read_text()
    before, _, rest = text.partition("mvp: {accuracy: {min: ")
    (root / "params.yaml").write_text(f"{before}mvp: {{accuracy: {{min: {bound}{rest[rest.index('}') :]}")
    save_runs([], root / RESULTS.runs)  # as the notebook's explore cells would: no arm of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "k-123")
        patch.chdir(root)
        for stage in ("judge", "gate", "report"):
            assert stages.main([stage, "small"]) == 0
    saved(root, f"Judge by {bound}")
    return root


def page_of(root: Path) -> str:
    return (root / "reports/small.md").read_text()


def test_a_bound_lowered_after_a_fail_is_on_card_and_page_and_promoted_with_a_reason(
    failed, passed, standing, ended
):
    root = standing(failed)
    assert "loosened" not in page_of(root)
    assert ended("gate", "small/candidate")[0] == 1
    before = tree(root / "pipelines")
    code, said = ended(*PROMOTE)
    assert code == 1 and "the mvp gate says fail: accuracy >= 0.99" in said
    assert "-> workbench gate small/candidate" in said and tree(root / "pipelines") == before

    root = standing(passed)
    assert "loosened: a text with accuracy >= 0.99" in page_of(root)
    code, card = ended("gate", "small/candidate")
    assert code == 0 and "loosened: a text with accuracy >= 0.99" in card and "1 rows unscored" in card

    code, said = ended(*PROMOTE)
    assert code == 1 and "loosened: " in said and "--reason" in said
    code, said = ended(*PROMOTE, "--reason", "0.99 was a typing error", "--commit")
    assert code == 0 and "job/small@1 is production" in said, said
    assert registry.load(root, "job", "small").moves[-1].reason == "0.99 was a typing error"
    spec, _ = jobspec.load(root, "small", 1)
    assert spec.arm == {} and spec.sample_outputs.keys() == {"answers.acme.parquet", "quarantine.parquet"}


def hidden(elsewhere: str, other: str) -> str:
    """The task, which does something else first where this Python holds."""
    assert ANSWERED in TASK
    function = f"\n\n\ndef elsewhere():\n    {elsewhere}\n\n\n@wb.task"
    before = f"if elsewhere():\n        {other}\n    {ANSWERED}"
    return TASK.replace(ANSWERED, before).replace("\n\n\n@wb.task", function)


@IN_A_REAL_WORKER
@pytest.mark.parametrize(
    ("elsewhere", "other", "said"),
    [
        (
            'import os; return "pins\\":{\\"" in dict(os.environ)["WORK" + "BENCH_EXEC" + "UTION"]',
            'return wb.Answer(text="Ask at the desk.")',
            "the job publishes other answers to the judged cases: answers.acme.parquet",
        ),
        (
            'from pathlib import Path; return not Path("..", ".git").exists()',
            "hits = ()",
            "the job does not answer the judged cases: ",
        ),
    ],
    ids=["its settings", "a file of the repository"],
)
def test_a_task_that_answers_otherwise_in_a_job_is_refused(made, standing, elsewhere, other, said):
    root = standing(made)
    cells = (*CELLS[:1], ([], hidden(elsewhere, other)), ([], PUBLISH))
    (root / NOTEBOOK).write_text(notebook(cells=cells))
    stages.judge(root, "small", show=False)
    assert stages.gate(root, "small").verdict == "pass"
    saved(root, "Another task")
    before = tree(root / "pipelines")
    with pytest.raises(ConfigError) as caught:
        promote.promote(root, "job/small", ReleaseOptions(show=False))
    assert said in caught.value.message and "behaves otherwise in a job" in caught.value.hint
    assert tree(root / "pipelines") == before
    assert not list((root / layout.CACHE / "promoting").glob("*"))


def test_a_judged_run_with_other_scores_than_its_answers_get_is_refused_though_dvc_is_content(
    passed, standing
):
    root = standing(passed)
    (run,) = load_runs(root / RESULTS.judged)
    best = run.cases.with_columns(pl.col("score.accuracy").fill_null(1.0) * 0 + 1.0)
    save_runs([dataclasses.replace(run, cases=best)], root / RESULTS.judged)
    assert stages.gate(root, "small").verdict == "pass"
    saved(root, "A forged run")
    caught = refused(root)
    assert "holds other scores than its answers get" in caught.message
    assert "dvc repro --force judge@small" in caught.message


def refused(root: Path) -> WorkbenchError:
    """What a promotion is refused with, which leaves everything as it was."""
    clone = Clone(folder=root, home=root.parent)
    before = state(clone)
    with pytest.raises(WorkbenchError) as caught:
        promote.promote(root, "job/small", ReleaseOptions(show=False, reason="0.99 was a typing error"))
    assert caught.value.hint and state(clone) == before
    return caught.value


@pytest.mark.drawn("refusals with a pipeline", 1)
def test_a_run_with_too_few_cases_under_another_gate_is_refused(passed, standing):
    """First the gate's text alone is another one; then the run is made under it, and a draft is explored."""
    root = standing(passed)
    params = (root / "params.yaml").read_text()
    assert params.count("cases: {min: 2}") == 1
    (root / "params.yaml").write_text(params.replace("cases: {min: 2}", "cases: {min: 100}"))
    saved(root, "Ask for more cases")
    caught = refused(root)
    assert "the gate's text is not the one the run was made under" in caught.message

    edit_cells(root, with_a_draft, NOTEBOOK)
    assert [stages.main([stage, "small"]) for stage in ("judge", "experiment")] == [0, 0]
    saved(root, "Explore a draft")
    caught = refused(root)
    assert "the mvp gate says undecided: cases >= 100" in caught.message and caught.exit_code == 4
    assert "draft" not in caught.message, "the judge takes the prompt of params.yaml"
    explored = {run.arm: run for run in load_runs(root / RESULTS.runs)}
    assert explored["candidate"].settings["prompt"].startswith("brief@draft-")


def with_a_draft(cells):
    (arms,) = (cell for cell in cells if "arms = " in source(cell))
    text = source(arms).replace('"candidate": {}', '"candidate": {"prompt": ws.prompt().edit(parameters={})}')
    arms["source"] = text.splitlines(keepends=True)


LEAKS = """\
import logging.handlers
handler = logging.handlers.SocketHandler("127.0.0.1", 9)
handler.emit(logging.makeLogRecord({"msg": "a library's own connection"}))
print("grace.hopper@" + "mail-server.dev")
"""


def of_an_explore_cell(cells):
    cells[-1]["source"] = ["len(scorers)\n", *cells[-1]["source"]]


CLEAN = {
    "a name that an explore cell gives": (
        of_an_explore_cell,
        ("the frozen notebook does not run clean alone", "NameError: name 'scorers' is not defined"),
    ),
    "a connection and an address": (
        add_to_task(LEAKS),
        (
            # Confined, the socket is refused; elsewhere its connection is seen.
            "line 3: socket.",
            ", which the boundary did not open",
            "ask through ws.model(), ws.openai() or ws.memory()",
            "output 1, line 1: an e-mail address",
        ),
    ),
}


@IN_A_REAL_WORKER
@pytest.mark.parametrize("case", CLEAN)
def test_what_only_the_clean_run_shows_is_refused(passed, standing, monkeypatch, case):
    """Judged or not is not the question here: the looks that come before it are left out."""
    change, said = CLEAN[case]
    root = standing(passed)
    edit_cells(root, change, NOTEBOOK)
    saved(root, "Another notebook")
    monkeypatch.setattr(requirements, "missing", lambda *_: [])
    caught = refused(root)
    assert isinstance(caught, ConfigError)
    assert all(words in caught.message for words in said), caught.message
    assert "mail-server" not in str(caught)
