"""Today's libraries given our clients: each request leaves one settled record; docs/libraries.md shows it."""

from __future__ import annotations

import json
import os
import re

import pytest
from clones import ROOT, Clone
from documented_pages import page_of
from interop_expected import CASES, faults_of, table
from interop_libraries import LIBRARIES
from made_once import made_once

SCRIPT = ROOT / "tests" / "support" / "interop_script.py"
TABLE = re.compile(r"(?s)(<!-- table: [^\n]*\n)(.*?)(<!-- end of table -->)")
TITLES = {name: {kind.title for kind in kinds.values()} for name, kinds in LIBRARIES.items()}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the script printed in each environment, run when first asked for."""
    found = {}

    def run(environment):
        if environment not in found:
            python = ROOT / f".venv-{environment}" / "bin" / "python"
            assert python.exists(), "make interop"
            head = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head))
            clone = head.copied(tmp_path_factory.mktemp(environment))
            output = clone.run(str(python), str(SCRIPT), environment, timeout=240)
            found[environment] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return found[environment]

    return run


@pytest.mark.parametrize(("environment", "library", "scenario"), CASES)
def test_each_request_of_a_library_leaves_one_settled_record(told, environment, library, scenario):
    assert faults_of(environment, library, scenario, told(environment)) == []


@pytest.mark.parametrize("environment", LIBRARIES)
def test_nothing_stays_reserved(told, environment):
    assert told(environment)[-1] == {"reserved": 0.0}


@pytest.mark.parametrize("environment", LIBRARIES)
def test_the_code_of_the_page_hands_a_governed_client_over(told, environment):
    ran = {line["page"]: line for line in told(environment) if "page" in line}
    assert ran.keys() == TITLES[environment]
    assert {(line["requests"], tuple(line["outcomes"])) for line in ran.values()} == {(1, ("ok",))}


def test_a_verb_that_ignores_the_client_passes_the_boundary_as_the_page_says(told):
    (line,) = [line for line in told("interop-older") if line.get("scenario") == "LiteLLM: past the boundary"]
    assert line["requests"] == 1 and line["records"] == []
    assert "`litellm.responses()`" in page_of("libraries.md")


def test_the_table_of_the_page_is_what_was_found(told):
    made = table({name: told(name) for name in LIBRARIES})
    page = page_of("libraries.md")
    if os.environ.get("WORKBENCH_WRITE_TABLE"):
        page = TABLE.sub(lambda found: found[1] + made + found[3], page)
        (ROOT / "docs" / "libraries.md").write_text(page, encoding="utf-8")
    assert TABLE.search(page)[2] == made, "write it anew: WORKBENCH_WRITE_TABLE=1"
