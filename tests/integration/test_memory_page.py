"""docs/memory.md, followed to the letter: its spec is saved, its code and its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from clones import ROOT
from documented_pages import blocks_of, copy_to, page_of, run

PAGE = page_of("memory.md")


#: A failing property is not made smaller: that takes longer than finding it.
FAST_FAILURE = """
from hypothesis import Phase, settings
settings.register_profile("fast", phases=[Phase.explicit, Phase.generate])
settings.load_profile("fast")
"""
#: As many examples of a property as this run generates of each other property.
AS_MANY_EXAMPLES = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests/support")!r})
import sizes

def pytest_collection_modifyitems(items):
    sizes.limit_examples(items)
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


def test_the_code_and_the_commands_of_the_page_do_what_it_says(copy):
    program = [sys.executable, "-m", "workbench.cli"]
    run(copy, *program, "save", "memory/talks", "--reason", "the page says so")
    code = "\n".join(block for block in blocks("python") if "MemoryContract" not in block)
    assert code.count("assert") > 6
    shown = run(copy, sys.executable, "-c", code)
    assert "added    bicycles" in shown and "Travels often." in shown
    commands = [shlex.split(line) for text in blocks("console") for line in text.splitlines()]
    assert len(commands) > 5
    for command in commands:
        assert command[0] == "workbench"

        assert run(copy, *program, *command[1:]).strip()


def write_a_store(folder, before="FakeStore", after="MyStore"):
    """The page's test, and beside it the copy with which it says to begin."""
    (test,) = (block for block in blocks("python") if "MemoryContract" in block)
    (folder / "test_my_store.py").write_text(test)
    copied = (ROOT / "workbench" / "testing" / "fake_memory.py").read_text(encoding="utf-8")
    assert before in copied
    (folder / "my_store.py").write_text(copied.replace(before, after).replace("FakeStore", "MyStore"))
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_store.py"]


def test_a_copy_of_the_fake_passes_the_test_of_a_store_of_ones_own(tmp_path):
    command = write_a_store(tmp_path)
    (tmp_path / "conftest.py").write_text(AS_MANY_EXAMPLES)
    said = run(tmp_path, *command)
    assert re.search(r"^\d{3} passed in", said, flags=re.MULTILINE)


def test_a_store_that_shows_everybody_everything_does_not_pass_it(tmp_path):
    command = write_a_store(tmp_path, "rules.visible(item, query)", "True")
    (tmp_path / "conftest.py").write_text(FAST_FAILURE)
    command += ["-k", "test_without_groups or test_groups_are"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "4 failed" in done.stdout, done.stdout
