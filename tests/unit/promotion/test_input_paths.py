"""The path of a clean run's input is not the notebook's own, however its folder is called."""

from __future__ import annotations

import html
import json
import urllib.parse

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from workbench.notebooks import inspection, screening
from workbench.promotion import freezing

#: Somebody's home, put together because no file of the repository may name one.
HOME = "/" + "home/ada"
FOLDERS = [
    "plain", "jürgen", "Zoë's notes", "my documents", 'a "quoted" name', "o'neil \"x\"", "安全", "\U0001f600",
    "e\u0301", "back\\slash", "100%", "{braces}", "[1] & <2>", "a+b", "tab\there", "$HOME", "ÄÖÜ ß",
]  # fmt: skip
PRINTED = [
    str,
    repr,
    lambda path: f"read {path}: 3 rows",
    lambda path: f"PosixPath({path!r})",
    lambda path: json.dumps({"path": path}),
    lambda path: json.dumps({"path": path}, ensure_ascii=False),
]


def executed(path, inputs, *outputs):
    """Write the executed copy of a run on `inputs`, with the parameters as papermill writes them."""
    escaped = inputs.encode("unicode_escape").decode().replace('"', r"\"")
    cells = [
        new_code_cell("inputs = ''", metadata={"tags": ["parameters"]}),
        new_code_cell(f'# Parameters\ninputs = "{escaped}"\n', metadata={"tags": ["injected-parameters"]}),
        new_code_cell("inputs", outputs=list(outputs)),
    ]
    nbformat.write(
        new_notebook(cells=cells, metadata={"papermill": {"parameters": {"inputs": inputs}}}), path
    )
    return path


def found_in(path):
    return screening.screen(inspection.read(path), lock=b"", executed=path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_input_of_a_clean_run_is_no_path_of_one_machine(tmp_path, folder):
    inputs = f"{HOME}/{folder}/jobs/sample.jsonl"
    outputs = [new_output("stream", name="stdout", text=form(inputs)) for form in PRINTED]
    outputs.append(new_output("display_data", data={"text/html": f"<b>{html.escape(inputs)}</b>"}))
    outputs.append(new_output("display_data", data={"text/plain": f"file://{urllib.parse.quote(inputs)}"}))
    copy = executed(tmp_path / "copy.ipynb", inputs, *outputs)
    assert found_in(copy), "unless the path is shortened, it is found"
    freezing._forget_input(copy, inputs)
    assert [str(finding) for finding in found_in(copy)] == []
    assert inspection.read(copy).cells[1][1] == '# Parameters\ninputs = "sample.jsonl"\n'


@pytest.mark.parametrize("folder", ["plain", "jürgen", "my documents"])
def test_an_input_behind_a_link_is_no_path_of_one_machine(tmp_path, folder):
    real, link = tmp_path / folder, tmp_path / "link"
    real.mkdir()
    (real / "sample.jsonl").touch()
    link.symlink_to(real, target_is_directory=True)
    given, resolved = str(link / "sample.jsonl"), str((real / "sample.jsonl").resolve())
    copy = executed(tmp_path / "copy.ipynb", given, new_output("stream", name="stdout", text=resolved))
    freezing._forget_input(copy, given)
    assert str(tmp_path) not in copy.read_text() and "sample.jsonl" in copy.read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_another_path_beside_the_input_is_still_found(tmp_path, folder):
    inputs = f"{HOME}/{folder}/sample.jsonl"
    other = new_output("stream", name="stdout", text=f"{inputs}\n{HOME}/secret.csv")
    copy = executed(tmp_path / "copy.ipynb", inputs, other)
    freezing._forget_input(copy, inputs)
    assert [finding.what for finding in found_in(copy)] == ["a path of one machine"]
