"""docs/records.md, followed to the letter: its code and its commands run."""

from __future__ import annotations

import shlex
import sys

from documented_pages import blocks_of, copy_to, page_of, run

PAGE = page_of("records.md")


def test_the_code_and_the_commands_of_the_page_do_what_it_says(tmp_path):
    copy = copy_to(tmp_path)
    code = "\n".join(blocks_of(PAGE, "python"))
    assert code.count("assert") >= 4
    shown = run(copy, sys.executable, "-c", code)
    assert "what it did for its users" in shown and "chat-4711" in shown
    (commands,) = blocks_of(PAGE, "console")
    outputs = [
        run(copy, sys.executable, "-m", "workbench.cli", *shlex.split(line)[2:])
        for line in commands.splitlines()
    ]
    assert len(outputs) == 3 and all("acme" in output for output in outputs)


def test_the_page_names_every_column():
    from workbench.records.columns import columns

    missing = [name for name in columns() if f"`{name}`" not in PAGE]
    assert not missing
