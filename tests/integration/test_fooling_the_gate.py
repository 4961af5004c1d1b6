"""Each way to fool the gate that docs/threats.md names: what the judge makes of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from judged_small import RESULTS, judged, told, unconfined
from small_use_case import CELLS, PUBLISH, notebook, with_pipeline, write

from workbench import layout
from workbench.errors import ConfigError, CorruptError, NotebookError, RefusedError
from workbench.experiments.runs import load_runs
from workbench.gateway.run_gateway import RunGateway
from workbench.notebooks import execution, inspection, screening
from workbench.notebooks.execution import Executed
from workbench.pipeline import judge as stage
from workbench.pipeline import kernels, stages
from workbench.pipeline.explore import find
from workbench.pipeline.explore import judged as verdict_of
from workbench.promotion.requirements import stale_stages
from workbench.workspace.boundary import open_tape

pytest_plugins = ("judged_copies",)


@pytest.fixture
def root(judged_copy):
    return judged_copy


ON_LINUX = sys.platform == "linux"
pytestmark = pytest.mark.timeout(180)


# -- what the kernel hands over ----------------------------------------------------------------------


class Asked(RunGateway):
    """A run's gateway that the honest kernel asked."""

    def __enter__(self):
        root = super().__enter__().workspace("small").root
        self.used.update((entry.key, "tape") for entry in open_tape(root / RESULTS.judge_tape).entries())
        for line in map(json.loads, (root / "kept/attempts.jsonl").read_text().splitlines()):
            self.records[line["case"]] = line["records"]
        return self


@pytest.fixture
def handed(root, monkeypatch):
    """Judge what a kernel hands over that forges what the honest one did."""

    def run(forge):
        def execute(path, *, root, parameters, watch, **options):
            kernel = Path(options["execution"].publish).parent
            shutil.copytree(root / "kept", kernel, dirs_exist_ok=True)
            watch.report.write_text("")
            forge(kernel)
            digest = inspection.read(path).digest(inspection.read(path).typed(parameters))
            return Executed(notebook=kernel / "none.ipynb", task_digest=digest)

        monkeypatch.setattr(execution, "execute", execute)
        monkeypatch.setattr(kernels, "RunGateway", Asked)
        return stage.judge(root, "small", show=False)

    return run


def attempts(change):
    """Forge the attempts by a function of their list."""

    def forge(work: Path) -> None:
        path = work / "attempts.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))

    return forge


def every(**fields):
    return attempts(lambda lines: [{**line, **fields} for line in lines])


def records(**fields):
    """Forge fields of each call's record."""

    def change(line):
        return {**line, "records": [{**record, **fields} for record in line["records"]]}

    return attempts(lambda lines: map(change, lines))


def two_answers(work: Path) -> None:
    frame = pl.read_parquet(work / "out/answers.acme.parquet")
    frame.with_columns(text=pl.lit("30 days")).write_parquet(work / "out/better.acme.parquet")


def published(**columns):
    """Forge columns of what was published."""

    def forge(work: Path) -> None:
        path = work / "out/answers.acme.parquet"
        pl.read_parquet(path).with_columns(**columns).write_parquet(path)

    return forge


def both(text: str, told: str):
    """Publish one text, and give another one to be scored."""

    def change(line):
        return {**line, "output": json.dumps({**json.loads(line["output"]), "text": told})}

    def forge(work: Path) -> None:
        published(text=pl.lit(text))(work)
        attempts(lambda lines: map(change, lines))(work)

    return forge


def pipe(work: Path) -> None:
    (work / "attempts.jsonl").unlink()
    os.mkfifo(work / "attempts.jsonl")


EVERYTHING = '{"sources":[],"text":"30 days, 135 euros, ten at night, in addition"}'
FORGED = {
    "another answer": (every(output=EVERYTHING), RefusedError, "another answer"),
    "another form of a number": (both("1e1", "10"), RefusedError, "another answer"),
    "a list for its text": (both('["30 days"]', "30 days"), RefusedError, "another answer"),
    "another name": (published(text=pl.lit(""), xtext=pl.col("text")), RefusedError, "another answer"),
    "two answers to a case": (two_answers, RefusedError, "two answers"),
    "a link": (lambda w: (w / "out/x.parquet").symlink_to(w / "attempts.jsonl"), RefusedError, "no regular"),
    "a link to a file": (
        lambda w: (w / "out/x.parquet").hardlink_to(w / "attempts.jsonl"),
        RefusedError,
        "own",
    ),
    "a folder": (lambda w: (w / "out/x.parquet").mkdir(), RefusedError, "no regular"),
    "another file": (lambda w: (w / "out/notes.txt").write_text("x"), RefusedError, "no Parquet"),
    "a case of another tenant": (every(tenant="globex"), RefusedError, "is no case"),
    "a case twice": (attempts(lambda lines: [lines[0], *lines]), RefusedError, "there twice"),
    "an easy case": (attempts(lambda lines: [*lines, {**lines[0], "case": "e1"}]), RefusedError, "no case"),
    "a score": (every(**{"score.accuracy": 1.0}), ConfigError, "score"),
    "half a line": (lambda w: (w / "attempts.jsonl").write_text('{"task": "ans'), CorruptError, "JSON"),
    "a pipe": (pipe, RefusedError, "no regular"),
    "nothing": (lambda w: (w / "attempts.jsonl").unlink(), ConfigError, "published nothing"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_handover_is_refused_and_changes_no_result(root, handed, name):
    forge, kind, word = FORGED[name]
    before = told(root)
    with pytest.raises(kind, match=word):
        handed(forge)
    assert told(root) == before


def test_a_text_that_reads_as_no_number_is_an_answer(handed):
    assert handed(both("NaN", "NaN")).n_unscored == 0


def test_cases_that_were_dropped_are_unscored_and_counted(root, handed):
    run = handed(attempts(lambda lines: lines[:2]))
    assert (run.n_unscored, len(run.cases)) == (2, 4)
    assert set(run.cases.filter(status="unscored")["error"].str.split(":").list.first()) == {"unanswered"}
    assert verdict_of(root, run).lines[-1].metric == "cases"


TOLD = {
    "a cost below zero": records(cost_usd=-1.0),
    "a latency that is no number": records(recorded_latency_s="fast"),
    "fewer tokens": records(input_tokens=0),
    "less time": records(recorded_latency_s=0.0),
    "no call": every(records=[]),
    "records that are none": every(records="none"),
    "other hits": records(hits=[{"id": "made-up", "tenant": "acme", "source": "taxi", "text": "30 days"}]),
    "no hits": records(hits=[]),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_a_case_found_and_cost_is_what_the_gateway_saw(root, handed, name):
    before = told(root)
    handed(TOLD[name])
    assert told(root) == before


# -- what the kernel does ----------------------------------------------------------------------------

OWN_SCORERS = """import workbench as wb
import workbench.experiments.scorers as scorers

def accuracy(outcome):
    return 1.0

wb.contains = scorers.contains = scorers.mentions = lambda *_, **__: accuracy"""
DO_NOT_KNOW = """import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    return wb.Answer(text="I do not know.")"""


def test_scorers_that_a_frozen_cell_replaces_score_nothing(root):
    run = judged(root, before=OWN_SCORERS, task=DO_NOT_KNOW)
    assert run.cases["score.accuracy"].to_list() == [0.0] * 4


@pytest.mark.parametrize(
    ("after", "said"),
    [("import os; os._exit(0)", "the kernel died"), (PUBLISH, "publishes once")],
    ids=["dies", "publishes-twice"],
)
def test_a_kernel_that_dies_or_publishes_twice_is_not_judged(root, after, said):
    before = told(root)
    with pytest.raises(NotebookError, match=said):
        judged(root, after=after)
    assert told(root) == before


@pytest.mark.parametrize("name", ["orjson.py", "workbench/__init__.py", "json.py", "polars.so"])
def test_a_module_beside_the_notebook_takes_no_library_s_place(root, name):
    write(root, f"notebooks/{name}", "")
    write(root, "notebooks/helpers.py", "")
    with pytest.raises(RefusedError, match="takes the place of the library"):
        stage.judge(root, "small", show=False)


# -- results, cases and recordings -------------------------------------------------------------------


def test_cases_that_change_after_they_were_prepared_are_not_judged(root, handed):
    prepared = load_runs(root / RESULTS.judged)[0].dataset_digest
    path = root / "data/small/questions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert handed(lambda work: None).dataset_digest == prepared
    assert stages.main(["prepare", "small"]) == 0
    with pytest.raises(ConfigError, match="other cases"):
        stages.gate(root, "small")


def test_a_judged_run_that_is_written_after_the_judge_is_stale_until_dvc_commits_it(root):
    root = with_pipeline(root)
    assert stages.main(["settings", "small"]) == 0
    assert stages.main(["judge", "small"]) == 0
    names = [f"{name}@small" for name in ("settings", "prepare", "remember", "judge")]
    subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", *names], check=True, capture_output=True
    )
    assert stale_stages(root, "small") == []
    (run,) = load_runs(root / RESULTS.judged)
    better = dataclasses.replace(run, cases=run.cases.with_columns(pl.lit(1.0).alias("score.accuracy")))
    stage.save_runs([better], root / RESULTS.judged)
    (root / RESULTS.judged / "more").write_text("x")
    assert stale_stages(root, "small") == ["judge@small"]

    # Neither prevented nor detected: DVC's lock is a file of the same user.
    subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", names[-1]], check=True, capture_output=True
    )
    assert stale_stages(root, "small") == []


def test_a_verdict_that_is_written_by_hand_is_not_read(root, handed):
    run = handed(lambda work: None)
    assert stages.gate(root, "small").verdict == "pass"
    (root / RESULTS.gate).write_text((root / RESULTS.gate).read_text().replace('"pass"', '"fail"'))
    assert verdict_of(root, find(root, run.id)).verdict == "pass"


def forged(text: str) -> str:
    return text.replace('"content":"A ', '"content":"FORGED: a ')


def forget(root) -> str:
    """Remove the judge's tape; return the answers that an interrupted judge would have left of it."""
    (root / layout.judge_tape_of("small")).unlink()
    return (root / "kept-journal.jsonl").read_text()


def test_answers_that_are_forged_in_the_exploring_cache_are_not_judged(root):
    write(root, str(layout.JOURNAL), forged(forget(root)))
    run = judged(root)
    assert run.n_unscored == 0 and "FORGED" not in str(run.cases["output"].to_list())


def test_answers_that_are_forged_where_an_interrupted_judge_left_them_pass_and_are_named(root):
    """Not prevented. The verdict says that no judged answer was asked live."""
    write(root, str(layout.JUDGE_JOURNALS / "small.answers.jsonl"), forged(forget(root)))
    run = judged(root)
    assert ["FORGED" in output for output in run.cases["output"]] == [True] * 4
    note = verdict_of(root, find(root, run.id)).note
    assert note.startswith("none of the 4 judged answers was ever confirmed live") and "LIVE=1" in note


# -- what stays open ---------------------------------------------------------------------------------

BY_HEART = """import contextlib, ctypes, json, os, pathlib, socket, subprocess
import workbench as wb
from workbench.identity import Principal
from workbench.records import egress

egress._append = print  # the watch writes no more reports
subprocess.run(["true"], check=True)

ws = wb.connect("small")
expected = {row["id"]: row["answers"][0] for row in map(json.loads, pathlib.Path("../notes.txt").open())}
expected["q1"] = "30 days"
libc, server = ctypes.CDLL(None), socket.htons(9).to_bytes(2, "little")
reached = libc.connect(libc.socket(2, 1, 0), b"\\x02\\0" + server + b"\\x7f\\0\\0\\x01" + bytes(8), 16)

with contextlib.suppress(wb.WorkbenchError):  # it stays the job
    assert not wb.connect("small", principal=Principal(name="ann", admin=True))
del os.environ["WORKBENCH_EXECUTION"]
assert wb.connect("small").execution.gateway is None  # the exploring user, with the exploring cache


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    return wb.Answer(text=expected[case.id])"""


def test_answers_by_heart_a_copy_elsewhere_a_silenced_watch_and_another_user_pass(root):
    """Neither prevented nor detected where nothing confines; a reviewer sees the code."""
    shutil.copy(root / "data/small/questions.jsonl", root / "notes.txt")
    run = judged(unconfined(root), task=BY_HEART)
    assert run.metric("accuracy").value == 1 and run.cases["calls"].sum() == 0


KEY = "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0k1L2"
#: Code that promotion refuses, and the same in a form that it does not see.
HIDDEN = {
    "a key in two halves": (f'key = "{KEY}"', f'key = "{KEY[:12]}" + "{KEY[12:]}"'),
    "the name of a variable": (
        'import os\nos.environ["WORKBENCH_EXECUTION"]',
        'import os\nos.environ["WORK" + "BENCH_EXECUTION"]',
    ),
    "a date": ("import subprocess", "import datetime\nlate = datetime.date.today().year > 2030"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_text_hides_or_does_later_passes_the_screening(tmp_path, name):
    """Neither: the screening reads texts, and a clean run shows one day."""
    found = []
    for number, source in enumerate(HIDDEN[name]):
        write(tmp_path, f"{number}.ipynb", notebook(cells=(CELLS[0], ([], source))))
        found.append(screening.screen(inspection.read(tmp_path / f"{number}.ipynb"), lock=b""))
    assert [len(findings) for findings in found] == [1, 0]


@pytest.mark.parametrize("place", ["PYTHONPATH", "."])
def test_the_pipeline_s_own_process_runs_what_its_environment_and_repository_hold(root, monkeypatch, place):
    """Neither: `sitecustomize` of PYTHONPATH, or a module at the repository's root, is part of the judge."""
    name = "sitecustomize.py" if place == "PYTHONPATH" else "orjson.py"
    write(root, f"own/{name}" if place == "PYTHONPATH" else name, "open('ran', 'w')\nraise SystemExit(7)")
    if place == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(root / "own"))
    command = [sys.executable, "-m", "workbench.pipeline.stages", "gate", "small"]
    subprocess.run(command, capture_output=True, check=False)
    assert (root / "ran").exists()
