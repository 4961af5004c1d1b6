"""docs/confinement.md, followed to the letter, and the list of docs/design/confinement.md."""

from __future__ import annotations

import re
import sys

import escapes
from documented_pages import blocks_of, copy_to, page_of, run

from workbench.confinement.supported import support


def test_the_code_of_the_page_does_what_it_says(tmp_path):
    copy = copy_to(tmp_path)
    asked, confined = blocks_of(page_of("confinement.md"), "python")
    machine = support()
    assert run(copy, sys.executable, "-c", asked).split("\n")[:-1] == [
        machine.level,
        *(machine.missing or [""]),
    ]
    output = run(copy, sys.executable, "-c", confined)
    assert str(len((copy / "params.yaml").read_text())) in output
    assert ("PermissionError" in output) == machine.files


def test_the_design_names_each_way_that_is_tried_and_no_other():
    (listed,) = re.findall(
        r"## Ways out that are tried\n(.*?)\n## ", page_of("design/confinement.md"), re.DOTALL
    )
    assert set(re.findall(r"`([a-z_0-9]+)`", listed)) == set(escapes.WAYS)
