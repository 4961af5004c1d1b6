"""What users type and what old versions call: nothing here may vanish, more may come."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench import config

ROOT = Path(__file__).resolve().parents[2]
NAMES = """
    Answer Case Dataset Hit Message Outcome Page Principal Question Reply Window WorkbenchError Workspace
    citation_precision compare connect contains cross_tenant_hits exact feedback grounded load ndcg_at
    recall_at scorer task
"""
#: Commands with their arguments and options. Each of them has `--json` too.
COMMANDS = """
    check
    compare RUN BASELINE --metric --margin
    doctor
    gate RUN --phase --out
    jobs export JOB --to --out
    jobs history JOB --limit
    jobs install JOB
    jobs list
    jobs run JOB --input --at --tenant --replace
    memory deactivate --use-case --memory --tenant
    memory diff BEFORE AFTER --sources --use-case --memory --tenant
    memory forget --subject --source --id --expired --dry-run --use-case --memory --tenant
    memory grant --admin-key-env --use-case --memory --tenant
    memory hold --subject --source --id --use-case --memory --tenant
    memory ingest SOURCE --use-case --memory --tenant
    memory purge --use-case --memory --tenant
    memory release --subject --source --id --use-case --memory --tenant
    memory rest --use-case --memory --tenant
    memory restore WHAT --use-case --memory --tenant
    memory revoke --admin-key-env --use-case --memory --tenant
    memory search TEXT -k --version --as-of --use-case --memory --tenant
    memory snapshot FOLDER --use-case --memory --tenant
    memory stats --use-case --memory --tenant
    memory sweep --use-case --memory --tenant
    memory versions --use-case --memory --tenant
    promote REFERENCE --to --reason --dry-run --commit
    report USE_CASE
    repro --live --record --memory
    rollback REFERENCE --to --label --reason --dry-run --commit
    run NOTEBOOK -p --use-case --tape
    save REFERENCE --reason
"""
#: Each is run as `python -m`: the worker by runners of later versions, the stages by dvc.yaml files.
MODULES = {
    "workbench.cli.weaviate": "workbench/cli/weaviate.py",
    "workbench.notebooks": "workbench/notebooks/__main__.py",
    "workbench.notebooks.stored": "workbench/notebooks/stored.py",
    "workbench.pipeline.stages": "workbench/pipeline/stages.py",
    "workbench.stages": "workbench/stages.py",
    "workbench.worker": "workbench/worker.py",
}
TARGETS = {
    "repro", "test", "soak", "check", "lab", "bench", "weaviate", "interop", "phoenix", "lock", "clean",
}  # fmt: skip
#: Files that users write, where they find them.
FILES = """
    params.yaml dvc.yaml notebooks/answers.ipynb data/handbook/questions.jsonl data/inbox/sample.jsonl
    pipelines/prompts/answer/2.prompty pipelines/prompts/answer/asset.yaml pipelines/tapes/answers.jsonl
    pipelines/models/smollm2-135m/1.yaml pipelines/memories/handbook/2.yaml pipelines/jobs/stages.yaml
    pipelines/jobs/answers/asset.yaml pipelines/deploy/compose.yaml
"""


def test_the_package_exports_these_names():
    assert set(wb.__all__) >= set(NAMES.split())
    assert all(getattr(wb, name) is not None for name in NAMES.split())


def commands(group, before: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each command, hidden ones too, with the words it takes."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
            continue
        words = set()
        for parameter in command.params:
            option = parameter.param_type_name == "option"
            words.update(parameter.opts if option else [parameter.name.upper()])
        yield before + name, words


def test_the_command_line_takes_these_commands_and_options():
    from workbench.cli.app import cli

    known = dict(commands(cli))
    for line in COMMANDS.strip().splitlines():
        name = " ".join(word for word in line.split() if word.islower() and not word.startswith("-"))
        wanted = {word for word in line.split() if word.startswith("-") or word.isupper()}
        assert name in known, name
        assert known[name] >= {*wanted, "--json"}, name


def test_the_console_script_and_the_address_it_names_are_there():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="workbench")
    assert script.value == "workbench.cli:main"
    assert callable(script.load())


@pytest.mark.parametrize("name", MODULES)
def test_an_address_of_python_m_ends_with_the_code_of_its_main(name):
    tree = ast.parse((ROOT / MODULES[name]).read_text(encoding="utf-8"))
    last = tree.body[-1]
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    assert ast.unparse(last.body[-1]) == "sys.exit(main(sys.argv[1:]))"
    assert any(getattr(node, "name", "") == "main" for node in ast.walk(tree))


def test_the_command_line_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Usage: " in done.stdout and "promote" in done.stdout


def test_the_former_address_of_the_canonical_form_still_works(monkeypatch, tmp_path, capsys):
    shutil.copy(ROOT / "notebooks/answers.ipynb", tmp_path)
    notebook = tmp_path / "answers.ipynb"
    for spoil, code in ((lambda text: text, 0), (lambda text: text + "\n\n", 1)):
        notebook.write_text(spoil(notebook.read_text(encoding="utf-8")), encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["notebooks", str(tmp_path)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("workbench.notebooks", run_name="__main__")
        assert ended.value.code == code
    assert "answers.ipynb" in capsys.readouterr().out


def test_a_store_of_ones_own_finds_the_contract_where_it_was():
    contracts = importlib.import_module("workbench.testing.contracts")
    assert issubclass(contracts.DurableContract, contracts.MemoryContract)
    assert callable(contracts.governed)


def test_make_has_these_targets():
    targets = re.findall(r"^([a-z]+):.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(targets) >= TARGETS


def test_the_files_that_users_write_are_where_they_were():
    assert [name for name in FILES.split() if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(("former", "name"), [("sweep", "purge"), ("sweep_async", "purge_async")])
def test_a_renamed_verb_of_a_memory_keeps_its_former_name(former, name):
    from workbench.retrieval import MemoryHandle

    assert inspect.getattr_static(MemoryHandle, former) is inspect.getattr_static(MemoryHandle, name)


def test_the_former_name_of_unfiltered_is_the_same_view():
    from workbench.retrieval import MemoryHandle

    class Handle(MemoryHandle):
        unfiltered = "the unfiltered view"

        def __init__(self):
            """No memory is opened."""

    assert Handle().whole == "the unfiltered view"


def test_params_may_name_admins_by_the_former_key(tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key in ("admins", "keepers"):
        line = f"    {key}: [ada]\n    tenants:"
        (tmp_path / "params.yaml").write_text(text.replace("    tenants:", line, 1), encoding="utf-8")
        case = config.load_params(tmp_path).use_cases["answers"]
        assert [case.rights(name)["admin"] for name in ("ada", "bob")] == [True, False]
