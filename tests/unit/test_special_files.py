"""What is no regular file is refused at once wherever a file is read: a pipe, a device, a folder, a loop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_use_case import NOTEBOOK, small_repository

from workbench import config, files, registry, retrieval
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.inputs import read
from workbench.experiments.runs import load_runs
from workbench.jobs import publishing, slots
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.memory import tombstones
from workbench.memory.cipher import IdCipher, load_cipher
from workbench.memory.snapshot import read_manifest
from workbench.memory.sqlite.database import Database
from workbench.models import weights
from workbench.notebooks import canonical, inspection
from workbench.promotion import requirements
from workbench.records import egress
from workbench.records.journal import Journal
from workbench.records.log import Lines, read_records
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock

pytestmark = pytest.mark.timeout(20)
KEY = IdCipher(key=b"k" * 64)

READERS = {
    "params.yaml": lambda path: config.load_params(path.parent),
    "tape.jsonl": Tape.read,
    "journal.jsonl": lambda path: Journal(path).get("k"),
    "journal, before a question is asked": lambda path: Journal(path).open(),
    "calls.jsonl": read_records,
    "calls.jsonl, written": lambda path: Lines(path).append(b"{}"),
    "n.ipynb": inspection.read,
    "stored.ipynb": canonical.read,
    "cases.jsonl": Dataset.from_file,
    "cases.parquet": Dataset.from_file,
    "inputs.jsonl": read,
    "inputs.parquet": read,
    "input of a job": slots.bytes_of,
    "asset.yaml": files.read_yaml,
    "runs.json": lambda path: load_runs(path.parent),
    "manifest.json": lambda path: read_manifest(path.parent),
    "memory.db": Database,
    "jobs.db": lambda path: SqliteLedger(path, clock=FakeClock()).history(),
    "memory.key": lambda path: load_cipher(path, environment={}),
    "forgotten.jsonl": lambda path: tombstones.TombstoneLog(path).marks(KEY),
    "connections.jsonl": egress.reported,
    "page.md": lambda path: retrieval.load(path.parent.parent),
    "published": publishing._digest,
    "frozen with a job": requirements.read_bytes,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path, name):
    path = tmp_path / "acme" / name
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file") as caught:
        READERS[name](path)
    assert str(path) in caught.value.message and caught.value.hint


def test_the_note_of_known_digests_is_no_pipe(tmp_path):
    (tmp_path / "weights").write_bytes(b"w")
    os.mkfifo(tmp_path / "digests.json")
    with pytest.raises(ConfigError, match="not a regular file"):
        weights._digest(tmp_path / "weights", tmp_path / "digests.json")


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (Path.mkdir, "Is a directory"),
        (loop, "symbolic links"),
    ],
)
def test_what_is_no_file_is_named_with_what_it_is(tmp_path, make, said):
    path = tmp_path / "params.yaml"
    make(path)
    with pytest.raises(ConfigError, match=said) as caught:
        files.read_text(path)
    assert caught.value.hint


def test_a_file_that_is_too_large_is_refused_and_not_read(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)  # a sparse file
    with pytest.raises(ConfigError, match="larger than 1000 bytes"):
        files.read_bytes(path, limit=1000)
    os.truncate(path, 1000)
    assert len(files.read_bytes(path, limit=1000)) == 1000


DECLARED = (
    "params.yaml",
    NOTEBOOK,
    "data/small/questions.jsonl",
    "pipelines/jobs/stages.yaml",
    "pipelines/memories/small/1.yaml",
    "pipelines/memories/small/asset.yaml",
    "pipelines/models/smollm2-135m/1.yaml",
    "pipelines/prompts/brief/1.prompty",
    "pipelines/prompts/brief/asset.yaml",
    "pipelines/tapes/small.jsonl",
)


@pytest.mark.parametrize("name", DECLARED)
def test_check_names_the_declared_file_that_is_a_pipe(tmp_path, name):
    root = small_repository(tmp_path)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    try:
        found = str(check_all(config.find_root(root)))
    except WorkbenchError as error:
        found = str(error)
    assert "all is well" not in found and name in found


def test_a_page_that_is_a_pipe_is_not_left_out(tmp_path):
    root = small_repository(tmp_path)
    os.mkfifo(root / "data/small/acme/pipe.md")
    with pytest.raises(ConfigError, match=r"pipe\.md: not a regular file"):
        retrieval.load("data/small", root=root)
    assert registry.names(root, "memory") == ["small"]


@pytest.mark.parametrize("name", ["a\0b", "\0", "half \ud83d", "a/\0/b"])
@pytest.mark.parametrize(
    "read", [files.read_text, files.read_bytes, files.read_yaml, files.until_changed(files.read_text)]
)
def test_a_path_that_no_file_can_have_is_one_error(tmp_path, name, read):
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path / name)
