"""A library is imported without an optional part of it, which anyone may import afterwards."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from workbench.imports import without

ROWS = (
    "from workbench.data.rules import ColumnRule, QualityRules\n"
    "from workbench.data.validation import violations\n"
    "rules = QualityRules(columns={'text': ColumnRule(type='text', required=True)})\n"
    "print(len(list(violations([{'text': 'a'}, {}], rules))), 'sqlalchemy' in sys.modules)"
)


def test_a_hidden_module_is_missing_inside_and_there_afterwards():
    sys.modules.pop("colorsys", None)
    with without("colorsys"), pytest.raises(ModuleNotFoundError, match="colorsys"):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_what_is_imported_already_stays():
    import colorsys

    with without("colorsys"):
        assert importlib.import_module("colorsys") is colorsys
    assert sys.modules["colorsys"] is colorsys


def test_it_is_there_again_after_an_error():
    sys.modules.pop("colorsys", None)
    with pytest.raises(ZeroDivisionError), without("colorsys"):
        1 / 0  # noqa: B018
    assert "colorsys" not in sys.modules


@pytest.mark.parametrize(("before", "imported"), [("", "False"), ("import ipykernel; ", "True")])
def test_rows_are_checked_without_sqlalchemy_but_in_a_notebook(before, imported):
    code = f"import sys; {before}\n{ROWS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", imported]
