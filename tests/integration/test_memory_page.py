"""docs/memory.md, followed to the letter: its spec is saved, its code and its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner
from clones import ROOT
from documented_pages import blocks_of, copy_to, page_of, run
from sizes import SOAK

from workbench.cli import app

PAGE = page_of("memory.md")


#: Few attempts to read another's items; a failing property is not made smaller, which takes longer.
QUICK = """
from hypothesis import Phase, settings
from workbench.testing.store_contract import StoreContract

settings.register_profile("quick", phases=[Phase.explicit, Phase.generate])
settings.load_profile("quick")
StoreContract.attempted = 100
"""


def blocks(language):
    return blocks_of(PAGE, language)


@pytest.fixture
def copy(tmp_path):
    """What the page needs of the repository."""
    copy_to(tmp_path)
    spec, *_rest = blocks("yaml")
    folder = tmp_path / "pipelines" / "memories" / "talks"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(spec)
    return tmp_path


def test_the_code_and_the_commands_of_the_page_do_what_it_says(copy, monkeypatch):
    monkeypatch.chdir(copy)
    typed("save", "memory/talks", "--reason", "the page says so")
    code = "\n".join(block for block in blocks("python") if "MemoryContract" not in block)
    assert code.count("assert") > 6
    shown = run(copy, sys.executable, "-c", code)
    assert "added    bicycles" in shown and "Travels often." in shown
    commands = [shlex.split(line) for text in blocks("console") for line in text.splitlines()]
    assert len(commands) > 5
    for command in commands:
        assert command[0] == "workbench"
        assert typed(*command[1:]).strip()


def typed(*arguments):
    """What a command prints that ends well, run in this process as it is typed."""
    done = CliRunner().invoke(app.cli, arguments, prog_name="workbench", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def write_a_store(folder, name, before="FakeStore", after="FakeStore"):
    """The page's test, and beside it the copy with which it says to begin, one thing changed."""
    (test,) = (block for block in blocks("python") if "MemoryContract" in block)
    assert "from my_store import" in test
    if (
        before != after
    ):  # the examples end with the first that fails; a few may all be of what anybody may see
        test = re.sub(r"examples, histories = \d+", "examples, histories = 25", test)
    (folder / f"test_{name}.py").write_text(test.replace("my_store", name))
    copied = (ROOT / "workbench" / "testing" / "fake_memory.py").read_text(encoding="utf-8")
    assert before in copied
    (folder / f"{name}.py").write_text(copied.replace(before, after).replace("FakeStore", "MyStore"))


def test_a_copy_of_the_fake_passes_the_test_of_a_store_and_one_that_shows_everybody_everything_does_not(
    tmp_path,
):
    write_a_store(tmp_path, "my_store")
    write_a_store(tmp_path, "open_house", "rules.visible(item, query)", "True")
    if not SOAK:
        (tmp_path / "conftest.py").write_text(QUICK)
    chosen = "test_my_store or test_without_groups or test_groups_are"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hydra_pytest"]
    done = subprocess.run(
        [*command, "-k", chosen], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert re.search(r"^4 failed, \d{3} passed, \d+ deselected in", done.stdout, flags=re.MULTILINE), (
        done.stdout
    )
    failed = re.findall(r"^FAILED (\w+)\.py::", done.stdout, flags=re.MULTILINE)
    assert failed == ["test_open_house"] * 4
