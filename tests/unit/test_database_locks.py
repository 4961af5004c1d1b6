"""Several connections of one process to one SQLite file keep the locks that protect its log."""

import contextlib
import os
import subprocess
import sys

import pytest

from workbench.errors import ConfigError
from workbench.sqlite_file import connect, prepare

TABLES = "CREATE TABLE numbers (n INTEGER) STRICT;"
#: Opens the file, writes, and closes it: the last connection of a file removes its log.
ANOTHER = """
import sys
from pathlib import Path
from workbench.sqlite_file import connect
db = connect(Path(sys.argv[1]))
db.execute("INSERT INTO numbers VALUES (1)")
db.close()
"""


def test_a_connection_that_opens_and_closes_beside_another_leaves_it_its_log(tmp_path):
    path = tmp_path / "numbers.sqlite"
    with contextlib.closing(connect(path)) as first:
        prepare(first, path, TABLES, schema=1)
        first.execute("INSERT INTO numbers VALUES (0)")
        connect(path).close()
        subprocess.run([sys.executable, "-c", ANOTHER, path], check=True)
        assert path.with_name(f"{path.name}-wal").exists(), "the log was removed under an open connection"
        first.execute("INSERT INTO numbers VALUES (2)")
        assert first.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with contextlib.closing(connect(path)) as again:
        assert again.execute("SELECT n FROM numbers ORDER BY n").fetchall() == [(0,), (1,), (2,)]


def test_a_new_file_is_its_owner_s_alone_and_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "there.sqlite")
    for name in ("new.sqlite", "link.sqlite"):
        with contextlib.closing(connect(tmp_path / name)) as db:
            prepare(db, tmp_path / name, TABLES, schema=1)
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    os.mkfifo(tmp_path / "pipe.sqlite")
    (tmp_path / "folder.sqlite").mkdir()
    for name, said in (("pipe.sqlite", "not a regular file"), ("folder.sqlite", "directory")):
        with pytest.raises(ConfigError, match=said):
            connect(tmp_path / name)
