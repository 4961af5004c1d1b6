"""DVC's own commands on the small use case, typed without an activated environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from ruamel.yaml import YAML
from small_use_case import CELLS, NOTEBOOK, notebook, small_repository, with_pipeline

import workbench as wb
from workbench import layout
from workbench.experiments.runs import load_runs
from workbench.pipeline import stages
from workbench.pipeline.settings import READ
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import open_tape

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
USE_CASE = "results/small"
STAGES = ("settings", "prepare", "remember", "judge", "experiment", "gate", "plots", "report")
#: Another value for each key of a use case, which the stages that do not depend on the key must ignore.
OTHER = {
    "title": "Other", "purpose": "Other.", "owner": "others", "phase": "mlvp",
    "notebook": "notebooks/other.ipynb", "tenants": ["acme", "globex"], "data": "data",
    "memory": {"name": "other", "version": 1},
    "prompt": {"name": "other", "version": 1}, "model": "other", "report": "reports/other",
    "gates": {"mvp": {"accuracy": {"min": 0.1}, "confidence": 0.95}, "mlvp": {"accuracy": {"min": 0.2}}},
    "provider": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "OTHER_KEY",
    "memory_provider": "weaviate", "memory_url": "http://127.0.0.1:9", "memory_grpc": "127.0.0.1:9",
    "memory_api_key_env": "OTHER_KEY", "memory_awake": 3, "memory_fallback": "snapshot", "clearance": 1,
    "as_of": "2026-10-01", "seed": 8, "baseline": "none", "candidate": "other",
    "groups": ["everyone", "people"], "admins": ["nobody"], "concurrency": 1, "parameters": {"k": 2},
    "dataset": "data/other.jsonl", "scorers": {"accuracy": "exact"},
}  # fmt: skip


def typed(root: Path, command: str, *, code: int | None = 0, python: Path | None = None) -> str:
    """The output of a DVC command by its path in .venv, with no environment of ours on the PATH."""
    program, *rest = command.split()
    program = Path(sys.executable).with_name(program) if program == "dvc" else program
    path = f"{python or root.parent / 'bare'}:/usr/bin:/bin"
    kept = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [program, *rest], cwd=root, capture_output=True, text=True,
        env={**kept, "PATH": path, "HOME": str(root.parent), "OPENAI_API_KEY": "k-123"},
        timeout=250, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{said}"
    return done.stdout if code == 0 and "show" in rest else said


def ran(said: str) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)@small'", said))


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def replaced(root: Path, before: str, after: str, path: str = "params.yaml") -> None:
    text = (root / path).read_text()
    assert before in text, f"{path} has no {before!r}"
    (root / path).write_text(text.replace(before, after))


def passage(payload) -> str:
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The small repository, reproduced by `dvc repro` and committed, what that printed, and its model."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "bare").mkdir()
    bare = folder / "bare" / "python"  # the interpreter that a shell finds: it has no libraries
    bare.write_text(f'#!/bin/sh\nexec {sys._base_executable} -S "$@"\n')
    bare.chmod(0o755)
    served = FakeModel(passage)
    with endpoint(speaking(served)) as url:
        root = with_pipeline(small_repository(folder / "repo", model="served/Some-7B", endpoint=url))
        (root / ".venv").symlink_to(sys.prefix)
        (root / ".git/info/exclude").write_text("/.venv\n")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "-m", "A small use case")
        said = typed(root, "dvc repro")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "-m", "Results")
        yield root, said, served


@pytest.fixture
def root(first, tmp_path, monkeypatch):
    """A copy of the reproduced repository for one test, which stands in it."""
    shutil.copytree(first[0].parent, tmp_path / "user", symlinks=True)
    monkeypatch.chdir(tmp_path / "user/repo")
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    return tmp_path / "user/repo"


def test_repro_works_without_an_activated_environment(first):
    root, said, served = first
    assert ran(said) == set(STAGES)
    assert ran(typed(root, "dvc repro")) == set() and git(root, "status", "--porcelain") == ""
    assert len(served.calls) == 4, "the experiment reads the judge's tape"


def test_repro_leaves_a_judged_run_what_it_published_and_a_line_of_its_verdict(first):
    root, *_ = first
    (run,) = load_runs(root / USE_CASE / "judged")
    assert (run.arm, run.experiment, run.n_cases, run.n_unscored) == ("candidate", "judge", 4, 0)
    answered = {path.name for path in (root / USE_CASE / "answered").iterdir()}
    assert answered == {"answers.acme.parquet", "quarantine.parquet"}
    gate = json.loads((root / USE_CASE / "gate.json").read_bytes())
    assert (gate["run"], gate["verdict"], gate["stated_before"]) == (run.id, "pass", True)
    (line,) = (root / layout.verdicts_of("small")).read_text().splitlines()
    assert json.loads(line)["verdict"] == "pass"
    kept = {str(path) for path in (layout.verdicts_of("small"), layout.judge_tape_of("small"))}
    assert kept <= set(git(root, "ls-files").split())


def test_a_notebook_without_an_experiment_is_judged_and_has_a_page(root):
    (root / NOTEBOOK).write_text(notebook(cells=(CELLS[0], CELLS[1], CELLS[3])))
    again(root, "settings", *STAGES[3:])
    assert load_runs(root / USE_CASE / "runs") == []
    gate = json.loads((root / USE_CASE / "gate.json").read_bytes())
    assert gate["verdict"] == "pass" and gate["run"] in (root / "reports/small.md").read_text()
    assert (root / "reports/small.html").exists()


def test_without_any_environment_one_error_says_what_to_type(root):
    (root / ".venv").unlink()
    said = typed(root, "dvc repro --force settings@small", code=None)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert ".venv" in error and "  -> make repro" in said
    assert "failed to reproduce" in said
    # An environment elsewhere will do when it is first on the path.
    made = root / "results/small/settings/judge.json"
    assert not made.exists()
    typed(root, "sh workbench/pipeline/stage.sh settings small", python=Path(sys.executable).parent)
    assert made.exists()


def test_changed_settings_of_the_page_rerun_the_page_alone(root):
    """An experiment, below, changes settings of the run, on which no stage depends."""
    replaced(root, "title: A small use case", "title: Another title")
    replaced(root, "owner: tests", "owner: somebody")
    replaced(root, "mlvp: {accuracy: {min: 0.05}", "mlvp: {accuracy: {min: 0.06}")
    again(root, "settings")
    assert changed(root, *STAGES[1:]) == {"report"}
    again(root, "report")
    page = (root / "reports/small.md").read_text()
    assert "Another title" in page and "somebody" in page


def changed(root: Path, *asked: str) -> set[str]:
    """Those of the stages that DVC would run again."""
    said = typed(root, f"dvc status --json {' '.join(f'{stage}@small' for stage in asked)}")
    return {name.removesuffix("@small") for name in json.loads(said.splitlines()[-1])}


def again(root: Path, *names: str) -> None:
    """Run these stages as DVC does, in this process."""
    for stage in names:
        remove_outputs(root, stage)
        assert stages.main([stage, "small"]) == 0


def recorded(root: Path) -> set[str]:
    """Return the keys of the judge's recordings; the experiment has no other arm, and none of its own."""
    assert not open_tape(root / layout.tape_of("small"))
    return {entry.key for entry in open_tape(root / layout.judge_tape_of("small")).entries()}


def with_another_prompt(root: Path) -> None:
    """Save a version of the prompt, and pin it."""
    ws = wb.connect("small", root=root)
    draft = ws.prompt("brief").edit(system="Answer in one short sentence.")
    assert draft.save(reason="shorter").reference == "brief@2"
    ws.close()
    replaced(root, "{name: brief, version: 1}", "{name: brief, version: 2}")


def test_a_changed_gate_and_a_new_prompt_version_rerun_what_uses_them_and_metrics_say_what_changed(
    root, first
):
    """test_without_memory has another use case beside it, of which nothing reruns."""
    before, asked = recorded(root), len(first[2].calls)
    gate = ("mvp: {accuracy: {min: 0.05}", "mvp: {accuracy: {min: 0.06}")
    replaced(root, *gate)
    again(root, "settings")
    assert changed(root, *STAGES[1:6]) == {"judge", "experiment", "gate"}
    replaced(root, *reversed(gate))
    again(root, "settings")

    with_another_prompt(root)
    assert changed(root, "settings") == {"settings"}
    again(root, "settings")
    assert changed(root, *STAGES[1:5]) == {"prepare", "judge", "experiment"}

    replaced(root, *gate)
    questions = root / "data/small/questions.jsonl"
    questions.write_text("".join(questions.read_text().splitlines(keepends=True)[:-1]))
    again(root, "settings", "prepare", "judge", "experiment", "gate")
    now = recorded(root)
    assert len(before) == 4 and len(now) == 3 and not now & before, "the tape is pruned to what is judged"
    assert len(first[2].calls) == asked + 3
    assert not (root / layout.JOURNAL).exists(), "the experiment had nothing to ask"
    judged = json.loads((root / USE_CASE / "gate.json").read_bytes())
    assert judged["stated_before"] is True, "a gate that changed is stated by a new run"
    table = typed(root, "dvc metrics diff --md")
    (row,) = [line for line in table.splitlines() if "| cases " in line]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["cases", "4.0", "3.0", "-1.0"]


def with_other_settings(root: Path, stage: str) -> None:
    """Change every key on which the stage does not depend, all at once."""
    yaml = YAML()
    params = yaml.load((root / "params.yaml").read_text())
    case = params["use_cases"]["small"]
    others = {key: value for key, value in OTHER.items() if key not in READ[stage]}
    if "gates" in READ[stage] and stage != "report":
        case["gates"]["mlvp"] = OTHER["gates"]["mlvp"]
    if "phase" not in others and "gates" in others:
        others["gates"] = {case["phase"]: OTHER["gates"]["mvp"]}
    case.update(others)
    with (root / "params.yaml").open("w") as file:
        yaml.dump(params, file)


OUTPUTS = {
    "prepare": ("prepared",), "remember": ("memory",), "judge": ("judged", "answered"),
    "experiment": ("runs",),
    "gate": ("gate.json", "metrics.json"), "plots": ("plots",), "report": ("../../reports",),
}  # fmt: skip


def remove_outputs(root: Path, stage: str) -> None:
    """Remove what a stage made, as DVC does before it runs the stage again."""
    for name in OUTPUTS.get(stage, ()):
        path = root / USE_CASE / name
        path.unlink() if path.is_file() else shutil.rmtree(path)


def bytes_of(root: Path, stage: str) -> dict[str, bytes]:
    paths = [root / USE_CASE / name for name in OUTPUTS[stage]] + [root / "pipelines/tapes"]
    found = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return {str(file): file.read_bytes() for file in found if file.is_file() and file.name != ".gitignore"}


DRAWN = pytest.mark.drawn("stages with a kernel whose other settings change", 1)
IGNORING = [
    pytest.param(stage, marks=[DRAWN] if stage in {"judge", "experiment"} else []) for stage in STAGES[1:]
]


@pytest.mark.parametrize("stage", IGNORING)
def test_a_stage_writes_the_same_bytes_whatever_the_settings_that_it_does_not_depend_on(root, stage):
    before = bytes_of(root, stage)
    assert len(before) > 1
    with_other_settings(root, stage)
    again(root, stage)
    assert bytes_of(root, stage) == before


def test_metrics_show_the_gate_s_numbers(root):
    gate = json.loads((root / USE_CASE / "gate.json").read_bytes())
    shown = json.loads(typed(root, "dvc metrics show --json"))[""]["data"]
    assert list(shown) == [f"{USE_CASE}/metrics.json"]
    numbers = shown[f"{USE_CASE}/metrics.json"]["data"]
    assert numbers == {"verdict": gate["verdict"]} | {line["metric"]: line["value"] for line in gate["lines"]}
    assert {"accuracy", "cases"} <= numbers.keys()


def test_plots_show_the_arms_with_intervals_and_recall_by_number_of_hits(root, tmp_path):
    typed(root, f"dvc plots show --out {tmp_path / 'page'}")
    page = (tmp_path / "page/index.html").read_text()
    arms, recall = (
        json.loads((root / USE_CASE / f"plots/{name}.json").read_bytes()) for name in ("arms", "recall")
    )
    drawn = [json.loads(found) for found in re.findall(r'"values": (\[.*?\])\}', page)]
    assert sorted(map(str, drawn)) == sorted(
        str([{**row, "rev": "workspace"} for row in rows]) for rows in (arms, recall)
    )
    assert "<DVC_METRIC" not in page
    parts = {"judged": "judged", "explored": "runs"}
    runs = {
        (made_by, run.arm): run
        for made_by, part in parts.items()
        for run in load_runs(root / USE_CASE / part)
    }
    gate = json.loads((root / USE_CASE / "gate.json").read_bytes())
    for row in arms:
        metric = runs.pop((row["made_by"], row["arm"])).metric("accuracy", gate["confidence"]).to_json()
        ends = metric["interval"]
        assert (row["value"], row["low"], row["high"], row["n"]) == (
            metric["value"], ends["low"], ends["high"], metric["n"],
        )  # fmt: skip
    assert runs.keys() == {("explored", "candidate")}, "the judged run stands for its arm"
    assert [row["k"] for row in recall] == list(range(1, 11))
    values = [row["value"] for row in recall]
    assert values == sorted(values) and values[-1] == 1.0
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 4 for row in recall)


@pytest.mark.drawn("experiments of DVC", 1)
@pytest.mark.parametrize("where", ["", " --temp"], ids=["here", "in a folder of its own"])
def test_an_experiment_runs_with_another_seed_and_the_table_is_readable(root, where):
    """In a folder of its own the stages find the same environment."""
    said = typed(root, f"dvc exp run{where} --name other-seed -S use_cases.small.seed=8")
    assert ran(said) == {"settings"}, said
    (unread,) = [line for line in said.splitlines() if line.startswith("No stage depends on ")]
    assert " seed" in unread and " concurrency" in unread
    (kept,) = git(root, "for-each-ref", "--format=%(refname)", "refs/exps/*/*/other-seed").split()
    assert sorted(git(root, "diff", "--name-only", "HEAD", kept).split()) == ["dvc.lock", "params.yaml"]

    columns = "dvc exp show --only-changed --drop .*/.*|params.yaml --keep accuracy|cases|verdict"
    table = [line for line in typed(root, f"{columns} --md").splitlines() if line.strip()]
    assert max(map(len, table)) <= 120
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    (row,) = (dict(zip(head, cells, strict=True)) for cells in rows if "[other-seed]" in cells[0])
    numbers = json.loads((root / USE_CASE / "metrics.json").read_bytes())
    assert row["use_cases.small.seed"] == "8" and float(row["accuracy"]) == numbers["accuracy"]
    assert set(head) - {"Experiment", "Created"} == {"accuracy", "cases", "verdict", "use_cases.small.seed"}
