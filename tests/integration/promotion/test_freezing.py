"""The clean run, with a worker that gives what the test tells it: what it shows and what it leaves."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import polars as pl
import pytest
from made_jobs import CELLS, COUNTS, INPUTS, OUTPUTS, SAMPLE, copied, judged_repository, stored

from workbench import config, files
from workbench.errors import NotebookError, NotFoundError, UnavailableError
from workbench.jobs import runner
from workbench.jobs.parity import ENVIRONMENT
from workbench.jobs.runner import WorkerResult
from workbench.notebooks import inspection
from workbench.promotion import freezing, promote
from workbench.repository import environments
from workbench.repository.fingerprint import Fingerprint


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judged_repository(tmp_path_factory.mktemp("judged") / "repo")


@pytest.fixture
def root(judged, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "python_of", lambda root, lock, install_hint: Path("python"))
    return copied(judged, tmp_path / "repo")


@pytest.fixture
def draft(root):
    params = config.load_params(root)
    case = params.use_cases["answers"]
    run = freezing.judged_run(root, "answers", case)
    gate = promote.judged(root, "answers", case, run)
    return freezing.draft(root, "answers", params.jobs["answers"], case, gate, run)


@pytest.fixture
def told(root, draft, monkeypatch):
    """What the worker does, to be changed by a test: `requests` is what it was asked.

    `answers` is what it publishes on the inputs of the judged cases, and `reached` is for each input.
    """

    class Told:
        cells = (*CELLS[:1], ('# its parameters\ninputs = "INPUT"', "injected-parameters"), *CELLS[1:2])
        counts = COUNTS
        reached = {}
        answers = OUTPUTS
        digest = draft.spec.task_digest
        requests = []

    def work(request, *, python, folder, seconds):
        Told.requests.append(request)
        executed = folder / "executed.ipynb"
        stored(executed, *((source.replace("INPUT", request.inputs), tag) for source, tag in Told.cells))
        of_cases = Path(request.inputs).read_bytes() == INPUTS
        for name, data in (Told.answers if of_cases else OUTPUTS).items():
            files.write_atomic(Path(request.out) / name, data)
        if request.tape_out:
            files.write_atomic(Path(request.tape_out), b"used")
        lines = [json.dumps(line) for line in Told.reached.get(Path(request.inputs).name, ())]
        Path(request.watch).write_text("\n".join(lines))
        return WorkerResult(task_digest=Told.digest, notebook=str(executed), counts=Told.counts)

    Told.requests = []
    monkeypatch.setattr(runner, "run", work)
    # Its answers are no attempts; test_otherwise_in_a_job.py scores real ones.
    monkeypatch.setattr(freezing, "_scored_otherwise", lambda root, case, run, work: "")
    return Told


def run(root, draft):
    case = config.load_params(root).use_cases["answers"]
    return freezing.clean_run(root, draft, case, show=False)


def test_a_clean_run_gives_the_outputs_digests_the_tape_and_the_counts(root, draft, told):
    clean, missing = run(root, draft)
    assert missing == [] and clean.tape == b"used" and clean.counts == COUNTS
    assert clean.outputs == {name: files.digest(data) for name, data in OUTPUTS.items()}
    request, of_cases = told.requests
    assert Path(request.root).parent == root / ".workbench/cache/code" and request.mode == "auto"
    assert request.parameters == {"k": 5} and request.pins == draft.spec.pins and request.arm == {}
    assert (of_cases.mode, of_cases.tape_out, of_cases.journal) == ("replay", None, None)
    assert request.tape == of_cases.tape == str(root / "pipelines/tapes/answers.judge.jsonl")
    assert (of_cases.broken, of_cases.root, of_cases.parameters) == (1.0, request.root, {"k": 5})


def test_it_is_made_on_the_committed_code_and_nothing_of_it_is_left(root, draft, told, monkeypatch):
    work = runner.run

    def looking(request, **where):
        assert (Path(request.root) / "workbench/code.py").read_text() == "1"
        assert Path(request.inputs).read_bytes() == (SAMPLE if request.tape_out else INPUTS)
        assert inspection.read(Path(request.notebook)).cells[-1][1] == "answered = [inputs, k]"
        return work(request, **where)

    monkeypatch.setattr(runner, "run", looking)
    (root / "workbench/code.py").write_text("2")
    run(root, draft)
    assert list((root / ".workbench/cache/promoting").iterdir()) == []


def test_a_notebook_that_fails_is_said_with_its_own_hint(root, draft, told, monkeypatch):
    def fails(request, **where):
        raise NotebookError("cell 2: NameError", hint="define it")

    monkeypatch.setattr(runner, "run", fails)
    clean, (missing,) = run(root, draft)
    assert clean is None and missing.fix == "define it"
    assert missing.what == "the frozen notebook does not run clean alone: cell 2: NameError"
    assert list((root / ".workbench/cache/promoting").iterdir()) == []


# -- the inputs of the judged cases


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({**OUTPUTS, "answers.acme.parquet": b"other rows"}, ": answers.acme.parquet"),
        ({**OUTPUTS, "notes.parquet": b"more"}, ": notes.parquet"),
        ({"other.parquet": b"rows"}, ": answers.acme.parquet, other.parquet, quarantine.parquet"),
    ],
)
def test_a_job_that_answers_the_judged_cases_otherwise_is_refused(root, draft, told, answers, named):
    told.answers = answers
    clean, (missing,) = run(root, draft)
    assert clean is not None and missing.exit_code == 2 and "dvc repro" in missing.fix
    assert missing.what == f"the job publishes other answers to the judged cases{named}"
    assert list((root / ".workbench/cache/promoting").iterdir()) == []


def test_a_job_that_cannot_answer_the_judged_cases_is_refused_with_its_reason(root, draft, told, monkeypatch):
    work = runner.run

    def asks_more(request, **where):
        if request.mode == "replay":
            raise UnavailableError("no recording of a question", hint="dvc repro")
        return work(request, **where)

    monkeypatch.setattr(runner, "run", asks_more)
    _, (missing,) = run(root, draft)
    assert missing.what == "the job does not answer the judged cases: no recording of a question"
    assert list((root / ".workbench/cache/promoting").iterdir()) == []


def test_inputs_of_the_cases_that_are_gone_are_an_error_with_their_path(root, draft, told):
    (root / "results/answers/prepared/inputs.parquet").unlink()
    with pytest.raises(NotFoundError, match=r"inputs\.parquet"):
        run(root, draft)


def test_what_the_boundary_did_not_open_is_missing_with_its_place(root, draft, told):
    reached = {"where": "cell 2", "event": "connected to", "address": "10.0.0.7:443"}
    for inputs in ("sample.jsonl", "inputs.parquet"):
        told.reached = {inputs: [reached]}
        _, (missing,) = run(root, draft)
        assert missing.what == "cell 2: connected to 10.0.0.7:443, which the boundary did not open"
    told.reached = {"sample.jsonl": [reached], "inputs.parquet": [reached]}
    assert run(root, draft)[1] == [missing], "it is said once"


@pytest.mark.parametrize("inputs", ["sample.jsonl", "inputs.parquet"])
def test_a_run_that_nobody_watched_is_no_clean_run(root, draft, told, monkeypatch, inputs):
    work = runner.run

    def unwatched(request, **where):
        done = work(request, **where)
        if Path(request.inputs).name == inputs:
            Path(request.watch).unlink()
        return done

    monkeypatch.setattr(runner, "run", unwatched)
    with pytest.raises(NotFoundError, match="not watched"):
        run(root, draft)


def test_personal_data_that_only_the_executed_copy_shows_is_found(root, draft, told):
    told.cells = (*told.cells, ('"write to ada.lovelace@mail.org"', ""))
    _, missing = run(root, draft)
    assert [one.what.split(": ")[-1] for one in missing] == ["an e-mail address"]


def test_the_inputs_own_place_is_no_finding(root, draft, told):
    told.cells = (CELLS[0], ('inputs = "/Users/ada/rows.jsonl"', "injected-parameters"), CELLS[1])
    assert [one.fix for one in run(root, draft)[1]] == [
        "name it relative to the repository, or make it a parameter"
    ], "another place is one"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({**COUNTS, "held": True}, "of the sample's 2 rows 1 were answered"),
        ({**COUNTS, "answered": 0}, "of the sample's 2 rows 0 were answered"),
    ],
)
def test_a_sample_that_is_held_or_not_answered_is_no_sample(root, draft, told, counts, said):
    told.counts = counts
    _, (missing,) = run(root, draft)
    assert missing.what == said


def test_the_first_rows_that_were_not_answered_are_named_with_their_reason(root, draft, told, monkeypatch):
    buffer = io.BytesIO()
    pl.DataFrame({"row": [2], "reason": ["no tenant"]}).write_parquet(buffer)
    told.counts, told.answers = {**COUNTS, "held": True}, dict(OUTPUTS)
    monkeypatch.setitem(OUTPUTS, "quarantine.parquet", buffer.getvalue())
    _, (missing,) = run(root, draft)
    assert missing.what.endswith("; row 2: no tenant")


def test_another_task_than_the_judged_one_is_refused_though_it_runs(root, draft, told):
    told.digest = "f" * 64
    _, (missing,) = run(root, draft)
    assert missing.what.startswith("the frozen notebook holds task ffffffffffff, not ")


def test_the_finished_page_names_every_file_with_its_digest(root, draft, told):
    done = freezing.finished(draft, run(root, draft)[0])
    folder = freezing.write(root, done)
    freezing.jobspec.check_files(folder, done.spec.files)
    assert done.spec.files["tape.jsonl"] == done.spec.digests["tape"] == files.digest(b"used")
    assert freezing.jobspec.read(folder / "job.yaml") == done.spec
    kept = freezing.load_runs(folder / freezing.jobspec.JUDGED)
    assert [one.id for one in kept] == [draft.run.id]


def test_the_environment_of_the_promotion_is_evidence_of_the_version(root, draft):
    evidence = json.loads(draft.copies[ENVIRONMENT])
    assert set(evidence) == {field.name for field in dataclasses.fields(Fingerprint)}
    assert evidence["confinement"] in {"full", "partial", "none"} and evidence["machine"]
    other = dataclasses.replace(draft.spec, files={**draft.spec.files, ENVIRONMENT: "another machine's"})
    assert other.content() == draft.spec.content(), "the same version may be promoted on two machines"
