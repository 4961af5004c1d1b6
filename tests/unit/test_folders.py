from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from workbench.errors import UnavailableError
from workbench.files import folders


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("old")
    return tmp_path / "kept"


def made(folder, text="new"):
    new = folder.with_name(f".kept.{text}")
    new.mkdir()
    (new / "file").write_text(text)
    return new


def names(folder):
    return sorted(path.name for path in folder.parent.iterdir())


def killed(folder, monkeypatch, steps):
    """Replace the folder, and end as a killed process does after that many renames and removals."""
    done, rename, rmtree = [], Path.rename, shutil.rmtree

    def step(real):
        def act(*args, **kwargs):
            if len(done) >= steps:
                done.append("dead")
                raise Killed
            done.append(real.__name__)
            return real(*args, **kwargs)

        return act

    new = made(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", step(rename))
        patch.setattr(shutil, "rmtree", step(rmtree))
        with pytest.raises(Killed):
            folders.replace(new, folder)


@pytest.mark.parametrize(("steps", "text"), [(0, "old"), (1, "old"), (2, "new"), (3, "new")])
def test_a_replacement_killed_after_any_step_is_repaired_to_one_whole_folder(
    folder, monkeypatch, steps, text
):
    killed(folder, monkeypatch, steps)
    assert (folder in folders.interrupted(folder.parent)) is (steps > 0)
    assert bool(folders.repair(folder)) is (steps > 0)
    assert (folder / "file").read_text() == text and folders.repair(folder) == []
    assert names(folder) == ([".kept.new", "kept"] if text == "old" else ["kept"])


def test_a_half_removed_folder_never_comes_back(folder, monkeypatch):
    killed(folder, monkeypatch, 3)
    shutil.rmtree(folder)
    assert len(folders.repair(folder)) == 1 and names(folder) == []


def test_the_next_replacement_repairs_the_interrupted_one_first(folder, monkeypatch):
    killed(folder, monkeypatch, 1)
    folders.replace(made(folder, "newer"), folder)
    assert (folder / "file").read_text() == "newer" and names(folder) == [".kept.new", "kept"]


def test_a_removal_that_the_system_refuses_does_not_stop_a_reader(folder, monkeypatch):
    killed(folder, monkeypatch, 2)

    def refused(self, target):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        assert folders.repair(folder) == [] and folders.interrupted(folder.parent) == [folder]
    assert len(folders.repair(folder)) == 1 and names(folder) == ["kept"]


def test_a_failed_rename_is_undone(folder, monkeypatch):
    new, rename = made(folder), Path.rename

    def failing(self, target):
        if self == new:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        folders.replace(new, folder)
    assert (folder / "file").read_text() == "old" and names(folder) == [".kept.new", "kept"]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_its_target_stays(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    folders.replace(made(folder), tmp_path / "link")
    assert (tmp_path / "link" / "file").read_text() == "new" and not (tmp_path / "link").is_symlink()
    assert (folder / "file").read_text() == "old" and names(folder) == ["kept", "link"]


def write(folder, *, full):
    with folders.written(folder) as new:
        (new / "file").write_text("new")
        if full:
            raise OSError(28, os.strerror(28))


def test_a_folder_is_written_whole_or_not_at_all(folder):
    with pytest.raises(UnavailableError, match=r"cannot write .*kept: No space"):
        write(folder, full=True)
    assert (folder / "file").read_text() == "old" and names(folder) == ["kept"]
    write(folder, full=False)
    assert (folder / "file").read_text() == "new" and names(folder) == ["kept"]


def test_what_a_killed_process_left_at_the_same_path_is_removed_first(folder):
    with folders.written(folder, new=made(folder, "fixed")) as new:
        assert list(new.iterdir()) == []
    assert list(folder.iterdir()) == [] and names(folder) == ["kept"]


def test_a_folder_of_any_depth_and_of_any_mode_is_removed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "dark").mkdir()
    (folder / "dark" / "file").write_text("x")
    (folder / "dark" / "below").mkdir()
    for name in ("dark/below", "dark"):
        (folder / name).chmod(0o100)
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(2_000):
            Path("d").mkdir()
            os.chdir("d")
        with pytest.raises(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.chdir(here)
    folders.remove(folder)
    assert not folder.exists() and (tmp_path / "elsewhere" / "kept").exists()


@pytest.mark.parametrize("name", ["missing", "file", "link"])
def test_what_is_no_folder_is_not_removed(tmp_path, name):
    (tmp_path / "file").write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    folders.remove(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "target"}
