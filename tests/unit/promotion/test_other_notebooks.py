"""Notebooks that papermill runs: how their cells read as Python, and what is refused by name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_notebook

from workbench import config
from workbench.errors import ConfigError
from workbench.notebooks import canonical, execution, inspection, screening

ROOT = Path(__file__).resolve().parents[3]


def written(path, *sources, parameters="n = 3", **metadata):
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[tagged, *map(new_code_cell, sources)], metadata=metadata)
    nbformat.write(notebook, path)
    return path


def call(kind, *texts):
    return f"get_ipython().{kind}({', '.join(map(repr, texts))})"


@pytest.mark.parametrize(
    ("source", "python"),
    [
        ("    total = n + 1\n    print(total)", "total = n + 1\nprint(total)"),
        ("\n\n  a = 1\n\n  b = 2\n", "a = 1\n\nb = 2"),
        ("\tif n:\n\t\tprint(n)", "if n:\n\tprint(n)"),
        (">>> a = n\n>>> for i in range(a):\n...     print(i)", "a = n\nfor i in range(a):\n    print(i)"),
        (">>> print('why?')", "print('why?')"),
        ("In [12]: a = n + 1\n    ...: b = 2", "a = n + 1\nb = 2"),
        ("In [3]: def f():\n   ...:     return 1\n   ...: f()", "def f():\n    return 1\nf()"),
        ("/print n", "print(n)"),
        (",print a b", 'print("a", "b")'),
        (";print a b", 'print("a b")'),
        ("pip install --quiet polars", call("run_line_magic", "pip", "install --quiet polars")),
        ("pip install 'polars!=1.0'", call("run_line_magic", "pip", "install 'polars!=1.0'")),
        ("cd ..", call("run_line_magic", "cd", "..")),
        ("  mkdir -p out/a", call("run_line_magic", "mkdir", "-p out/a")),
        ("conda install -y numpy", call("run_line_magic", "conda", "install -y numpy")),
        ("load_ext autoreload", call("run_line_magic", "load_ext", "autoreload")),
        (">>> %timeit n", call("run_line_magic", "timeit", "n")),
        ("  %matplotlib inline\n  n", call("run_line_magic", "matplotlib", "inline") + "\nn"),
        ("n?", call("run_line_magic", "pinfo", "n")),
        ("names = !ls", "names = " + call("getoutput", "ls")),
        ("    !echo {n}", call("system", "echo {n}")),
        ("%%bash\necho 1", call("run_cell_magic", "bash", "", "echo 1\n")),
        ("await f()\nasync with g() as h:\n    h", "await f()\nasync with g() as h:\n    h"),
    ],
)
def test_a_cell_reads_as_the_python_that_ipython_runs(tmp_path, source, python):
    notebook = inspection.read(written(tmp_path / "n.ipynb", source))
    assert ast.dump(ast.parse(inspection.plain(source))) == ast.dump(ast.parse(python))
    assert notebook.digest({})


@pytest.mark.parametrize(
    "source",
    [
        "x = (1",
        "pip install polars\nx = 1",  # IPython adds `%` only to the only line of a cell
        "# the packages\npip install polars",
        "sql select 1",
        "pip = install polars",
        "In [1]: x = (",
        ">>> def f(",
        "x = 1\n    y = 2",
        "print 'a'",
        "\x00",
        "(" * 5000 + ")" * 5000,
    ],
)
def test_a_cell_that_ipython_cannot_run_is_refused_by_its_number(tmp_path, source):
    with pytest.raises(ConfigError, match="cell 2") as caught:
        inspection.read(written(tmp_path / "n.ipynb", source))
    assert "make lab" in caught.value.hint


#: Signs of IPython inside of Python: IPython changes the first four only.
SIGNS = [
    'a = """\n  \n100 %"""',
    "In [1]: int\na = 3 % 2",
    "a = 1\n>>> b = 'why?'",
    "a = 'x?\x0c%y'",
    'a = """100\n%d\n!ls\n?n\nn?\n""" % 3',
    "a = [\n    7\n    % 2,\n]",
    "a = 7 \\\n    % 2\nb = a != 3",
    "a = 7  # why?\n# %magic\n#!ls\nb = f'{a!r:>{a}} %' % ()",
    "\n\na = '%s?' % 1\n\n",
    'if a:\n    b = """?"""\n    c = a % b\n',
    "a %= 2; b = 3 % a;",
]


@pytest.mark.parametrize("source", SIGNS)
def test_python_with_signs_of_ipython_reads_as_ipython_runs_it(source):
    run = TransformerManager().transform_cell(source)
    assert ast.dump(ast.parse(inspection.plain(source))) == ast.dump(ast.parse(run))


def test_python_with_signs_in_its_texts_is_read_without_importing_ipython():
    """It takes an eighth of a second of each command and stage that reads a notebook."""
    code = (
        "import sys; from workbench.notebooks import inspection; "
        f"[inspection.plain(source) for source in {SIGNS[4:]!r}]; assert 'IPython' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


PLAIN = [
    "import json\n\nrows = [1, 2]",
    "# a word\nprint(7 % 2, 'why?')",
    "@f\ndef g(case):\n    return not case",
]


def test_the_digest_of_plain_cells_is_a_known_answer(tmp_path):
    notebook = inspection.read(written(tmp_path / "n.ipynb", *PLAIN))
    known = "06baf67d167bfec54b65f854f6a27b3e85461a29229f42cc50ec0b0999759aed"
    assert notebook.digest({}) == known


def test_the_shipped_notebook_is_the_task_that_was_judged():
    case = config.use_case(config.load_params(ROOT), "answers")
    notebook = inspection.read(ROOT / case.notebook)
    judged = json.loads((ROOT / "results" / "answers" / "gate.json").read_text())["task_digest"]
    assert notebook.digest(notebook.typed(case.parameters)) == judged


def test_a_prompt_or_an_indentation_is_no_part_of_the_task(tmp_path):
    sources = ["a = n\nb = 2", "    a = n\n    b = 2", ">>> a = n\n>>> b = 2", "In [1]: a = n\n   ...: b = 2"]
    digests = {inspection.read(written(tmp_path / "n.ipynb", source)).digest({}) for source in sources}
    assert len(digests) == 1


def test_a_magic_without_a_percent_sign_is_screened_as_one_with_it(tmp_path):
    found = screening.screen(
        inspection.read(written(tmp_path / "n.ipynb", "pip install x", "sx ls", ">>> import socket")),
        lock=b"",
    )
    assert [(finding.where, finding.what.split(",")[0]) for finding in found] == [
        ("cell 2, line 1", "the magic `%pip`"),
        ("cell 3, line 1", "the magic `%sx`"),
        ("cell 4, line 1", "imports `socket`"),
    ]


def python_kernel(name, **more):
    return {"kernelspec": {"display_name": name, "name": name, **more}}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        python_kernel("python3", language="python"),
        python_kernel("my-env", language="Python"),
        python_kernel("conda-env-x-py"),
        python_kernel("xpython", language="python"),
        {"language_info": {"name": "ipython"}},
        {"language_info": {"name": "python", "version": "3.13.1"}},
        {"kernelspec": None},
    ],
)
def test_a_python_kernel_is_stored_as_the_one_that_every_jupyter_has(metadata):
    stored = canonical.canonical({"cells": [], "metadata": metadata})["metadata"]
    assert stored["kernelspec"]["name"] == "python3" and stored["language_info"] == {"name": "python"}


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        (python_kernel("ir", language="R"), "R"),
        (python_kernel("julia-1.11", language="julia"), "julia"),
        (python_kernel("bash", language="bash"), "bash"),
        (python_kernel("deno", language="typescript"), "typescript"),
        (python_kernel("scala", language="scala") | {"language_info": {"name": "scala"}}, "scala"),
        ({"language_info": {"name": "sql", "version": "1"}}, "sql"),
    ],
)
def test_a_kernel_of_another_language_is_stored_and_refused_by_name(tmp_path, metadata, language):
    path = written(tmp_path / "n.ipynb", **metadata)
    stored = canonical.canonical(canonical.read(path))["metadata"]
    assert {key: stored.get(key) for key in metadata} == metadata
    with pytest.raises(ConfigError, match=f"is for {language}"):
        inspection.read(path)


def raw(tmp_path, cell, **metadata):
    """Write a notebook as JSON with escapes, as tools do that cut a text in the middle of a character."""
    tagged = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "n = 3"}
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [tagged, cell], "metadata": metadata, "nbformat": 4}))
    return path


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("cell", "metadata", "where"),
    [
        ({"source": f"s = 'x {HALF}'"}, {}, "cell 2"),
        ({"source": ["a\n", f"{HALF} = 1"]}, {}, "cell 2"),
        ({"source": "\udc00\ud83d"}, {}, "cell 2"),
        ({"source": "a", "metadata": {"tags": [HALF]}}, {}, "cell 2"),
        ({"source": "a", "metadata": {"note": {HALF: 1}}}, {}, "cell 2"),
        ({"source": "a", "id": HALF}, {}, "cell 2"),
        ({"source": f"cut {HALF}", "cell_type": "markdown"}, {}, "cell 2"),
        ({"source": HALF, "cell_type": "raw"}, {}, "cell 2"),
        ({"source": "a", "attachments": {HALF: {}}, "cell_type": "markdown"}, {}, "cell 2"),
        ({"source": "a"}, {"title": HALF}, "its metadata"),
    ],
)
def test_half_a_character_is_one_clear_error_with_its_cell(tmp_path, cell, metadata, where):
    path = raw(tmp_path, {"cell_type": "code", "metadata": {}, **cell}, **metadata)
    with pytest.raises(ConfigError, match=rf"{where} contains \\ud[8c]") as caught:
        canonical.read(path)
    str(caught.value).encode()


@pytest.mark.parametrize("source", ["'\U0001f600'", r"'\ud83d'", r"'\\ud83d'", r"r'\uDC00'"])
def test_whole_characters_and_written_escapes_are_read(tmp_path, source):
    path = raw(tmp_path, {"cell_type": "code", "metadata": {}, "source": source})
    assert canonical.read(path)["cells"][1]["source"] == source and inspection.read(path).digest({})


def test_half_a_character_in_an_output_is_left_to_the_output(tmp_path):
    output = {"output_type": "stream", "name": "stdout", "text": HALF}
    path = raw(tmp_path, {"cell_type": "code", "metadata": {}, "source": "a", "outputs": [output]})
    assert canonical.as_text(canonical.read(path)).encode()


def test_null_for_tags_is_no_tags(tmp_path):
    path = raw(tmp_path, {"cell_type": "code", "metadata": {"tags": None}, "source": "n"})
    assert inspection.read(path).cells[1] == (2, "n", frozenset())
    assert "tags" not in canonical.canonical(canonical.read(path))["cells"][1]["metadata"]
    copy = execution._readable(path, tmp_path / "copy.ipynb")
    assert copy != path and "null" not in json.dumps(canonical.read(copy)["cells"])
    assert execution._readable(copy, tmp_path / "other.ipynb") == copy


@pytest.mark.parametrize("tags", [0, False, "", {}, [None], [["a"]]])
def test_other_values_for_tags_are_refused(tmp_path, tags):
    with pytest.raises(ConfigError, match="tags"):
        canonical.read(raw(tmp_path, {"cell_type": "code", "metadata": {"tags": tags}, "source": "n"}))
