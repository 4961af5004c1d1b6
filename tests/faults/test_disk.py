"""A full and a read-only disk, real ones: a small tmpfs in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import asyncio, os, sys
from pathlib import Path
from workbench import files
from workbench.records import tape
from workbench.records.journal import Journal
from workbench.errors import UnavailableError, WorkbenchError
from workbench.memory.sqlite.store import SQLiteStore
from workbench.records.log import Lines
from workbench.testing.memory_items import make_item, make_query

disk = Path(sys.argv[1])

def refused(work):
    try:
        work()
    except WorkbenchError as error:
        assert error.hint, error
        return error.message
    raise SystemExit("nothing was refused")
"""
FULL = """
old = disk / "tape.jsonl"
files.write_atomic(old, b"old")
log = Lines(disk / "calls.jsonl")
log.append(b'{"n":1}')
store = SQLiteStore(disk / "memory.sqlite", name="m")
asyncio.run(store.tenant("acme").add([make_item("taxi")]))
filler = disk / "filler"
descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(descriptor, bytes(512))
except OSError:
    os.close(descriptor)
assert "No space left" in refused(lambda: files.write_atomic(old, bytes(20000)))
assert old.read_bytes() == b"old"
assert "No space left" in refused(lambda: [log.append(b"x" * 9000) for _ in range(3)])
assert log.path.read_bytes() == b'{"n":1}\\n'
refused(lambda: asyncio.run(store.tenant("acme").add([make_item("x" * 60000, source="big")])))
filler.unlink()
assert asyncio.run(store.tenant("acme").count()) == 1
log.append(b'{"n":2}')
assert files.write_atomic(old, b"new")
assert sorted(p.name for p in disk.iterdir() if p.name.startswith(".")) == []
"""
READ_ONLY = """
files.write_atomic(disk / "tape.jsonl", b"old")
path = disk / "a #1?%20" / "memory.sqlite"
store = SQLiteStore(path, name="m")
asyncio.run(store.tenant("acme").add([make_item("taxi")]))
store.close()
assert os.system(f"mount -o remount,ro {disk}") == 0
assert "Read-only" in refused(lambda: files.write_atomic(disk / "tape.jsonl", b"new"))
assert "Read-only" in refused(lambda: Journal(disk / "deep" / "answers.jsonl").open())
assert (disk / "tape.jsonl").read_bytes() == b"old"
acme = SQLiteStore(path, name="m").tenant("acme")
assert asyncio.run(acme.count()) == 1
assert [hit.text for hit in asyncio.run(acme.search(make_query("taxi")))] == ["taxi"]
assert "read-only" in refused(lambda: asyncio.run(acme.add([make_item("ship", source="s")])))
assert asyncio.run(acme.count()) == 1
assert "Read-only" in refused(lambda: SQLiteStore(disk / "none" / "memory.sqlite", name="m"))
"""


@pytest.mark.parametrize(("size", "script"), [("256k", FULL), ("256k", READ_ONLY)], ids=["full", "read-only"])
def test_a_disk_that_takes_no_more_loses_nothing(tmp_path, size, script):
    mount = f'mount -t tmpfs -o size={size} tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path)]
    done = subprocess.run(
        [*command, sys.executable, "-c", PRELUDE + script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
