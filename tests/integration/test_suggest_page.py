"""docs/suggest-cases.md, followed to the letter: its code and its commands run."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
from documented_pages import blocks_of, copy_to, page_of, run

from workbench.data.questions import read_questions

PAGE = page_of("suggest-cases.md")


def blocks(language):
    return blocks_of(PAGE, language)


@pytest.fixture
def copy(tmp_path):
    """What the page needs of the repository."""
    return copy_to(tmp_path)


def test_the_code_and_the_commands_of_the_page_do_what_it_says(copy):
    code = "\n".join(blocks("python"))
    assert "assert" in code
    shown = run(copy, sys.executable, "-c", code)
    assert "Suggested cases: 20 drafts" in shown and "0 accepted, 0 rejected, 20 undecided" in shown
    assert "workbench init NAME --docs data/handbook --questions questions.jsonl" in shown
    rows = [json.loads(line) for line in (copy / "questions.jsonl").read_text().splitlines()]
    assert [row.get("edited", False) for row in rows] == [False, False, True]
    assert (rows[2]["page"], rows[2]["answers"]) == ("fabric-waste", ["Little Peak"])
    (commands,) = blocks("console")
    shown, written = (
        run(copy, sys.executable, "-m", "workbench.cli", *shlex.split(line)[1:])
        for line in commands.splitlines()
    )
    assert "20 drafts" in shown and "Nobody has read these drafts" in written
    found = read_questions(copy / "drafts.jsonl", kind="answer")
    assert len(found) == 20 and {row["seed"] for row in found} == {8}
    assert not found.unused and not found.suspicious
