from __future__ import annotations

import ast
import datetime as dt
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import ConfigError, NotFoundError
from workbench.notebooks import inspection

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


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"count": "3"}, 3),
        ({"rate": 2}, 2.0),
        ({"rate": "2"}, 2.0),
        ({"items": "['a', 'b']"}, ["a", "b"]),
        ({"pair": [1, 2]}, (1, 2)),
        ({"pair": "(1, 2)"}, (1, 2)),
        ({"nothing": 7}, 7),
    ],
)
def test_a_value_is_taken_as_the_type_its_default_has(notebook, given, taken):
    ((name, value),) = notebook(parameters=f"{PARAMETERS}\npair = ()").typed(given).items()
    assert (value, type(value)) == (taken, type(taken)) and name in given


@pytest.mark.parametrize(
    "given",
    [
        {"count": True},
        {"count": 3.0},
        {"rate": True},
        {"rate": "True"},
        {"name": 3},
        {"items": "3"},
        {"loud": "1"},
    ],
)
def test_a_value_of_another_type_is_never_taken_for_one(notebook, given):
    ((name, _),) = given.items()
    with pytest.raises(ConfigError, match=rf"parameter '{name}' is ") as caught:
        notebook().typed(given)
    assert f"-p {name}=" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "kind", "default"),
    [
        ("x = 3", "int", 3),
        ("x = 'a'", "str", "a"),
        ("x = (1, 2)", "tuple", (1, 2)),
        ("x = -0.5", "float", -0.5),
        ("x = None", "", None),
        ("x: str | None = None", "str | None", None),
        ("x: list[str] = []", "list[str]", []),
        ("x: int", "int", None),
    ],
)
def test_a_parameters_type_is_what_is_written_else_what_its_default_is(notebook, line, kind, default):
    found = notebook(parameters=line).parameters["x"]
    assert (found.type, found.default) == (kind, default)


@pytest.mark.parametrize(
    "value",
    [
        "1e999",
        "[-1e999]",
        "{'a': (1e400,)}",
        "{1, 2}",
        "b'x'",
        "1j",
        "2**3",
        "f()",
        "[{1}]",
        str(2**70),
        "...",
    ],
)
def test_a_default_that_no_page_could_hold_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="parameter 'x' must be a literal"):
        inspection.read(stored(tmp_path / "n.ipynb", code(f"x = {value}", "parameters")))


def test_what_is_no_plain_assignment_is_no_parameter(notebook):
    text = 'import os\nx = 1\na, b = 1, 2\nx.y = 3\nfor i in []:\n    z = i\ndef f():\n    w = 1\n"a word"'
    assert list(notebook(parameters=text).parameters) == ["x"]


def test_the_input_is_a_parameter_and_no_part_of_the_task(notebook):
    one = notebook(code("rows = inputs"), parameters=f'{PARAMETERS}\ninputs = ""')
    assert one.typed({"inputs": "a.jsonl"}) == {"inputs": "a.jsonl"}
    assert one.digest({"inputs": "a.jsonl"}) == one.digest({"inputs": "b.jsonl"}) == one.digest({})
    assert "inputs" not in one.values({"inputs": "a.jsonl"}) and one.values({"count": 9})["count"] == 9
    assert one.digest({}) != notebook(code("rows = 1"), parameters=f'{PARAMETERS}\ninputs = ""').digest({})


def test_cells_without_code_are_no_part_of_the_task(notebook):
    base = notebook(code("x = 1")).digest({})
    assert notebook(code("x = 1"), code("")).digest({}) == base
    assert notebook(code("# first"), code("x = 1"), code("  \n# last")).digest({}) == base
    assert notebook(code("x = 1"), code("pass")).digest({}) != base


def test_the_order_of_cells_is_part_of_the_task(notebook):
    assert notebook(code("x = 1"), code("y = 2")).digest({}) != notebook(code("y = 2"), code("x = 1")).digest(
        {}
    )


def test_what_is_frozen_is_the_task_and_nothing_that_explores(notebook, tmp_path):
    ran = code("x = name * 2")
    ran.outputs, ran.execution_count = [new_output("stream", text="secret")], 7
    cells = [
        new_markdown_cell("# Hello"),
        code("import os", "explore"),
        ran,
        code("print(x)", "explore", "b"),
        code(""),
    ]
    whole = notebook(*cells)
    (tmp_path / "frozen.ipynb").write_text(whole.frozen())
    frozen = inspection.read(tmp_path / "frozen.ipynb")
    assert [source for _, source, _ in frozen.cells] == [PARAMETERS, "x = name * 2"]
    assert "# Hello" in whole.frozen() and "secret" not in whole.frozen() and "explore" not in whole.frozen()
    assert frozen.digest({}) == whole.digest({}) and frozen.parameters == whole.parameters
    assert frozen.frozen() == whole.frozen(), "freezing what is frozen changes nothing"


CELLS = st.lists(
    st.tuples(
        st.sampled_from(["x = 1", "y = 2  # word", "", "# only words", "%time x = 3", "print('a')"]),
        st.sampled_from(["", "explore", "other"]),
    ),
    max_size=6,
)


@given(cells=CELLS)
def test_freezing_never_changes_the_task(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("n")
    made = [code(source, *([tag] if tag else [])) for source, tag in cells]
    whole = inspection.read(stored(folder / "n.ipynb", code(PARAMETERS, "parameters"), *made))
    (folder / "frozen.ipynb").write_text(whole.frozen())
    frozen = inspection.read(folder / "frozen.ipynb")
    assert frozen.digest({"count": 5}) == whole.digest({"count": 5})
    assert len(frozen.cells) <= 1 + sum(tag != "explore" for _, tag in cells)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if True:\n    shown = 1", "if True:\n    shown = 0"),
        ("a, b = 1, 2", "a, b = 1, 3"),
        ("a = b = 1", "a = b = 2"),
        ("import json", "import orjson as json"),
        ("def limit():\n    return 1", "def limit():\n    return 2"),
        ("for i in [1]:\n    last = i", "for i in [2]:\n    last = i"),
        ("count += 1", "count += 2"),
        ("class Limits:\n    shown = 1", "class Limits:\n    shown = 2"),
        ("%env MODE=a", "%env MODE=b"),
        ("print(name)", "print(count)"),
        ("y: print(1) = 3", "y: print(2) = 3"),
        ("items.append(1)", "items.append(2)"),
        ("half = 2\ndel half", "half = 3\ndel half"),
        ("(lambda: 1)()", "(lambda: 2)()"),
    ],
)
def test_code_in_the_parameters_cell_is_part_of_the_task(notebook, before, after):
    plain = notebook(code("x = name")).digest({})
    digests = [
        notebook(code("x = name"), parameters=f"{PARAMETERS}\n{text}").digest({}) for text in (before, after)
    ]
    assert len({plain, *digests}) == 3


def test_a_default_that_code_of_the_parameters_cell_reads_is_part_of_the_task(notebook):
    made = [notebook(parameters=f"k = {k}\n[k]\nk = 9").digest({"k": 1}) for k in (1, 2)]
    assert made[0] != made[1]
    made = [notebook(parameters=f"[0]\nk = {k}").digest({"k": 1}) for k in (1, 2)]
    assert made[0] == made[1], "below the code only the value counts"


@pytest.mark.parametrize(
    "parameters",
    [
        PARAMETERS.replace("count = 3", "count: int = 3"),
        PARAMETERS.replace("count = 3", "count: 'int | None' = (3)  # how many"),
        "\n".join(reversed(PARAMETERS.split("\n"))),
        f'"""The parameters."""\n\n{PARAMETERS}\npass',
        f"count = 4\n{PARAMETERS}",
        PARAMETERS.replace("\n", "; "),
        f"    {PARAMETERS}".replace("\n", "\n    "),
    ],
)
def test_a_parameters_cell_of_plain_assignments_adds_no_code_to_the_task(notebook, parameters):
    assert notebook(parameters=parameters).digest({}) == notebook().digest({})


def test_the_digest_of_plain_assignments_is_a_known_answer(notebook):
    known = "4e96ee35057952757149ed6d5ff35143d4fa58ffad602083d96d89881bcb8b44"
    assert notebook(code("x = name")).digest({}) == known


@pytest.mark.parametrize(
    ("line", "given", "taken"),
    [
        ("x = (1, 2)", "[3, 4]", (3, 4)),
        ("x = (1, 2)", "()", ()),
        ("x: tuple[int, ...] = (1,)", [3, 4], (3, 4)),
        ("x: typing.Tuple[int, str] = (1, 'a')", "(2, 'b')", (2, "b")),
        ("x: int | None = None", "5", 5),
        ("x: int | None = None", "None", None),
        ("x: int | None = 3", "None", None),
        ("x: int | None = 3", None, None),
        ("x: Optional[float] = None", "2", 2.0),
        ("x: typing.Optional[bool] = None", "true", True),
        ("x: Union[int, str] = 1", "5", 5),
        ("x: Union[int, str] = 1", "five", "five"),
        ("x: 'str | None' = None", "5", "5"),
        ("x: str | None = None", "None", None),
        ("x: Literal['a', 1] = 'a'", "b", "b"),
        ("x: Literal['a', 1] = 'a'", "1", 1),
        ("x: Annotated[int, 'rows'] = 1", "7", 7),
        ("x: list[int] = []", "[1, 2]", [1, 2]),
        ("x: List[str] = None", '["a", null]', ["a", None]),
        ("x: dict[str, int] = None", '{"a": 1}', {"a": 1}),
        ("x: float = 1", "0.5", 0.5),
        ("x = []", "[('a', 1)]", [("a", 1)]),
        ("x = None", "5", 5),
        ("x = None", "0.5", 0.5),
        ("x = None", "None", None),
        ("x = None", "[1, 2]", [1, 2]),
        ("x = None", "007", "007"),
        ("x = None", "'quoted'", "'quoted'"),
        ("x: Path = None", "a/b.csv", "a/b.csv"),
        ("x = ''", "5", "5"),
        ("x = '2026-01-01'", dt.date(2026, 2, 28), "2026-02-28"),
        ("x = None", dt.date(2026, 2, 28), "2026-02-28"),
        ("x: date = None", "2026-02-28", "2026-02-28"),
        ("x: dt.date = '2026-01-01'", dt.date(2026, 2, 28), "2026-02-28"),
        ("x: date = None", None, None),
        ("x: datetime.datetime = None", "2026-02-28T10:00:00", "2026-02-28T10:00:00"),
        ("x: date | None = None", "None", None),
        ("x = []", [dt.date(2026, 2, 28)], ["2026-02-28"]),
        ("x = {}", {"from": dt.date(2026, 2, 28)}, {"from": "2026-02-28"}),
    ],
)
def test_a_value_is_taken_as_the_annotation_says(notebook, line, given, taken):
    made = notebook(parameters=line)
    value = made.typed({"x": given})["x"]
    assert (value, type(value)) == (taken, type(taken)) and made.digest({"x": value})


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("x: int | None = None", "many"),
        ("x: int | None = None", "0.5"),
        ("x: int | None = None", True),
        ("x: Optional[list] = None", "(1"),
        ("x: date = None", "2026-02-30"),
        ("x: date = '2026-01-01'", "tomorrow"),
        ("x: date = None", 20260101),
        ("x = 1", str(2**70)),
        ("x = 0.5", "1e999"),
        ("x = 0.5", "NaN"),
        ("x = None", float("nan")),
        ("x = None", "\udc00"),
        ("x = {}", "{1: 2}"),
        ("x = 1", "9" * 5000),
        ("x = []", "[" * 5000),
        ("x: Union[int, float] = 1", "'a'"),
    ],
)
def test_a_value_that_no_declared_type_has_is_refused(notebook, line, given):
    with pytest.raises(ConfigError, match="parameter 'x' is") as caught:
        notebook(parameters=line).typed({"x": given})
    assert "-p x=" in caught.value.hint


VALUES = [
    (), (1,), (1, 2), ((1, 2), [3]), [(1,)], {"a": (1, "b")}, ('a"b\\', None), (0.5, True), None, "é\n"
]  # fmt: skip


def test_papermill_writes_every_value_as_itself():
    program = (
        "from workbench import schemas; schemas.jsonschema()\n"
        "from workbench.notebooks import execution; execution._extend_papermill()\n"
        "from papermill.parameterize import translate_parameters as t\n"
        f"for v in {VALUES!r}: print(t('python3', 'python', {{'x': v}}, '').split(' = ', 1)[1], end='')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [ast.literal_eval(line) for line in done.stdout.splitlines()] == VALUES


@pytest.mark.parametrize("source", ["x = '\0'", "(" * 5_000, "x = (\n" + "1 +" * 3_000 + "]"])
def test_a_cell_that_python_cannot_parse_is_named_in_one_short_line(tmp_path, source):
    path = stored(tmp_path / "n.ipynb", code("a = 1", "parameters"), code(source))
    with pytest.raises(ConfigError, match=r"cell 2[,:]") as caught:
        inspection.read(path)
    assert len(caught.value.message) < 300 + len(str(path)) and "None" not in caught.value.message
