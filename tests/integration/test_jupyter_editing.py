"""Sections of docs/jupyter.md, followed to the letter: their code runs."""

from __future__ import annotations

import re
import sys

import pytest
from documented_pages import blocks_of, copy_to, page_of, run

PAGE = page_of("jupyter.md")


def section(heading):
    """The text below a heading of the second level."""
    (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    return found


@pytest.mark.parametrize(
    ("heading", "shown"),
    [
        ("Edit a prompt", "tokens of input, counted by the model smollm2-135m"),
        ("Browse a memory", "What a search could find, valid on"),
        ("Feedback", "feedback"),
    ],
)
def test_the_code_of_the_section_does_what_it_says(tmp_path, heading, shown):
    (code,) = blocks_of(section(heading), "python")
    assert code.count("assert") >= 2
    assert shown in run(copy_to(tmp_path), sys.executable, "-c", code)
