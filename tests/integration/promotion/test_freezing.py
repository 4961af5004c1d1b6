"""The clean run, with a worker that gives what the test tells it: what it shows and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_jobs import CELLS, COUNTS, OUTPUTS, SAMPLE, copied, judged_repository, stored

from workbench import config, files
from workbench.errors import NotebookError, NotFoundError
from workbench.jobs import runner
from workbench.jobs.runner import WorkerResult
from workbench.notebooks import inspection
from workbench.promotion import freezing, promote
from workbench.repository import environments


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
    """What the worker does, to be changed by a test: `requests` is what it was asked."""

    class Told:
        cells = (*CELLS[:1], ('# its parameters\ninputs = "INPUT"', "injected-parameters"), *CELLS[1:2])
        counts = COUNTS
        reached = ()
        digest = draft.spec.task_digest
        requests = []

    def work(request, *, python, folder, seconds):
        Told.requests.append(request)
        executed = folder / "executed.ipynb"
        stored(executed, *((source.replace("INPUT", request.inputs), tag) for source, tag in Told.cells))
        for name, data in OUTPUTS.items():
            files.write_atomic(Path(request.out) / name, data)
        files.write_atomic(Path(request.tape_out), b"used")
        lines = [json.dumps(line) for line in Told.reached]
        Path(request.watch).write_text("\n".join(lines))
        return WorkerResult(task_digest=Told.digest, notebook=str(executed), counts=Told.counts)

    Told.requests = []
    monkeypatch.setattr(runner, "run", work)
    return Told


def run(root, draft):
    case = config.load_params(root).use_cases["answers"]
    return freezing.clean_run(root, draft, case, show=False)


def test_a_clean_run_gives_the_outputs_digests_the_tape_and_the_counts(root, draft, told):
    clean, missing = run(root, draft)
    assert missing == [] and clean.tape == b"used" and clean.counts == COUNTS
    assert clean.outputs == {name: files.digest(data) for name, data in OUTPUTS.items()}
    (request,) = told.requests
    assert Path(request.root).parent == root / ".workbench/cache/code" and request.mode == "auto"
    assert request.parameters == {"k": 5} and request.pins == draft.spec.pins


def test_it_is_made_on_the_committed_code_and_nothing_of_it_is_left(root, draft, told, monkeypatch):
    work = runner.run

    def looking(request, **where):
        assert (Path(request.root) / "workbench/code.py").read_text() == "1"
        assert Path(request.inputs).read_bytes() == SAMPLE
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


def test_what_the_boundary_did_not_open_is_missing_with_its_place(root, draft, told):
    told.reached = [{"where": "cell 2", "event": "connected to", "address": "10.0.0.7:443"}]
    _, (missing,) = run(root, draft)
    assert missing.what == "cell 2: connected to 10.0.0.7:443, which the boundary did not open"


def test_a_run_that_nobody_watched_is_no_clean_run(root, draft, told, monkeypatch):
    work = runner.run

    def unwatched(request, **where):
        done = work(request, **where)
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
