"""The stored form of a notebook: everything an author wrote, nothing that running it leaves."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import outputs, stored


def code(source, *, id="c1", **metadata):  # noqa: A002
    return {
        "cell_type": "code",
        "id": id,
        "source": source,
        "metadata": metadata,
        "outputs": [],
        "execution_count": None,
    }


def notebook(*cells, **metadata):
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def used(clean):
    """What a run in papermill and a look in the Lab leave in a notebook."""
    nb = copy.deepcopy(clean)
    nb["metadata"] |= {
        "papermill": {"duration": 1.5, "start_time": "2026-01-01"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"a": 1}}},
        "kernelspec": {"display_name": "my env", "language": "python", "name": "my-env"},
        "language_info": {"name": "python", "version": "3.13.1", "mimetype": "text/x-python"},
    }
    for n, cell in enumerate(nb["cells"]):
        cell["metadata"] |= {
            "papermill": {"status": "completed"},
            "execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"},
            "trusted": True,
            "collapsed": False,
            "scrolled": "auto",
            "jupyter": {**cell["metadata"].get("jupyter", {}), "outputs_hidden": True},
        }
        if cell["cell_type"] == "code":
            cell["execution_count"] = n + 7
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    nb["cells"].append(code("  \n", id="left-by-shift-enter"))
    return nb


CELL = '{"cells": [{"cell_type": "code", "metadata": %s, "source": %s}], "metadata": {}, "nbformat": 4}'
CLEAN = notebook(
    {"cell_type": "markdown", "id": "t", "metadata": {}, "source": "# Title\ntext é"},
    code("k = 5", id="p", tags=["parameters"]),
    code("print(k)\nk + 1", id="x", tags=["explore"], jupyter={"source_hidden": True}),
)


def test_running_and_looking_change_nothing():
    assert notebooks.as_text(used(CLEAN)) == notebooks.as_text(CLEAN)


def test_what_the_author_wrote_is_kept():
    kept = notebooks.canonical(used(CLEAN))
    assert [c["source"] for c in kept["cells"]] == [c["source"] for c in CLEAN["cells"]]
    assert [c["id"] for c in kept["cells"]] == ["t", "p", "x"]
    assert kept["cells"][2]["metadata"] == {"tags": ["explore"], "jupyter": {"source_hidden": True}}
    mine = notebooks.canonical(notebook(code("1"), my_note={"a": 1}))
    assert mine["metadata"]["my_note"] == {"a": 1}


def test_the_given_notebook_is_not_changed():
    nb = used(CLEAN)
    before = copy.deepcopy(nb)
    notebooks.canonical(nb)
    assert nb == before


def test_an_edit_is_seen():
    edited = copy.deepcopy(CLEAN)
    edited["cells"][1]["source"] = "k = 6"
    assert notebooks.as_text(edited) != notebooks.as_text(CLEAN)


def test_stored_as_jupyter_writes_it(tmp_path):
    text = notebooks.as_text(used(CLEAN))
    nbformat.validate(json.loads(text))
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.reads(text, as_version=4), path)
    assert path.read_text(encoding="utf-8") == text
    assert text.startswith('{\n "cells": [\n  {\n') and text.endswith("}\n") and "é" in text


def test_cells_without_ids_get_the_same_ids_every_time():
    old = notebook(code("a"), code("b"), code("b"))
    for cell in old["cells"]:
        del cell["id"]
    old["nbformat_minor"] = 2
    first, second = notebooks.canonical(old), notebooks.canonical(copy.deepcopy(old))
    assert first == second
    assert len({cell["id"] for cell in first["cells"]}) == 3
    nbformat.validate(first)


def test_a_repeated_id_is_replaced():
    assert len({c["id"] for c in notebooks.canonical(notebook(code("a"), code("b")))["cells"]}) == 2


sources = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
cells = st.builds(
    lambda source, kind, tags: (
        code(source, tags=tags)
        if kind == "code"
        else {"cell_type": kind, "id": "c1", "metadata": {}, "source": source}
    ),
    sources,
    st.sampled_from(["code", "markdown", "raw"]),
    st.lists(st.sampled_from(["parameters", "explore"]), max_size=2, unique=True),
)


@given(st.lists(cells, max_size=5))
def test_canonical_is_a_fixed_point_through_the_file(many):
    text = notebooks.as_text(notebook(*many))
    assert notebooks.as_text(json.loads(text)) == text
    assert notebooks.as_text(used(json.loads(text))) == text


def test_the_check_names_what_is_stored_otherwise_and_can_repair_it(tmp_path, capsys):
    good, bad = tmp_path / "good.ipynb", tmp_path / "deep" / "bad.ipynb"
    bad.parent.mkdir()
    good.write_text(notebooks.as_text(CLEAN), encoding="utf-8")
    bad.write_text(json.dumps(used(CLEAN)), encoding="utf-8")
    checkpoint = tmp_path / ".ipynb_checkpoints" / "good-checkpoint.ipynb"
    checkpoint.parent.mkdir()
    checkpoint.write_text(json.dumps(used(CLEAN)))
    assert stored.main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert str(bad) in said and str(good) not in said and "--write" in said
    assert stored.main(["--write", str(tmp_path)]) == 0
    assert bad.read_text(encoding="utf-8") == good.read_text(encoding="utf-8")
    assert stored.main([str(tmp_path)]) == 0


def test_storing_a_notebook_canonically_keeps_its_outputs_in_a_repository(tmp_path):
    (tmp_path / "params.yaml").touch()
    path = tmp_path / "notebooks" / "n.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(used(CLEAN)))
    assert stored.main(["--write", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == notebooks.as_text(CLEAN)
    shown = outputs.kept_of(tmp_path, path).shown(notebooks.read(path))
    assert [c.get("outputs") for c in shown["cells"]] == [c.get("outputs") for c in used(CLEAN)["cells"][:3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "n.ipynb:1 is not a notebook"),
        ("[]", "`cells`"),
        ('{"cells": [], "metadata": {}, "nbformat": 3}', "format 3"),
        (
            '{"cells": [{"cell_type": "raw", "source": ""}], "metadata": {}, "nbformat": 4}',
            "cell 1 has no metad",
        ),
        ("[" * 100_000, "nested too deep"),
        ('{"cells": 3, "metadata": {}, "nbformat": 4}', "`cells` must be a list"),
        ('{"cells": ["a"], "metadata": {}, "nbformat": 4}', "cell 1 is not a mapping"),
        (CELL % ("{}", "7"), "source that is not text"),
        (CELL % ("[]", '"a"'), "malformed metadata"),
        (CELL % ('{"tags": "explore"}', '"a"'), "tags that are not a list"),
    ],
)
def test_what_is_no_notebook_is_one_clear_error(tmp_path, text, says):
    path = tmp_path / "n.ipynb"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        notebooks.read(path)
