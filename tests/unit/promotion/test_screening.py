"""What keeps a notebook from being frozen, and where it is said to be; the patterns are in test_patterns."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import ConfigError
from workbench.notebooks import inspection, screening

ROOT = Path(__file__).resolve().parents[3]
LOCK = b"""\
aiohttp==3.14.5 \\
    --hash=sha256:065665c041c42a5938ed220bdcd7230f22527fbec085e1853d2402c8a3615d9d
    # via
    #   -r pyproject.toml
numpy==2.4.1 ; python_version >= '3.11'
ruamel-yaml==0.19.1
Jinja2[i18n]==3.1.6
"""


@pytest.fixture
def screened(tmp_path):
    """Findings of a notebook with these code cells, after one of parameters."""

    def screen(*cells, parameters="inputs = ''", lock=LOCK, executed=None):
        tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        codes = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        nbformat.write(new_notebook(cells=[tagged, *codes]), tmp_path / "n.ipynb")
        return screening.screen(inspection.read(tmp_path / "n.ipynb"), lock=lock, executed=executed)

    return screen


@pytest.fixture
def executed(tmp_path):
    """The findings of an executed copy whose one cell, of a source that is frozen, has these outputs."""

    def screen(*outputs, source="rows"):
        cell = new_code_cell("rows", outputs=list(outputs))
        cell.source = source
        nbformat.write(new_notebook(cells=[cell]), tmp_path / "executed.ipynb")
        frozen = inspection.Notebook(path=tmp_path, parameters={}, cells=((1, "rows", frozenset()),))
        return screening.screen(frozen, lock=b"", executed=tmp_path / "executed.ipynb")

    return screen


def explored(source):
    return new_code_cell(source, metadata={"tags": ["explore"]})


def test_a_matrix_product_is_no_address_and_an_address_beside_one_is_found(screened):
    assert screened("a = b = c = 1\nd = (a@b.real\n    @c.imag)") == []
    assert [one.where for one in screened("a = b = 1\na@b.real\n'ada@engines.org'")] == ["cell 2, line 3"]


def test_cells_that_explore_are_not_frozen_and_not_looked_at(screened):
    assert screened(explored("import requests\nemail = 'ada@engines.org'\n!ls /Users/ada")) == []


def test_the_parameters_cell_is_frozen_too(screened):
    found = screened("x = 1", parameters="inputs = '/Users/ada/in.parquet'")
    assert [(one.where, one.what) for one in found] == [("cell 1, line 1", "a path of one machine")]


def test_findings_come_in_the_order_of_cells_and_lines(screened):
    found = screened("import requests\n\nx = '/tmp/x'\nimport socket", "y = 'ada@engines.org'")
    assert [one.where for one in found] == [
        "cell 2, line 1",
        "cell 2, line 3",
        "cell 2, line 4",
        "cell 3, line 1",
    ]


@pytest.mark.parametrize(
    ("code", "module", "way"),
    [
        ("import openai", "openai", "ws.openai()"),
        ("from openai import OpenAI\ndef f(client: OpenAI): ...", "openai", "ws.openai()"),
        ("import anthropic as a", "anthropic", "ws.model()"),
        ("import google.generativeai as genai", "google.generativeai", "ws.model()"),
        ("from google import genai", "google.genai", "ws.model()"),
        ("import weaviate.classes", "weaviate", "ws.memory()"),
        ("import requests, json", "requests", "ws.model()"),
        ("from urllib import request", "urllib.request", "ws.model()"),
        ("from urllib.request import urlopen", "urllib.request", "ws.model()"),
        ("from http.client import HTTPConnection", "http.client", "ws.model()"),
        ("def f():\n    import socket", "socket", "ws.model()"),
        ("from workbench.records import egress", "workbench.records.egress", "ws.model()"),
        ("import workbench.models.openai", "workbench.models", "ws.model()"),
        ("__import__('httpx')", "httpx", "ws.model()"),
        ("import importlib\nimportlib.import_module('boto3.session')", "boto3", "ws.model()"),
        ("from importlib import import_module as load\nload('ollama')", "ollama", "ws.model()"),
        ("from subprocess import run", "subprocess", "starts no other program"),
        ("from os import system", "os.system", "starts no other program"),
    ],
)
def test_an_import_that_leads_around_the_boundary_is_found_with_the_way_through(screened, code, module, way):
    (found,) = screened(code)
    assert found.what == f"imports `{module}`, a way around the boundary"
    assert way in found.fix and found.fix.endswith("or tag the cell `explore`")


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("import os\nos.system('ls')", 2, "`os.system`"),
        ("import os as o\nrun = o.popen", 2, "`os.popen`"),
        ("import os\n\nos.execvp('ls', [])", 3, "`os.execvp`"),
        ("import os\nos.posix_spawn('ls', [], {})", 2, "`os.posix_spawn`"),
        ("import asyncio\nawait asyncio.create_subprocess_exec('ls')", 2, "`asyncio.create_subprocess_exec`"),
        ("import asyncio\nawait asyncio.open_connection('h', 1)", 2, "`asyncio.open_connection`"),
        ("x = 1\n!ls", 2, "a shell line"),
        ("\n\nx = !ls", 3, "a shell line"),
        ("get_ipython().system(f'{x}')", 1, "a shell line"),
        ("%pip install x", 1, "the magic `%pip`"),
        ("x = 1\n%sx ls", 2, "the magic `%sx`"),
        ("%%bash\nls", 1, "the magic `%bash`"),
        ("%%script perl\n1;", 1, "the magic `%script`"),
        ("%run other.py", 1, "the magic `%run`"),
        ("%%time\n\nimport requests", 3, "imports `requests`"),
        ("\n%%capture out\nx = 1\n%time import requests", 4, "imports `requests`"),
        ("x = 1\n%timeit -n 1 1 +\n!ls", 3, "a shell line"),
        ("import numpy as pl\npl.read_csv('https://example.org/x.csv')", 2, "`read_csv` of an address"),
        ("df.sink_parquet('s3://bucket/x')", 1, "`sink_parquet` of an address"),
    ],
)
def test_a_program_a_magic_or_an_address_is_found_in_its_line(screened, code, line, said):
    (found,) = screened(code)
    assert found.where == f"cell 2, line {line}"
    assert found.what.startswith(said) and found.fix


@pytest.mark.parametrize(
    "code",
    [
        "import os, json, pathlib, urllib.parse, http, asyncio\nos.environ.get('X'); os.path.join('a')",
        "import workbench as wb\nws = wb.connect('answers')\nws.openai(); ws.model(); ws.memory('m')",
        "%time x = 1\n%matplotlib inline\nx = 7 % 2",
        "import numpy as np\nfrom ruamel.yaml import YAML\nimport jinja2",
        "df.read_csv('data/x.csv'); df.write_csv('file:///x'); open_system = 1; shop.system('x')",
        "def system(): ...\nsystem()",
    ],
)
def test_plain_work_is_no_finding(screened, code):
    assert screened(code) == []


def test_an_import_that_is_not_in_the_lock_is_named_with_its_distribution(screened):
    found = screened("import numpy, yaml_that_is_not_there\nfrom orjson import dumps")
    assert [(one.where, one.what) for one in found] == [
        ("cell 2, line 1", "imports `yaml_that_is_not_there`, which no installed distribution brings"),
        ("cell 2, line 2", "imports `orjson` of orjson, which is not in the lock"),
    ]
    assert all("make lock" in one.fix for one in found)
    assert screened("from orjson import dumps", lock=b"OrJSON == 3.11.0\n") == []
    (comment,) = screened("from orjson import dumps", lock=b"# via orjson==3\n    # orjson==3\n")
    assert "not in the lock" in comment.what


def test_the_notebook_that_ships_can_be_frozen():
    notebook = inspection.read(ROOT / "notebooks" / "answers.ipynb")
    lock = (ROOT / "locks" / "workbench.lock").read_bytes()
    assert screening.screen(notebook, lock=lock) == []


ADDRESS = "ada@engines.org"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (new_output("stream", name="stdout", text=f"rows: 3\r50%\nsent to {ADDRESS}\n"), 3),
        (new_output("execute_result", data={"text/plain": f"'{ADDRESS}'"}), 1),
        (new_output("display_data", data={"text/html": "<b>x</b>\n<td>ada&#64;engines.org</td>"}), 2),
        (new_output("display_data", data={"application/json": {"to": [ADDRESS, 1]}}), 1),
        (new_output("stream", name="stderr", text=f"\x1b[31m{ADDRESS}\x1b[0m"), 1),
        (new_output("error", ename="E", evalue=ADDRESS, traceback=["a", "b"]), 1),
    ],
)
def test_every_form_of_an_output_is_read(executed, output, line):
    assert [(one.where, one.what) for one in executed(output)] == [
        (f"executed copy, cell 1, output 1, line {line}", "an e-mail address")
    ]


def test_a_value_shown_twice_in_one_output_is_found_once_and_in_two_outputs_twice(executed):
    both = new_output("execute_result", data={"text/plain": f"\n{ADDRESS}", "text/html": ADDRESS})
    stream = new_output("stream", name="stdout", text=ADDRESS)
    found = executed(both, stream)
    assert [one.where.split(", ")[2] for one in found] == ["output 1", "output 2"]
    assert found[0].fix.startswith("print less in this cell")
    assert not any(ADDRESS in str(one) for one in found)


def test_a_picture_is_not_read(executed):
    assert (
        executed(new_output("display_data", data={"image/svg+xml": ADDRESS, "text/plain": "<Figure>"})) == []
    )


def test_what_papermill_wrote_into_the_copy_is_read_and_frozen_sources_are_not_read_twice(executed):
    found = executed(source="# Parameters\npassword = 'hunter2'\ninputs = '/mnt/in'")
    assert [(one.where, one.what) for one in found] == [
        ("executed copy, cell 1, line 2", "a password, key or token written out"),
        ("executed copy, cell 1, line 3", "a path of one machine"),
    ]


def test_notes_of_the_executed_copy_are_read_too(screened, tmp_path):
    copy = tmp_path / "copy.ipynb"
    cells = [new_markdown_cell(f"# Ask\n{ADDRESS}"), new_code_cell(f"'{ADDRESS}'")]
    nbformat.write(new_notebook(cells=cells), copy)
    assert [one.where for one in screened(f"'{ADDRESS}'", executed=copy)] == [
        "cell 2, line 1",
        "executed copy, cell 1, line 2",
    ]


def test_a_copy_that_is_no_notebook_is_one_clear_error(screened, tmp_path):
    (tmp_path / "copy.ipynb").write_text("{")
    with pytest.raises(ConfigError, match="not a notebook"):
        screened("x = 1", executed=tmp_path / "copy.ipynb")


def test_every_line_that_is_looked_at_is_a_line_of_the_cell():
    source = "\n\n%%capture\nx = a@b.real\n\n%time y = a@b.real\n"
    nodes = list(screening._nodes(source))
    products = {line for line, node in nodes if isinstance(node, ast.BinOp)}
    assert products == {4, 6}
    assert "@" not in "".join(screening._lines(source, nodes))


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("x = 1\n%pip install duckdb", [2]),
        ("!pip install -q duckdb", [1]),
        ("x = 1\n\n!python -m pip install duckdb\n!uv add duckdb", [3, 4]),
        ("found = !uv pip sync other.lock", [1]),
        ("%%bash\npip3 install duckdb", [1]),
        ("%conda install duckdb", [1]),
        ("!pip list\n%pip show duckdb\n!ls /opt/pip\npip = 'install'", []),
    ],
)
def test_a_cell_that_installs_packages_is_named_when_it_only_explores_too(tmp_path, source, lines):
    first = new_code_cell("inputs = ''", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[first, explored(source)]), tmp_path / "n.ipynb")
    found = screening.installs(inspection.read(tmp_path / "n.ipynb"))
    assert [finding.where for finding in found] == [f"cell 2, line {line}" for line in lines]
    assert all("make lock" in finding.fix for finding in found)
