"""What a killed writer of statements leaves is seen by no reader, and removed by the next writer."""

from __future__ import annotations

import threading

import pytest
from signed_statements import key_of, statement_of

from workbench import files, locking
from workbench.attestations import folder
from workbench.errors import CorruptError


@pytest.fixture
def envelope():
    return key_of("ada", 1).sign(statement_of(verdict="pass"))


def left_by_a_killed_writer(root, *, version=1):
    """What `files.write_atomic` leaves when its process is killed before the rename."""
    path = files.aside_of(root / folder.path_of("answers", version, "approval-1"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'{"payload": "aGFsZi')
    return path


def test_no_reader_sees_it(tmp_path, envelope):
    stored = folder.store(tmp_path, "answers", 1, "sbom", envelope)
    left_by_a_killed_writer(tmp_path)
    assert [name for name, _ in folder.stored(tmp_path, "answers", 1)] == ["sbom"]
    assert folder.paths_in(tmp_path / folder.folder_of("answers", 1)) == [stored]


@pytest.mark.parametrize("version", [1, 2])
def test_the_next_writer_of_the_job_removes_it(tmp_path, envelope, version):
    left = left_by_a_killed_writer(tmp_path)
    written = folder.store(tmp_path, "answers", version, "sbom", envelope)
    assert not left.exists() and written.is_file()
    folder.store(tmp_path, "answers", version, "approval-1", envelope)


def test_the_file_of_a_writer_that_lives_stays(tmp_path, envelope):
    """Writers share the lock of the job's folder while they write; who removes has it alone."""
    left = left_by_a_killed_writer(tmp_path)
    with locking.locked(tmp_path / folder.EVIDENCE / "answers", shared=True):
        folder.store(tmp_path, "answers", 2, "sbom", envelope)
        assert left.exists()
    folder.remove_leftovers(tmp_path, "answers")
    assert not left.exists()


def test_writers_at_once_lose_nothing(tmp_path, envelope):
    names = [f"s{number}" for number in range(24)]
    writers = [
        threading.Thread(target=folder.store, args=(tmp_path, "answers", 1, name, envelope)) for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(name for name, _ in folder.stored(tmp_path, "answers", 1)) == sorted(names)


@pytest.mark.parametrize("name", [".hidden", ".sbom.dsse.json", "sbom.dsse.json.0123abcd", ".a.0123abcg"])
def test_a_name_that_no_writer_gives_is_still_refused(tmp_path, envelope, name):
    folder.store(tmp_path, "answers", 1, "sbom", envelope)
    (tmp_path / folder.folder_of("answers", 1) / name).write_bytes(envelope.to_bytes())
    with pytest.raises(CorruptError, match="does not belong"):
        list(folder.stored(tmp_path, "answers", 1))
