"""What a workspace adds to the cases of runs: datasets, origins, notes and hard cases."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from explored_runs import hit

import workbench as wb
from workbench.errors import ConfigError, NotFoundError, PolicyError, RefusedError
from workbench.layout import CALLS, case_notes_of
from workbench.models import ModelCard
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import Boundary, StatePaths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ws(tmp_path):
    for name in ("data", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    boundary = Boundary(
        tmp_path, mode="live", tape=Tape(tmp_path / "t"), cards=[ModelCard.unsaved("m")],
        places=StatePaths(home=tmp_path),
    )  # fmt: skip
    boundary._models |= {"m": FakeModel()}
    return wb.connect("answers", root=tmp_path, through=boundary)


@wb.task
def asked(ws, case: wb.Question) -> wb.Answer:
    passages = [hit("The allowance is 46 euros.", source="travel-expenses")] * bool(ws.setting("passages"))
    prompt = ws.prompt("answer").render(question=case.question, passages=passages)
    return wb.Answer(text=ws.model("m").chat(prompt).text)


@pytest.fixture
def result(ws):
    cases = ws.cases().sample(6, seed=1)
    arms = {"old": {"passages": False, "model": "m"}, "new": {"passages": True, "model": "m"}}
    return ws.experiment().compare(asked, cases, scorers=[wb.contains(name="accuracy")], arms=arms)


def test_a_result_knows_questions_passages_and_the_origins_of_its_answers(ws, result):
    case = result.case(result["new"].case_ids[0])
    assert case.case in list(ws.cases()) and case.question == case.case.inputs["question"]
    assert [passage.source for passage in case.answers[1].passages] == ["travel-expenses"]
    assert case.answers[0].passages == ()
    told = case.why()
    assert told.record["tenant"] == case.tenant and told.record["trace_id"] == case.answers[1].traces[0]
    assert "travel-expenses v2" in str(told) and "answer@" in str(told)
    panel = result.explore()
    panel.act("why")
    assert not panel.notice and f"call {panel.detail.answers[0].traces[0]}" in str(panel)


def test_a_review_of_a_sample_goes_on_by_the_ids_of_its_runs(ws):
    @wb.task
    def told(ws, case: wb.Question) -> wb.Answer:
        return wb.Answer(text=f"{case.question} {ws.setting('passages')}")

    arms = {"old": {"passages": False}, "new": {"passages": True}}
    cases = ws.cases().sample(6, seed=1)
    result = ws.experiment().compare(told, cases, scorers=[wb.contains(name="accuracy")], arms=arms)
    ws.review(result["new"], result["old"]).choose("left")
    again = ws.review(result["new"].id, result["old"].id)  # as another kernel does, which has no result
    assert (again.decided, len(again)) == (1, 6)


def test_a_stored_run_finds_its_dataset_by_digest_until_it_changes(ws, result):
    run = ws.run(result["new"].id)
    assert run.id == result["new"].id and run.context.dataset.digest == run.dataset_digest
    name = run.case_ids[0]
    assert run.case(name).question == result.case(name).question
    assert run.case(name).answers[0].passages is None
    with pytest.raises(NotFoundError, match="no call of it is known"):
        run.case(name).why()
    path = ws.root / "data/handbook/questions.jsonl"
    path.write_text(path.read_text().replace("What ", "Which "))
    path.write_text(path.read_text().replace("How ", "By how "))
    gone = ws.run(result["new"].id)
    assert gone.context.dataset is None and "gone or has changed" in gone.case(name).question
    assert "gone or has changed" in str(gone.explore())
    path.unlink()
    assert ws.run(result["new"].id).context.dataset is None


def test_a_call_that_left_the_log_is_told_in_the_panel(ws, result):
    (ws.boundary.home / CALLS).write_bytes(b"")
    panel = result.explore()
    panel.act("why")
    assert "not in the log any more" in panel.notice and panel.current in str(panel)


def test_a_job_is_told_no_question_of_a_run(ws, result):
    execution = dataclasses.replace(ws.execution, publish="out")
    job = dataclasses.replace(ws, execution=execution)
    assert job.run(result["new"].id).context.dataset is None
    with pytest.raises(RefusedError, match="never what is expected"):
        job.case_notes()


def test_an_unknown_run_is_named(ws, result):
    with pytest.raises(NotFoundError, match="no run 'answers/candidat'"):
        ws.run("answers/candidat")
    with pytest.raises(ConfigError, match="reference"):
        ws.run(result["new"])


def test_a_note_has_reviewer_and_time_and_is_closed_by_a_correction(ws, result):
    name = result["new"].case_ids[0]
    note = result.case(name).note("the page  says\notherwise")
    assert note.reviewer == ws.context.principal.name and note.reason == "the page says otherwise"
    assert (ws.root / case_notes_of("answers")).is_file()
    notes = ws.case_notes()
    assert notes["case"].to_list() == [name] and notes["open"].to_list() == [True]
    path = ws.root / "data/handbook/questions.jsonl"
    kept = [line for line in path.read_text().splitlines() if f'"{name}"' not in line]
    path.write_text("\n".join(kept) + "\n")
    assert ws.case_notes()["open"].to_list() == [False]
    path.unlink()
    assert ws.case_notes()["open"].to_list() == [None]


def test_a_case_is_added_below_the_repository_and_read_as_a_dataset(ws, result):
    name = result["new"].case_ids[0]
    assert result.case(name).add_to("data/hard.jsonl").new
    (case,) = wb.Dataset.from_file(ws.root / "data/hard.jsonl")
    assert case == result.case(name).case


def test_another_tenants_call_is_not_explained_to_a_guest(ws, result):
    from workbench.identity import Principal

    guest = ws.bind(tenant="acme", principal=Principal(name="guest", admin=False))
    verbs = guest._case_verbs
    trace = result.case(result["new"].case_ids[0]).answers[1].traces[0]
    with pytest.raises((NotFoundError, PolicyError, RefusedError)):
        verbs.why("python", trace, text="", passages=())
