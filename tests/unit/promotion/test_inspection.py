from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.errors import ConfigError, NotFoundError
from workbench.promotion import inspection

PARAMETERS = 'name = "x"\ncount = 3\nrate = 0.5\nloud = False\nitems = []\nnothing = None'


def code(source, *tags):
    cell = new_code_cell(source)
    cell.metadata["tags"] = list(tags)
    return cell


def stored(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    def make(*cells, parameters=PARAMETERS):
        return inspection.read(stored(tmp_path / "n.ipynb", code(parameters, "parameters"), *cells))

    return make


def test_declared_parameters_take_texts_from_a_command_line(notebook):
    given = {"name": "3", "count": "7", "rate": "2", "loud": "True", "items": "['a']", "nothing": "free"}
    typed = {"name": "3", "count": 7, "rate": 2.0, "loud": True, "items": ["a"], "nothing": "free"}
    assert notebook().typed(given) == typed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nmae": "x"}, r"no parameter 'nmae' \(nearest: 'name'"),
        ({"count": "many"}, "parameter 'count' is int, got 'many'"),
        ({"count": "True"}, "parameter 'count' is int"),
        ({"loud": 1}, "parameter 'loud' is bool"),
    ],
)
def test_an_unknown_or_unreadable_parameter_is_named(notebook, given, said):
    with pytest.raises(ConfigError, match=said):
        notebook().typed(given)


def test_the_task_digest_changes_with_what_a_job_would_run_and_with_nothing_else(notebook):
    base = notebook(code("x = name * 2")).digest({})
    same = [
        notebook(code("# a word\nx = (name*2)")),
        notebook(new_markdown_cell("# hello"), code("x = name * 2")),
        notebook(code("x = name * 2"), code("print(x)", "explore")),
        notebook(code("x = name * 2"), parameters="# defaults\n" + PARAMETERS),
    ]
    assert {one.digest({}) for one in same} == {base}
    assert notebook(code("x = name * 3")).digest({}) != base
    assert notebook(code("x = name * 2")).digest({"name": "y"}) != base
    assert notebook(code("x = name * 2"), parameters=PARAMETERS.replace("3", "4")).digest({}) != base


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([code("x = 1")], "needs one cell tagged `parameters`, found none"),
        ([code("a = 1", "parameters"), code("b = 1", "parameters")], "found 2"),
        ([code("a = 1", "parameters"), new_markdown_cell("x"), code("y = (1")], "cell 3, line 1"),
        ([code("a = f()", "parameters")], "parameter 'a' must be a literal"),
    ],
)
def test_a_notebook_that_could_not_run_as_a_step_is_refused(tmp_path, cells, said):
    with pytest.raises(ConfigError, match=said):
        inspection.read(stored(tmp_path / "n.ipynb", *cells))


def test_magic_lines_are_not_syntax_errors(notebook):
    assert notebook(code("%time x = 1\n!ls")).digest({})


def test_a_file_that_is_no_notebook_or_not_there_is_one_clear_error(tmp_path):
    (tmp_path / "n.ipynb").write_text('{"cells": [')
    with pytest.raises(ConfigError, match="is not a notebook"):
        inspection.read(tmp_path / "n.ipynb")
    with pytest.raises(NotFoundError, match="there is no file"):
        inspection.read(tmp_path / "other.ipynb")
