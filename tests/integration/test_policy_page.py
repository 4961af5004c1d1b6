"""docs/policy.md, followed to the letter: its policies, tests, code and commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

from documented_pages import blocks_of, copy_to, page_of, run

from workbench.policy import requests
from workbench.policy.source import FOLDER, read_source
from workbench.policy.validation import validate

PAGE = page_of("policy.md")


def test_what_the_page_says_is_so(tmp_path):
    copy = copy_to(tmp_path)
    folder = copy / FOLDER
    (cedar,) = blocks_of(PAGE, "cedar")
    rows, observe = blocks_of(PAGE, "yaml")
    (folder / "house.cedar").write_text(cedar)
    with (folder / "tests.yaml").open("a") as file:
        file.write(rows)
    assert validate(read_source(copy), groups=("everyone",)) == []

    (code,) = blocks_of(PAGE, "python")
    shown = run(copy, sys.executable, "-c", code)
    decision = re.search(r"workbench audit explain ([0-9a-f]{16})", shown)[1]

    check, explain, what_if = blocks_of(PAGE, "console")
    commands = [*explain.splitlines(), *what_if.splitlines()]
    outputs = {}
    for command in (line.removeprefix("$ ") for line in commands):
        words = shlex.split(re.sub(r"[0-9a-f]{16}", decision, command))
        if words[0] == "workbench":
            outputs[words[2]] = run(copy, sys.executable, "-m", "workbench.cli", *words[1:])
        else:
            subprocess.run(words, cwd=copy, check=True)
            (copy / "draft" / "house.cedar").unlink()
    assert "denied" in outputs["explain"] and "no-marketing" in outputs["explain"]
    assert decision in outputs["what-if"] and "changes 1 of" in outputs["what-if"]
    assert check == "$ workbench check\n" and "enforce: observe" in observe


def test_the_page_names_every_action_group_attribute_and_key_of_the_context():
    actions = {"model.chat", *requests.ACTION_GROUPS["read"], *requests.ACTION_GROUPS["write"]}
    actions |= {*requests.ACTION_GROUPS["release"], *requests.ACTION_GROUPS[""]}
    named = {*filter(None, requests.ACTION_GROUPS), *actions, *requests.CONTEXT, *requests.RESOURCES}
    for attributes in requests.RESOURCES.values():
        named |= set(attributes)
    named -= {"valid_from", "valid_to", "expires"}  # an ellipsis stands for the times of items
    assert not [name for name in sorted(named) if f"`{name}`" not in PAGE]
