"""What the Lab saves: the stored form is clean, and every output is shown again."""

from __future__ import annotations

import asyncio
import copy
import errno
import json
import warnings
from pathlib import Path

import pytest
from tornado.web import HTTPError

from workbench import files
from workbench.layout import LAB_OUTPUTS
from workbench.notebooks import canonical as notebooks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from workbench.notebooks import lab


def code(name, source, text=None, **metadata):
    shown = [] if text is None else [{"output_type": "stream", "name": "stdout", "text": text}]
    return {
        "cell_type": "code",
        "id": name,
        "source": source,
        "metadata": metadata,
        "outputs": shown,
        "execution_count": None if text is None else 7,
    }


def notebook(*cells, **metadata):
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


CHART = {
    "output_type": "display_data",
    "data": {"text/html": "<script>draw()</script>", "image/png": "iVBORw0KGgo="},
    "metadata": {"needs_background": "light"},
}
RUN = notebook(
    {"cell_type": "markdown", "id": "t", "metadata": {"collapsed": True}, "source": "# Title"},
    code("a", "k = 5", "five\n", scrolled=True, jupyter={"outputs_hidden": True}),
    {**code("b", "plot(k)"), "outputs": [CHART], "execution_count": 8},
    widgets={"application/vnd.jupyter.widget-state+json": {"state": {"w": {}}}},
)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    for name in ("notebooks", "pipelines", "elsewhere"):
        (tmp_path / "repo" / name).mkdir(parents=True)
    return manager_of(tmp_path, monkeypatch)


def manager_of(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # the trash
    return lab.NotebookManager(root_dir=str(tmp_path / "repo"), repository=str(tmp_path / "repo"))


def run(coroutine):
    return asyncio.run(coroutine)


def save(manager, path, content):
    return run(manager.save({"type": "notebook", "format": "json", "content": copy.deepcopy(content)}, path))


def shown(manager, path):
    """What a person sees on opening: the outputs of each cell by its id."""
    cells = run(manager.get(path))["content"]["cells"]
    return {cell["id"]: cell["outputs"] for cell in cells if cell["cell_type"] == "code"}


def file_of(manager, path):
    return Path(manager.root_dir, path)


def last_of(manager, path):
    return Path(manager.repository, LAB_OUTPUTS, path, "last.ipynb")


def stored(manager, path):
    return file_of(manager, path).read_text(encoding="utf-8")


OUTPUTS = {cell["id"]: cell["outputs"] for cell in RUN["cells"] if cell["cell_type"] == "code"}


@pytest.mark.parametrize("path", ["notebooks/n.ipynb", "pipelines/deep/n.ipynb"])
def test_the_stored_form_is_clean_and_opening_shows_all_that_was_saved(manager, tmp_path, monkeypatch, path):
    file_of(manager, path).parent.mkdir(exist_ok=True)
    save(manager, path, RUN)
    assert stored(manager, path) == notebooks.as_text(RUN)
    model = run(manager_of(tmp_path, monkeypatch).get(path))  # another process
    cells = model["content"]["cells"]
    for cell, before in zip(cells, RUN["cells"], strict=True):
        assert {k: v for k, v in cell["metadata"].items() if k != "trusted"} == before["metadata"]
        assert cell.get("outputs") == before.get("outputs")
        assert cell.get("execution_count") == before.get("execution_count")
    assert model["content"]["metadata"]["widgets"] == RUN["metadata"]["widgets"]


@pytest.mark.parametrize("path", ["elsewhere/n.ipynb", "n.ipynb"])
def test_a_notebook_elsewhere_is_saved_as_it_is(manager, path):
    save(manager, path, RUN)
    on_disk = json.loads(stored(manager, path))
    assert [cell.get("outputs") for cell in on_disk["cells"][1:]] != [[], []]
    assert on_disk["metadata"]["widgets"] == RUN["metadata"]["widgets"]
    assert not Path(manager.repository, LAB_OUTPUTS).exists()


def test_a_link_out_of_the_folder_leads_to_a_notebook_that_is_saved_as_it_is(manager):
    file_of(manager, "notebooks/n.ipynb").symlink_to(file_of(manager, "elsewhere/n.ipynb"))
    save(manager, "elsewhere/n.ipynb", RUN)
    save(manager, "notebooks/n.ipynb", RUN)
    assert '"five\\n"' in stored(manager, "elsewhere/n.ipynb")


def test_outputs_that_a_file_brings_along_are_shown_and_kept_when_it_is_saved(manager):
    path = "notebooks/n.ipynb"
    file_of(manager, path).write_text(notebooks.text_of(RUN))
    assert shown(manager, path) == OUTPUTS
    save(manager, path, run(manager.get(path))["content"])
    assert stored(manager, path) == notebooks.as_text(RUN)
    assert shown(manager, path) == OUTPUTS


def test_an_output_is_shown_for_an_unchanged_cell_only_and_returns_with_it(manager):
    path = "notebooks/n.ipynb"
    save(manager, path, RUN)
    first = stored(manager, path)
    file_of(manager, path).write_text(first.replace("k = 5", "k = 6"))  # git switch
    assert shown(manager, path) == {"a": [], "b": [CHART]}
    other = run(manager.get(path))["content"]
    other["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "six\n"}]
    save(manager, path, other)
    file_of(manager, path).write_text(first)  # and back
    assert shown(manager, path) == OUTPUTS


def test_what_a_person_cleared_stays_cleared(manager):
    path = "notebooks/n.ipynb"
    save(manager, path, RUN)
    save(manager, path, notebooks.canonical(RUN))
    assert shown(manager, path) == {"a": [], "b": []}


def test_cells_without_ids_are_matched_by_the_ids_they_get(manager):
    path = "notebooks/n.ipynb"
    old = copy.deepcopy(RUN) | {"nbformat_minor": 4}
    for cell in old["cells"]:
        del cell["id"]
    save(manager, path, old)
    assert list(shown(manager, path).values()) == list(OUTPUTS.values())


def test_another_tab_is_told_that_outputs_changed_and_the_own_one_is_not(manager):
    path = "notebooks/n.ipynb"
    save(manager, path, notebooks.canonical(RUN))

    def hash_of():
        return run(manager.get(path, content=False, require_hash=True))["hash"]

    before, bytes_before = hash_of(), stored(manager, path)
    assert hash_of() == before == run(manager.get(path, require_hash=True))["hash"]
    save(manager, path, RUN)
    assert stored(manager, path) == bytes_before
    assert hash_of() != before


def test_only_outputs_made_here_are_trusted(manager):
    path = "notebooks/n.ipynb"
    mine = copy.deepcopy(RUN)
    for cell in mine["cells"]:
        cell["metadata"]["trusted"] = True
    save(manager, path, mine)
    assert [c["metadata"].get("trusted") for c in run(manager.get(path))["content"]["cells"][1:]] == [
        True,
        True,
    ]
    last = last_of(manager, path)
    last.write_text(last.read_text().replace("draw()", "steal()"))
    assert run(manager.get(path))["content"]["cells"][2]["metadata"]["trusted"] is False
    foreign = json.loads(json.dumps(RUN).replace("draw()", "read()"))
    save(manager, "notebooks/foreign.ipynb", foreign)
    assert run(manager.get("notebooks/foreign.ipynb"))["content"]["cells"][2]["metadata"]["trusted"] is False


@pytest.mark.parametrize("torn", [b"{", b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"cells": [7]}'])
def test_a_torn_copy_is_ignored_with_a_line_in_the_log(manager, caplog, torn):
    path = "notebooks/n.ipynb"
    save(manager, path, RUN)
    last = last_of(manager, path)
    last.write_bytes(torn)
    assert shown(manager, path) == {"a": [], "b": []}
    assert "ignored" in caplog.text and str(last) in caplog.text
    save(manager, path, RUN)
    assert shown(manager, path) == OUTPUTS


def test_when_outputs_cannot_be_kept_the_save_fails_and_the_file_is_unchanged(manager, monkeypatch):
    path = "notebooks/n.ipynb"
    save(manager, path, RUN)
    before = stored(manager, path)

    def full(path, data):
        with files.writing(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    edited = copy.deepcopy(RUN)
    edited["cells"][1]["source"] = "k = 6"
    with pytest.raises(HTTPError, match="No space left") as refused:
        save(manager, path, edited)
    assert refused.value.status_code == 507 and "free some space" in str(refused.value)
    assert stored(manager, path) == before
    assert shown(manager, path) == OUTPUTS


def test_a_restored_checkpoint_has_the_outputs_of_its_time(manager):
    path = "notebooks/n.ipynb"
    save(manager, path, RUN)
    made = run(manager.create_checkpoint(path))
    edited = copy.deepcopy(RUN)
    edited["cells"][1] = code("a", "k = 6", "six\n")
    save(manager, path, edited)
    save(manager, path, notebooks.canonical(edited))
    run(manager.restore_checkpoint(made["id"], path))
    assert stored(manager, path) == notebooks.as_text(RUN)
    assert shown(manager, path) == OUTPUTS


def test_outputs_follow_a_notebook_that_is_renamed_copied_or_moved(manager):
    save(manager, "notebooks/n.ipynb", RUN)
    run(manager.rename("notebooks/n.ipynb", "notebooks/m.ipynb"))
    assert shown(manager, "notebooks/m.ipynb") == OUTPUTS
    made = run(manager.copy("notebooks/m.ipynb"))
    assert shown(manager, made["path"]) == OUTPUTS
    assert stored(manager, made["path"]) == stored(manager, "notebooks/m.ipynb")
    run(manager.rename("notebooks/m.ipynb", "elsewhere/m.ipynb"))
    assert '"five\\n"' in stored(manager, "elsewhere/m.ipynb")
    assert shown(manager, "elsewhere/m.ipynb") == OUTPUTS
    run(manager.rename("elsewhere/m.ipynb", "notebooks/back.ipynb"))
    save(manager, "notebooks/back.ipynb", run(manager.get("notebooks/back.ipynb"))["content"])
    assert stored(manager, "notebooks/back.ipynb") == notebooks.as_text(RUN)
    assert shown(manager, "notebooks/back.ipynb") == OUTPUTS


def test_outputs_follow_a_folder_of_notebooks(manager):
    file_of(manager, "notebooks/deep").mkdir()
    save(manager, "notebooks/deep/n.ipynb", RUN)
    run(manager.rename("notebooks/deep", "notebooks/moved"))
    assert shown(manager, "notebooks/moved/n.ipynb") == OUTPUTS
    made = run(manager.copy("notebooks/moved", "pipelines"))
    assert shown(manager, f"{made['path']}/n.ipynb") == OUTPUTS
    run(manager.rename("notebooks/moved", "elsewhere/moved"))
    assert shown(manager, "elsewhere/moved/n.ipynb") == OUTPUTS


def test_a_new_notebook_does_not_show_the_outputs_of_a_deleted_one(manager, tmp_path):
    save(manager, "notebooks/n.ipynb", RUN)
    run(manager.delete("notebooks/n.ipynb"))
    assert not (tmp_path / "repo" / LAB_OUTPUTS / "notebooks" / "n.ipynb").exists()
    save(manager, "notebooks/n.ipynb", notebooks.canonical(RUN))
    assert shown(manager, "notebooks/n.ipynb") == {"a": [], "b": []}


def test_saves_at_the_same_time_leave_one_whole_notebook(manager):
    path = "notebooks/n.ipynb"
    versions = [notebook(code("a", f"k = {n}", f"{n}\n")) for n in range(8)]

    async def all_at_once():
        models = [{"type": "notebook", "format": "json", "content": version} for version in versions]
        await asyncio.gather(*(manager.save(model, path) for model in models))

    run(all_at_once())
    cell = run(manager.get(path))["content"]["cells"][0]
    assert cell["outputs"][0]["text"] == f"{cell['source'].removeprefix('k = ')}\n"


def test_other_files_are_saved_as_jupyter_saves_them(manager):
    run(manager.save({"type": "file", "format": "text", "content": "text"}, "notebooks/n.txt"))
    assert stored(manager, "notebooks/n.txt") == "text"
    assert run(manager.get("notebooks"))["type"] == "directory"


VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.mark.parametrize("kept", [True, False], ids=["state kept", "state gone"])
def test_the_view_of_a_widget_is_shown_where_its_state_is_kept(manager, kept):
    """Else the Lab would show "model not found" in place of the table that the same output holds as HTML."""
    cell = code("a", "result", "the table")
    view = {"model_id": "m1", "version_major": 2, "version_minor": 0}
    cell["outputs"][0] = {
        "output_type": "display_data", "metadata": {}, "data": {VIEW: view, "text/html": "<table></table>"},
    }  # fmt: skip
    widgets = {"widgets": {STATE: {"state": {"m1": {}} if kept else {}}}}
    save(manager, "notebooks/a.ipynb", notebook(cell, **widgets))
    assert "widget" not in stored(manager, "notebooks/a.ipynb")
    (output,) = shown(manager, "notebooks/a.ipynb")["a"]
    assert (VIEW in output["data"]) == kept and "text/html" in output["data"]


def test_the_start_page_is_written_when_it_is_read_and_a_file_of_its_name_takes_its_place(manager, tmp_path):
    pages = iter(["# first", "# second"])
    manager.start_page = lambda folder: f"{next(pages)} {folder.name}"
    first, second = (run(manager.get("START.md")) for _ in range(2))
    assert first["content"] == "# first repo" and not first["writable"]
    assert second["content"].startswith("# second") and first["hash"] != second["hash"]
    assert run(manager.file_exists("START.md")) and run(manager.list_checkpoints("START.md")) == []
    (tmp_path / "repo" / "START.md").write_text("mine", encoding="utf-8")
    assert run(manager.get("START.md"))["content"] == "mine" and run(manager.get("START.md"))["writable"]
