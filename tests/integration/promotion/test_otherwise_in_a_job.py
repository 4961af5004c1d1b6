"""A small use case from its judge to its promotion: the job answers the judged cases as the judge saw it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from endpoint import endpoint, speaking
from made_repositories import saved, tree
from small_use_case import CELLS, NOTEBOOK, PUBLISH, TASK, notebook, small_repository, with_pipeline

from workbench import layout, registry
from workbench.cli import app
from workbench.errors import ConfigError, RefusedError
from workbench.experiments.runs import load_runs, save_runs
from workbench.jobs import spec as jobspec
from workbench.layout import Results
from workbench.pipeline import stages
from workbench.promotion import promote, requirements
from workbench.promotion.promote import ReleaseOptions
from workbench.testing.fakes import FakeModel

pytestmark = pytest.mark.timeout(180)

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


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy, in which the test stands. DVC is left out."""
    root = shutil.copytree(made, tmp_path / "small", symlinks=True)
    monkeypatch.setattr(requirements, "stale_stages", lambda root, use_case: [])
    monkeypatch.setattr(promote, "_reproduce", lambda root, show: None)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    monkeypatch.chdir(root)
    return root


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


def stated(root: Path, bound: float) -> str:
    """Judge by this bound, write the page and commit; return the page."""
    text = (root / "params.yaml").read_text()
    before, _, rest = text.partition("mvp: {accuracy: {min: ")
    (root / "params.yaml").write_text(f"{before}mvp: {{accuracy: {{min: {bound}{rest[rest.index('}') :]}")
    save_runs([], root / RESULTS.runs)  # as the notebook's explore cells would: no arm of its own
    for stage in ("judge", "gate", "report"):
        assert stages.main([stage, "small"]) == 0
    saved(root, f"Judge by {bound}")
    return (root / "reports/small.md").read_text()


def test_a_bound_lowered_after_a_fail_is_on_card_and_page_and_promoted_with_a_reason(root, ended):
    assert "loosened" not in stated(root, 0.99)
    assert ended("gate", "small/candidate")[0] == 1
    before = tree(root / "pipelines")
    code, said = ended(*PROMOTE)
    assert code == 1 and "the mvp gate says fail: accuracy >= 0.99" in said
    assert "-> workbench gate small/candidate" in said and tree(root / "pipelines") == before
    assert "loosened: a text with accuracy >= 0.99" in stated(root, 0.05)
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


@pytest.mark.drawn("tasks that answer otherwise in a job", 1)
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
def test_a_task_that_answers_otherwise_in_a_job_is_refused(root, elsewhere, other, said):
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


def test_a_judged_run_with_other_scores_than_its_answers_get_is_refused_though_dvc_is_content(root):
    stages.judge(root, "small", show=False)
    (run,) = load_runs(root / RESULTS.judged)
    best = run.cases.with_columns(pl.col("score.accuracy").fill_null(1.0) * 0 + 1.0)
    save_runs([dataclasses.replace(run, cases=best)], root / RESULTS.judged)
    assert stages.gate(root, "small").verdict == "pass"
    saved(root, "A forged run")
    with pytest.raises(ConfigError) as caught:
        promote.promote(root, "job/small", ReleaseOptions(show=False))
    assert "holds other scores than its answers get" in caught.value.message
    assert "dvc repro --force judge@small" in caught.value.message
