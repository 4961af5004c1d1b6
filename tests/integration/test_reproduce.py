"""From a fresh clone to a verdict, again, elsewhere, forced, without network: the same bytes."""

from __future__ import annotations

import hashlib
import shutil

import nbformat
import pytest
from clones import Clone

from workbench.cli import main
from workbench.experiments.runs import load_runs
from workbench.notebooks import canonical

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ("settings", "prepare", "remember", "judge", "experiment", "gate", "plots", "report")


def outs(clone: Clone) -> dict[str, str]:
    """SHA-256 of every file the pipeline wrote."""
    found = [
        p for folder in ("results", "reports") for p in (clone.folder / folder).rglob("*") if p.is_file()
    ]
    return {
        str(p.relative_to(clone.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in found
        if p.name != ".gitignore"
    }


@pytest.mark.drawn("the shipped pipeline from nothing", 1)  # .ci/run has begun with both
def test_a_clone_reproduces_again_without_network(shipped, shipped_clone):
    """The first time is `make repro` on a machine with nothing, in CI, or `dvc repro` in `shipped`.

    dvc.lock, which is in git, has the digest of every output: whoever made them, a clean status says that
    they are those of the commit.
    """
    first = outs(shipped)
    assert "reports/readiness.html" in first and "results/answers/gate.json" in first
    assert shipped.status() == ""

    second = shipped_clone.run("make", "repro", "ASK=1", network=False)
    assert "mvp gate · candidate" in second and "· PASS" in second
    assert "page: reports/readiness.html" in second and "next: workbench report" in second
    assert "1 of 1 answers asked again are identical" in second or "another type of processor" in second
    assert "Running stage" not in second
    for stage in STAGES:
        assert f"Stage '{stage}@answers' didn't change, skipping" in second

    assert outs(shipped_clone) == first and shipped_clone.status() == ""


@pytest.mark.drawn("the shipped pipeline from nothing", 1)
def test_a_clone_reproduces_elsewhere_without_network(shipped, shipped_clone):
    """Another folder, with nothing kept from the first time. Of two use cases, one will do."""
    first = outs(shipped)
    shutil.rmtree(shipped_clone.folder / ".dvc" / "cache")
    for name in ("judged", "runs"):
        shutil.rmtree(shipped_clone.folder / "results" / "answers" / name)
    shutil.rmtree(shipped_clone.folder / ".workbench", ignore_errors=True)  # a clone may have none
    (shipped_clone.folder / "reports" / "readiness.html").unlink()
    last = ("plots@answers", "report@answers")
    forced = shipped_clone.run("dvc", "repro", "--force", *last, network=False)
    assert all(f"Running stage '{stage}@answers'" in forced for stage in STAGES)
    assert outs(shipped_clone) == first and shipped_clone.status() == ""


@pytest.fixture
def said(shipped_clone, monkeypatch, capsys):
    """Type a command of the workbench in a clone, in this process, and look at its exit code; its output."""
    monkeypatch.chdir(shipped_clone.folder)

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["workbench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert (ended.value.code or 0) == code, output
        return output.out + output.err

    return run


def test_the_gate_exits_by_its_verdict(shipped_clone, said):
    shipped_clone.run("workbench", "gate", "answers/candidate", code=0)
    said("gate", "answers/closed_book", code=1)
    said("gate", "answers/wrong_passage", code=1)
    explored = load_runs(shipped_clone.folder / "results/answers/runs")
    (draft,) = [run.id for run in explored if run.arm == "candidate"]
    assert "explored, so it cannot pass" in said("gate", draft, code=4)
    said("gate", "answers/closed_book", "--out", "verdict.json", code=0)
    assert '"verdict": "fail"' in (shipped_clone.folder / "verdict.json").read_text()
    better = said("compare", "answers/candidate", "answers/few_shot")
    assert "candidate against few_shot · accuracy · BETTER" in better
    params = shipped_clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("cases: {min: 100}", "cases: {min: 1000}"))
    undecided = said("gate", "answers/candidate", code=4)
    assert "UNDECIDED" in undecided and "812 more cases" in undecided
    missing = said("gate", "answers/candidat", code=2)
    assert "nearest: 'answers/candidate'" in missing


def test_saving_a_notebook_in_the_lab_without_changing_code_reruns_nothing(shipped_clone):
    path = shipped_clone.folder / "notebooks/answers.ipynb"
    saved = nbformat.read(path, 4)
    saved.cells[2]["outputs"] = [nbformat.v4.new_output("stream", text="x")]
    saved.cells[2]["execution_count"] = 7
    saved.metadata["widgets"] = {}
    path.write_text(canonical.as_text(saved))
    assert shipped_clone.status() == ""
    reading = [f"{stage}@answers" for stage in ("settings", "judge", "experiment", "gate")]
    assert "up to date" in shipped_clone.run("dvc", "status", *reading, network=False)


def test_a_worse_prompt_fails_the_gate(fresh_clone):
    code = """
import workbench as wb

ws = wb.connect("answers")
cases = ws.cases().sample(30, seed=3)
for tenant in cases.tenants:
    ws.bind(tenant=tenant).memory().add(wb.load("data/handbook"))

@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    hits = ws.memory().search(case.question, k=5)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits[:1]))

today = ws.prompt()
worse = today.edit(user="Question: {{ question }}")  # forgets the passage
scorers = [wb.contains(name="accuracy"), wb.recall_at(5), wb.cross_tenant_hits()]
for name, prompt in (("today", today), ("worse", worse)):
    run = ws.experiment().run(answer, cases, scorers=scorers, settings={"prompt": prompt})
    report = ws.gate(run)
    lines = {line.metric: line.verdict for line in report.lines}
    print(f"{name}: {report.verdict} {report.exit_code}; {lines}")
"""
    said = fresh_clone.run("python", "-c", code, network=False)
    others = "'recall_at_5': 'pass', 'cross_tenant_hits': 'pass', 'cases': 'undecided'"  # 30 of 100
    # The control: of the same few cases, today's prompt passes the line that the worse one fails.
    assert f"today: undecided 4; {{'accuracy': 'pass', {others}" in said, said
    assert f"worse: fail 1; {{'accuracy': 'fail', {others}" in said, said
