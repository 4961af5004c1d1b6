"""docs/assessments.md, followed to the letter: its commands run, and its tables say what the code does."""

import contextlib
import dataclasses
import re
import shlex
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from clones import ROOT
from documented_pages import blocks_of, copy_to, page_of

from workbench import config, files
from workbench.cli.app import cli
from workbench.diagnostics import check
from workbench.diagnostics.check import check_all
from workbench.errors import WorkbenchError
from workbench.models.assessment import MOST_DAYS, QUESTIONS, Assessment

PAGE = page_of("assessments.md")
WHAT = "answers: assessed models"


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository, committed, in the name of a person who wrote nothing in it."""
    copy = copy_to(tmp_path)
    shutil.copytree(ROOT / "notebooks", copy / "notebooks")
    shutil.copy(ROOT / ".gitignore", copy)
    for command in (
        ["init", "-q"],
        ["config", "user.name", "Rita"],
        ["add", "."],
        ["commit", "-qm", "Start"],
    ):
        subprocess.run(["git", "-C", copy, *command], check=True)
    return copy


def typed(copy, command):
    """Type a command of the page; return its exit code and what it says."""
    with contextlib.chdir(copy):
        done = CliRunner().invoke(cli, shlex.split(command)[1:])
    if isinstance(done.exception, WorkbenchError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def finding(copy):
    (found,) = check._assessed(copy, "answers", config.load_params(copy).use_cases["answers"])
    return found


def test_the_tables_are_the_code_s():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert {key: rows[key] for key in QUESTIONS} == dict(QUESTIONS)
    keys = {field.name for field in dataclasses.fields(Assessment)}
    assert set(rows) == keys | set(QUESTIONS) | {"mvp", "mlvp"} and f"{MOST_DAYS} days" in PAGE


def test_the_page_leads_from_a_form_to_a_use_case_in_phase_mlvp(copy):
    assess, approve = (block.removeprefix("$ ").strip() for block in blocks_of(PAGE, "console"))
    (block,) = blocks_of(PAGE, "yaml")
    stated = files.parse_yaml(block, where="page")["use_cases"]["answers"]["handles"]
    assert config.load_params(copy).use_cases["answers"].handles == tuple(stated)
    shipped = (copy / "pipelines/assessments/smollm2-135m.yaml").read_text()
    (copy / "pipelines/assessments/smollm2-135m.yaml").unlink()

    assert finding(copy).warning and "is unassessed" in finding(copy).problem
    code, said = typed(copy, assess)
    assert code == 0 and "form is written" in said
    code, said = typed(copy, assess)
    assert code == 1 and "10 of 10 questions" in said
    code, said = typed(copy, approve)
    assert code == 2 and "no answer" in said

    (copy / "pipelines/assessments/smollm2-135m.yaml").write_text(shipped)
    code, said = typed(copy, approve)
    assert code == 0, said
    subprocess.run(said.rpartition("next: ")[2], shell=True, cwd=copy, check=True)
    assert typed(copy, f"{approve.replace('smollm2-135m', 'wordllama-256')} --commit")[0] == 0
    assert typed(copy, assess)[0] == 0 and finding(copy).problem == ""
    left = subprocess.run(
        ["git", "-C", copy, "status", "--short"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""

    page = copy / "params.yaml"
    page.write_text(
        page.read_text()
        .replace("phase: mvp", "phase: mlvp", 1)
        .replace("[internal]", "[internal, secret]", 1)
    )
    (found, *_) = check._assessed(copy, "answers", config.load_params(copy).use_cases["answers"])
    assert not found.warning and "class secret" in found.problem


def test_check_reads_every_file_of_the_folder(copy):
    folder = copy / "pipelines/assessments"
    page = copy / "params.yaml"
    page.write_text(page.read_text().replace("phase: mvp", "phase: mlvp", 1))
    (folder / "stray.yaml").write_text("model: stray\n")
    (folder / "smollm2-135m.old.yaml").write_text("")
    (folder / "wordllama-256.yaml").write_text("model: [")
    checked = check_all(copy)
    found = {item.what.rpartition("/")[2]: item for item in checked.findings if "assessments/" in item.what}
    assert found["stray.yaml"].warning and found["smollm2-135m.old.yaml"].warning
    assert found["wordllama-256.yaml"].problem and not found["wordllama-256.yaml"].warning
    refused = [item for item in checked.findings if item.what == WHAT and not item.warning]
    assert len(refused) == 2 and not checked.passed
