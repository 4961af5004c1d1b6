"""Which run the Notebook Jobs panel orders: the job of a notebook, its options, and what is refused."""

from __future__ import annotations

import importlib.util
import re
import threading
import tomllib
import types

import pytest
from clones import ROOT
from documented_pages import blocks_of, page_of
from made_jobs import CELLS, copied, frozen, judged_repository, stored

from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError
from workbench.jobs.spec import Parameter
from workbench.notebooks import inspection
from workbench.scheduler import panel_runs
from workbench.scheduler.panel_runs import PanelResult, PanelRun, ordered

FROZEN = {"k": Parameter(type="int", value=5)}


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    root = judged_repository(tmp_path_factory.mktemp("panel") / "repository")
    task = inspection.read(root / "notebooks/answers.ipynb").digest({"k": 5})
    frozen(root, 1, label="production", task_digest=task, parameters=FROZEN)
    return root


@pytest.fixture
def root(promoted, tmp_path):
    return copied(promoted, tmp_path / "repository")


def changed(root, name="answers", more=("print('more')", "")):
    path = root / "copies" / f"{name}.ipynb"
    stored(path, *CELLS, more)
    return path


def test_the_task_of_the_version_in_production_is_its_run_whatever_its_explore_cells(root):
    order = ordered(root, changed(root, more=("1 / 0", "explore")), {"at": " 2026-11-24 ", "tenant": "acme"})
    assert order == PanelRun(job="answers", version=1, options={"at": "2026-11-24", "tenant": "acme"})
    assert order.arguments("r1") == [
        "jobs", "run", "answers", "--at=2026-11-24", "--tenant=acme", "--run", "r1",
    ]  # fmt: skip


def test_another_task_is_refused_with_the_command_that_promotes_it(root):
    for parameters in ({}, {"job": "answers"}):
        with pytest.raises(RefusedError, match="no promoted version") as caught:
            ordered(root, changed(root), parameters)
        assert caught.value.hint == "workbench promote job/answers --to production"


def test_a_version_without_the_label_is_refused_with_the_command_that_moves_it(root):
    other = changed(root)
    task = inspection.read(other).digest({"k": 5})
    frozen(root, 2, label="candidate", task_digest=task, parameters=FROZEN)
    with pytest.raises(RefusedError, match="answers@2") as caught:
        ordered(root, other, {})
    assert caught.value.hint == "workbench promote job/answers@2 --to production"


def test_a_notebook_of_no_job_names_the_page_of_promotion(root):
    with pytest.raises(RefusedError, match="no job") as caught:
        ordered(root, changed(root, name="draft"), {})
    assert "docs/promote-a-notebook.md" in caught.value.hint


@pytest.mark.parametrize(
    ("parameters", "kind", "word"),
    [
        ({"k": "3"}, ConfigError, "frozen"),
        ({"run": "r1"}, ConfigError, "frozen"),
        ({"replace": "true"}, ConfigError, "frozen"),
        ({"at": " "}, ConfigError, "empty"),
        ({"input": "a\0b"}, ConfigError, "empty"),
        ({"job": "anwsers"}, NotFoundError, "answers"),
    ],
)
def test_a_parameter_that_no_run_takes_is_refused_by_name(root, parameters, kind, word):
    with pytest.raises(kind, match=word):
        ordered(root, root / "notebooks/answers.ipynb", parameters)


def test_a_value_is_never_an_option_of_its_own():
    order = PanelRun(job="answers", version=1, options={"input": "--replace"})
    assert order.arguments("r")[3] == "--input=--replace"


def test_a_damaged_version_is_refused_and_a_file_that_is_no_notebook_named(root):
    (root / "pipelines/jobs/answers/1/job.yaml").write_text("format: 9\n")
    with pytest.raises(WorkbenchError, match="answers/1/job"):
        ordered(root, root / "notebooks/answers.ipynb", {})
    (root / "notebooks/answers.ipynb").write_text("{")
    with pytest.raises(WorkbenchError, match=r"answers\.ipynb"):
        ordered(root, root / "notebooks/answers.ipynb", {})


def test_as_many_runs_as_the_capacity_states_have_their_turn_at_once(root):
    (root / "pipelines/operations.yaml").write_text("capacity: {runs: 2}\n")
    order, third = [], threading.Event()

    def wait_for_a_turn():
        third.set()
        with panel_runs.turn(root):
            order.append("third")

    with panel_runs.turn(root):
        with panel_runs.turn(root):
            waiting = threading.Thread(target=wait_for_a_turn)
            waiting.start()
            assert third.wait(5)
            waiting.join(0.5)
            order.append("second ends")
        waiting.join(10)
    assert order == ["second ends", "third"]


def test_what_comes_back_says_the_card_and_the_error_of_a_failed_run():
    held = PanelResult(code=1, card="answers@1 · held", errors="error: too many", executed=None)
    (cell,) = held.cells()
    assert cell["cell_type"] == "markdown" and "held" in cell["source"] and "too many" in cell["source"]
    (cell,) = PanelResult(code=0, card="answers@1", errors="a warning", executed=None).cells()
    assert "warning" not in cell["source"]


def test_the_page_installs_the_locked_version_and_lists_the_parameters_and_the_command():
    page = page_of("notebook-jobs.md")
    install, lab = blocks_of(page, "bash")[0].splitlines()
    package, constraints = install.split()[-1], install.split()[-2]
    assert re.search(rf"^{package}==", (ROOT / constraints).read_text(), re.MULTILINE) and lab == "make lab"
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["panel"]
    assert [requirement.partition(">")[0] for requirement in extra] == [package]
    assert set(re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)) == {*panel_runs.OPTIONS, "job"}
    (command,) = blocks_of(page, "console")
    arguments = PanelRun(job="NAME", version=1, options={}).arguments("")
    assert command.split() == ["$", "workbench", *arguments[:3]]


def test_the_settings_of_the_lab_name_the_panel_where_it_is_installed(monkeypatch):
    sections = ("ServerApp", "NotebookManager")
    settings = types.SimpleNamespace(**{name: types.SimpleNamespace() for name in sections})
    path = ROOT / ".jupyter/jupyter_server_config.py"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code = compile(path.read_text(), path, "exec")
    exec(code, {"get_config": lambda: settings, "__file__": str(path)})  # it sets nothing of the panel
    assert set(vars(settings)) == set(sections)
