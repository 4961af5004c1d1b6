"""JSON Schema without the grammar for IRIs, which costs a second of CPU when it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    [
        "from workbench.diagnostics.check import check_all; check_all(pathlib.Path())",
        "import workbench.pipeline.stages; import workbench.schemas as s; s.jsonschema(); import papermill",
    ],
    ids=["check", "stage"],
)
def test_the_grammar_is_not_compiled(code):
    asked = (
        f"import pathlib, sys; {code}; print('jsonschema' in sys.modules, 'rfc3987_syntax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_an_iri_is_judged_as_without_the_delay():
    code = (
        "from workbench import schemas; j = schemas.jsonschema(); c = j.Draft202012Validator.FORMAT_CHECKER; "
        "print(c.conforms('http://é.example/', 'iri'), c.conforms('no iri', 'iri'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
