"""The section of docs/jupyter.md on exploring a result, followed to the letter."""

from __future__ import annotations

import shutil
import sys

from documented_pages import blocks_of, copy_to, page_of, run

SECTION = page_of("jupyter.md").partition("## Explore a result")[2].partition("\n## ")[0]


def test_the_code_of_the_section_does_what_it_says(shipped, tmp_path):
    copy = copy_to(tmp_path)
    for name in ("notebooks", "results"):
        shutil.copytree(shipped.folder / name, copy / name)
    code = "\n".join(blocks_of(SECTION, "python"))
    assert code.count("assert") == 2
    shown = run(copy, sys.executable, "-c", code)
    assert "How much may a hotel room cost" in shown and "acme-002 · acme" in shown
    told = run(copy, sys.executable, "-m", "workbench.cli", "check")
    assert "pipelines/notes/answers.jsonl" in told and "145 euros since May" in told
