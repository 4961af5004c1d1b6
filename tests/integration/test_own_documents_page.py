"""docs/own-documents.md, followed to the letter: a folder and a table become a use case with a verdict.

The page's 25 answers are recorded in `recorded/`; make soak asks the embedded model for each, which takes a
minute of CPU. test_own_documents.py brings documents to a verdict of the model itself in every run.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import sizes
from clone_edits import emptied
from clones import ROOT, Clone
from documented_pages import check_shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "own-documents.md").read_text(encoding="utf-8")
TAPES = "pipelines/tapes"
#: A comment that a reader does not see says what the block after it is for.
BLOCK = re.compile(
    r"^<!-- (?P<verb>file|run|shows)(?:: (?P<what>[^\n]*))? -->\n```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


RECORDED = sorted(Path(__file__).with_name("recorded").glob("rental*.jsonl"))


@pytest.fixture
def clone(fresh_clone) -> Clone:
    return emptied(fresh_clone)


def test_every_block_of_the_page_is_a_step():
    assert len(BLOCK.findall(PAGE)) == PAGE.count("```") / 2 >= 10


def as_recorded(clone: Clone, tape: Path) -> bool:
    """Return whether the use case's tape holds what was recorded, so that no other question was asked."""
    return (clone.folder / TAPES / tape.name).read_bytes() == tape.read_bytes()


@pytest.mark.drawn("pages from a folder to a verdict or a job", 1)
def test_the_page_leads_from_a_folder_and_a_table_to_a_verdict(clone):
    output = ""
    for step in BLOCK.finditer(PAGE):
        if step["verb"] == "file":
            path = clone.home / step["what"].removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step["text"])
        elif step["verb"] == "run":
            output = clone.run("bash", "-euc", step["text"], network=False, timeout=560)
            if step["text"].startswith("workbench init rental") and not sizes.SOAK:
                for tape in RECORDED:
                    assert (clone.folder / TAPES / tape.name).read_bytes() == b""
                    shutil.copy(tape, clone.folder / TAPES)
        else:
            check_shown(output, step["text"])
    assert Path(clone.folder / "reports/rental.md").is_file() and clone.status() == ""
    if not sizes.SOAK:
        asked = [tape.name for tape in RECORDED if not as_recorded(clone, tape)]
        assert asked == [], (
            f"other questions now: cp {clone.folder / TAPES}/rental*.jsonl {RECORDED[0].parent}"
        )
    assert "Running stage" not in clone.run("dvc", "repro", network=False)
