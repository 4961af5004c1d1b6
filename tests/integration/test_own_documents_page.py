"""docs/own-documents.md, followed to the letter: a folder and a table become a use case with a verdict."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from clone_edits import replaced
from clones import ROOT, Clone

from workbench.promotion import release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "own-documents.md").read_text(encoding="utf-8")
#: A comment that a reader does not see says what the block after it is for.
BLOCK = re.compile(
    r"^<!-- (?P<verb>file|run|shows)(?:: (?P<what>[^\n]*))? -->\n```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture
def clone(fresh_clone) -> Clone:
    """A repository without the use cases that ship, which asks one answer again."""
    folder = fresh_clone.folder
    replaced(fresh_clone, "workbench/pipeline/repro.py", "\nSAMPLE = 10\n", "\nSAMPLE = 1\n")
    folder.joinpath("params.yaml").write_text("# What production depends on.\nuse_cases:\njobs:\n")
    for job in folder.glob("pipelines/jobs/*/"):
        shutil.rmtree(job)
    release.write_stages(folder)
    fresh_clone.run("git", "commit", "--quiet", "--all", "--message", "Nothing yet")
    return fresh_clone


def shown(output: str, text: str) -> None:
    told = "\n".join(" ".join(line.split()) for line in output.splitlines())
    for line in text.splitlines():
        pattern = re.escape(" ".join(line.split())).replace("…", ".*")
        assert re.search(rf"^{pattern}$", told, re.MULTILINE), f"{line!r} is not in\n{output}"


def test_every_block_of_the_page_is_a_step():
    assert len(BLOCK.findall(PAGE)) == PAGE.count("```") / 2 >= 10


def test_the_page_leads_from_a_folder_and_a_table_to_a_verdict(clone):
    output = ""
    for step in BLOCK.finditer(PAGE):
        if step["verb"] == "file":
            path = clone.home / step["what"].removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step["text"])
        elif step["verb"] == "run":
            output = clone.run("bash", "-euc", step["text"], network=False, timeout=560)
        else:
            shown(output, step["text"])
    assert Path(clone.folder / "reports/rental.md").is_file() and clone.status() == ""
    assert "Running stage" not in clone.run("dvc", "repro", network=False)
