"""docs/audit.md, followed to the letter: its code and its commands run."""

from __future__ import annotations

import shlex
import sys

from documented_pages import blocks_of, copy_to, page_of, run

PAGE = page_of("audit.md")


def test_the_code_and_the_commands_of_the_page_do_what_it_says(tmp_path):
    copy = copy_to(tmp_path)
    (code,) = blocks_of(PAGE, "python")
    run(copy, sys.executable, "-c", code)
    (commands,) = blocks_of(PAGE, "console")
    show, chosen, export, verify = [
        run(copy, sys.executable, "-m", "workbench.cli", *shlex.split(line)[2:])
        for line in commands.splitlines()
    ]
    assert "model.chat" in show and "acme" in chosen and "audit-2026" in export
    assert "PASS" in verify and "cust-4711" not in show
