from __future__ import annotations

import datetime as dt
import os
import shutil
import threading

import orjson
import pytest

from workbench import files
from workbench.errors import (
    ConfigError,
    CorruptError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.jobs import publishing
from workbench.jobs.ledger import Slot
from workbench.jobs.publishing import PublishedManifest, publish, read, recover, staging_of, target_of

SLOT = Slot(job="answers", tenant="acme", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
OUTPUT = {"answers.parquet": b"rows", "quarantine/rows.jsonl": b"{}\n"}


def manifest(**changes):
    given = {
        "job": "answers", "version": 1, "tenant": "acme", "at": "2026-11-24T06:00:00Z", "run": "aa11",
        "use_case": "answers", "input_digest": "i" * 64, "task_digest": "t" * 64,
        "counts": {"rows": 20, "quarantined": 1}, "cost_usd": 0.02, "tokens": {"input": 10, "output": None},
        "verdict": "pass", "settings": {"prompt": "answer@1"},
    }  # fmt: skip
    return PublishedManifest(**{**given, **changes})


def write(folder, content):
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def target(tmp_path):
    return target_of(tmp_path, SLOT)


def staged(target, run="aa11", content=OUTPUT):
    return write(staging_of(target, run), content)


def held(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def dead(_run):
    return False


def test_a_slot_has_one_place_and_its_output_is_made_beside_it(tmp_path, target):
    assert target == tmp_path / "published" / "answers" / "acme" / "20261124T060000Z"
    everybody = Slot(job="answers", tenant="", at=SLOT.at)
    assert target_of(tmp_path, everybody).parent.name == "all"
    assert staging_of(target, "aa11").parent == target.parent


def test_what_is_published_is_the_staged_files_and_a_manifest_that_knows_their_digests(target):
    assert publish(staged(target), target, manifest()) == target
    assert names(target.parent) == [target.name]
    assert {**OUTPUT, "manifest.json": (target / "manifest.json").read_bytes()} == held(target)
    found = read(target)
    assert found.outputs == {name: files.digest(data) for name, data in OUTPUT.items()}
    assert found == manifest(outputs=found.outputs)


def test_the_same_output_published_twice_is_the_same_bytes(tmp_path, target):
    other = target_of(tmp_path / "other", SLOT)
    publish(staged(target), target, manifest())
    publish(staged(other), other, manifest())
    assert held(target) == held(other)


def test_another_output_is_refused_and_neither_the_old_nor_the_new_is_touched(target):
    publish(staged(target), target, manifest())
    before = held(target)
    new = staged(target, "bb22", {"answers.parquet": b"other"})
    with pytest.raises(RefusedError, match="is published already") as caught:
        publish(new, target, manifest(run="bb22"))
    assert "--replace" in caught.value.hint
    assert held(target) == before and (new / "answers.parquet").read_bytes() == b"other"


def test_told_to_replace_the_new_output_is_there_and_nothing_of_the_old(target):
    publish(staged(target), target, manifest())
    publish(staged(target, "bb22", {"new": b"n"}), target, manifest(run="bb22", version=2), replace=True)
    assert sorted(held(target)) == ["manifest.json", "new"] and read(target).version == 2
    assert names(target.parent) == [target.name]


def test_a_replacement_that_fails_half_way_puts_the_old_output_back(target, monkeypatch):
    publish(staged(target), target, manifest())
    before = held(target)
    new = staged(target, "bb22", {"new": b"n"})
    rename = type(new).rename

    def failing(self, to):
        if self == new:
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(type(new), "rename", failing)
    with pytest.raises(UnavailableError, match="Input/output error"):
        publish(new, target, manifest(run="bb22"), replace=True)
    assert held(target) == before and names(target.parent) == [new.name, target.name]


def test_every_file_and_folder_is_on_the_disk_before_the_rename(target, monkeypatch):
    new = staged(target)
    steps, fsync, rename = [], os.fsync, type(new).rename
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(os.fstat(fd).st_ino), fsync(fd))[1])
    monkeypatch.setattr(type(new), "rename", lambda self, to: (steps.append("rename"), rename(self, to))[1])
    publish(new, target, manifest())
    cut = steps.index("rename")
    everything = {path.stat().st_ino for path in (target, *target.rglob("*"))}
    assert everything <= set(steps[:cut])
    assert target.parent.stat().st_ino in steps[cut:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "answers.parquet").write_bytes(b"rowS"), r"answers\.parquet: it was changed"),
        (lambda at: (at / "answers.parquet").unlink(), r"answers\.parquet: it is missing"),
        (lambda at: write(at, {"quarantine/more": b"x"}), r"quarantine/more: it was not published"),
        (lambda at: (at / "link").symlink_to(at / "quarantine"), "link: it was not published"),
        (lambda at: (at / "manifest.json").unlink(), r"manifest\.json: it is missing"),
        (lambda at: (at / "manifest.json").write_bytes(b"[]"), "not a complete manifest"),
        (lambda at: (at / "manifest.json").write_bytes(b'{"job":'), "not a complete manifest"),
    ],
)
def test_a_changed_missing_or_foreign_file_is_named(target, change, said):
    publish(staged(target), target, manifest())
    change(target)
    with pytest.raises(CorruptError, match=said) as caught:
        read(target)
    assert "--replace" in caught.value.hint


def test_a_value_of_the_manifest_changed_by_hand_is_noticed(target):
    publish(staged(target), target, manifest())
    page = target / "manifest.json"
    page.write_bytes(page.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(CorruptError, match="it was changed after it was published"):
        read(target)


def test_a_manifest_of_a_later_format_or_with_an_unknown_key_is_refused(target):
    publish(staged(target), target, manifest())
    page = target / "manifest.json"
    body = orjson.loads(page.read_bytes())
    body.pop("sha256")
    for changed, error, said in (
        ({**body, "format": 2}, CorruptError, "format 2, this workbench reads format 1"),
        ({**body, "verdikt": "pass"}, ConfigError, r"unknown key 'verdikt' \(nearest: 'verdict'"),
    ):
        page.write_bytes(files.pretty({**changed, "sha256": files.digest(changed)}))
        with pytest.raises(error, match=said):
            read(target)


def test_a_damaged_output_can_be_replaced(target):
    publish(staged(target), target, manifest())
    (target / "manifest.json").unlink()
    publish(staged(target, "bb22"), target, manifest(run="bb22"), replace=True)
    assert read(target).run == "bb22"


def test_what_cannot_be_published_is_named(target, tmp_path):
    with pytest.raises(NotFoundError, match="there is no output"):
        publish(tmp_path / "none", target, manifest())
    with pytest.raises(RefusedError, match="has no file"):
        publish(staged(target, content={"manifest.json": b"{}"}), target, manifest())
    new = staged(target, "bb22")
    (new / "link").symlink_to("answers.parquet")
    with pytest.raises(RefusedError, match="link is neither a file nor a folder"):
        publish(new, target, manifest(run="bb22"))
    assert not target.exists()


def test_a_folder_that_was_moved_aside_comes_back_and_one_that_was_replaced_goes(target):
    publish(staged(target), target, manifest())
    before = held(target)
    aside = target.with_name(f".{target.name}.before-bb22")
    target.rename(aside)
    job = target.parents[1]
    assert recover(job, alive=dead) == [target]
    assert held(target) == before
    shutil.copytree(target, aside)
    assert recover(job, alive=dead) == [aside]
    assert held(target) == before and names(target.parent) == [target.name]
    assert recover(job, alive=dead) == []


def test_publishing_mends_first_so_that_an_output_moved_aside_still_counts(target):
    publish(staged(target), target, manifest())
    target.rename(target.with_name(f".{target.name}.before-bb22"))
    with pytest.raises(RefusedError, match="is published already"):
        publish(staged(target, "cc33"), target, manifest(run="cc33"))
    assert read(target).run == "aa11"


def test_only_what_dead_runs_were_making_is_removed(target):
    mine, theirs = staged(target, "aa11"), staged(target, "bb22")
    other = write(target.parent / ".notes", {"x": b"x"})
    assert recover(target.parents[1], alive="aa11".__eq__) == [theirs]
    assert mine.is_dir() and other.is_dir() and not theirs.exists()


def test_recovering_where_nothing_was_ever_published_creates_nothing(tmp_path):
    assert recover(tmp_path / "published" / "answers", alive=dead) == []
    assert not (tmp_path / "published").exists()


def test_many_replacing_recovering_and_reading_at_once_leave_one_whole_output(target):
    publish(staged(target, "r0"), target, manifest(run="r0"))
    wrong, done = [], threading.Event()

    def replace(n):
        for k in range(8):
            run = f"r{n}{k}"
            new = staged(target, run, {f"{run}.txt": run.encode() * 999})
            publish(new, target, manifest(run=run), replace=True)

    def watch(look):
        while not done.is_set():
            try:
                look()
            except WorkbenchError as error:
                wrong.append(error)

    looks = [lambda: read(target), lambda: recover(target.parents[1], alive="x".__ne__)]
    watchers = [threading.Thread(target=watch, args=(look,)) for look in looks]
    writers = [threading.Thread(target=replace, args=(n,)) for n in range(3)]
    for thread in (*watchers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in watchers:
        thread.join()
    assert not wrong
    run = read(target).run
    assert sorted(held(target)) == ["manifest.json", f"{run}.txt"] and names(target.parent) == [target.name]


def test_two_publishing_one_slot_at_once_have_one_winner(target):
    told = threading.Barrier(4)
    won, lost = [], []

    def one(run):
        new = staged(target, run, {"who": run.encode()})
        told.wait()
        try:
            publish(new, target, manifest(run=run))
            won.append(run)
        except RefusedError:
            lost.append(run)

    threads = [threading.Thread(target=one, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 3
    assert read(target).run == won[0] and (target / "who").read_bytes() == won[0].encode()


def test_a_reading_that_the_system_refuses_says_which_file(target, monkeypatch):
    publish(staged(target), target, manifest())

    def refused(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(publishing, "_digest", refused)
    with pytest.raises(UnavailableError, match=r"cannot read .*answers\.parquet: Permission denied"):
        read(target)
