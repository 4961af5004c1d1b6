"""Malformed inputs, from a grammar of faults and files: each is one error with its place and a command."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time

import pytest
from made_jobs import a_spec
from small_use_case import NOTEBOOK, small_repository

from workbench import config, files, registry, retrieval
from workbench.diagnostics.check import check_all
from workbench.errors import WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.inputs import read
from workbench.experiments.runs import load_runs
from workbench.jobs import publishing
from workbench.jobs import spec as jobspec
from workbench.memory import tombstones
from workbench.memory.cipher import IdCipher
from workbench.memory.snapshot import read_manifest
from workbench.models.catalogue import read_card
from workbench.notebooks import inspection
from workbench.prompts import prompt
from workbench.records.tape import Tape
from workbench.retrieval.spec import read_spec

pytestmark = pytest.mark.timeout(60)
KEY = IdCipher(key=b"k" * 64)


def version(path):
    return registry.Version(kind="any", name=path.parent.name, number=1, path=path, digest="d")


#: Files of YAML, or that begin with YAML, and how each is read.
YAML = {
    "params.yaml": lambda path: config.load_params(path.parent),
    "pipelines/prompts/brief/asset.yaml": lambda path: registry.load(path.parents[3], "prompt", "brief"),
    "pipelines/memories/small/1.yaml": lambda path: read_spec(version(path)),
    "pipelines/models/smollm2-135m/1.yaml": lambda path: read_card(version(path)),
    "pipelines/jobs/answers/1/job.yaml": jobspec.read,
    "pipelines/prompts/brief/1.prompty": lambda path: prompt.read(version(path)),
    "data/small/acme/taxi.md": retrieval.load,
}
#: Files of JSON or of its lines, and how each is read.
JSON = {
    NOTEBOOK: inspection.read,
    "data/small/questions.jsonl": Dataset.from_file,
    "pipelines/tapes/small.jsonl": Tape.read,
    "results/small/runs/runs.json": lambda path: load_runs(path.parent),
    "results/small/memory/manifest.json": lambda path: read_manifest(path.parent),
    "published/answers/manifest.json": publishing._manifest,
    ".workbench/state/forgotten.jsonl": lambda path: tombstones.TombstoneLog(path).marks(KEY),
}


def bomb(form):
    return "\n".join(
        ["a0: &a0 {x: 1}"]
        + [f"a{n}: &a{n} " + form.format(", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 10)]
    )


#: Lines of YAML that no file may hold.
LINES = {
    "deep lists": "a: " + "[" * 10_000 + "]" * 10_000,
    "deep mappings": "a: " + "{a: " * 10_000 + "}" * 10_000,
    "deep blocks": "a:\n" + "\n".join(" " * n + "a:" for n in range(1, 900)),
    "an alias bomb": bomb("[{}]"),
    "a merge bomb": bomb("{{<<: [{}]}}"),
    "an alias of itself": "a: &a [*a]",
    "an unknown alias": "a: *a",
    "5,000 digits": "a: " + "9" * 5_000,
    "a day that is none": "a: 2025-02-30",
    "no number": "a: .nan",
    "infinity": "a: -.inf",
    "half a pair": 'a: "\\ud83d"',
    "a key twice": "a: 1\na: 2",
    "a tag of Python": "a: !!python/name:os.system",
    "a null character": "a: \0",
    "a tab": "a:\n\tb: 1",
    "an open quote": 'a: "x',
    "a conflict": "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other",
    "an unknown key": "zzz: 1",
}
#: Contents that are no file of ours.
CONTENTS = {
    "bytes that are not text": b"\xff\xfe\x00a\n",
    "a list": b"- 1\n",
    "a number": b"7\n",
    "a title": b"# Title\n",
    "HTML": b"<!doctype html><p>not found\n",
    "a conflict": b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
}
#: Contents that are no JSON of ours.
OBJECTS = {
    "deep lists": b"[" * 100_000 + b"\n",
    "deep objects": b'{"a": ' * 100_000 + b"}" * 100_000 + b"\n",
    "no number": b'{"key": NaN}\n',
    "5,000 digits": b'{"key": ' + b"9" * 5_000 + b"}\n",
    "half a pair": b'{"key": "\\ud83d"}\n',
    "an unknown key": b'{"zzz": 1}\n',
    "null": b"null\n",
    "a text": b'"x"\n',
    "an open object": b'{"a": 1,\n',
    "a byte order mark of UTF-16": '{"a": 1}\n'.encode("utf-16"),
}
#: What is no regular file.
PLACES = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = small_repository(tmp_path_factory.mktemp("small"))
    page = root / "pipelines/jobs/answers/1/job.yaml"
    page.parent.mkdir(parents=True)
    page.write_bytes(a_spec().text())
    return root


def refused(path, reader):
    """The error for a file; it must name the file and a next command, and cost next to nothing."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WorkbenchError) as caught:
        reader(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.process_time() - started < 3, "2 s on a machine that does nothing else"
    assert grown < 200 << 10, "200 MB, in kB"
    assert path.name in caught.value.message and caught.value.hint.strip()
    assert len(caught.value.message) < 600
    return caught.value


def written(tmp_path, name, data=None):
    """The path of a file with these bytes, or of none."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("fault", LINES)
@pytest.mark.parametrize("name", YAML)
def test_a_line_that_is_malformed(small, tmp_path, name, fault):
    text = (small / name).read_text()
    head, text = ("---\n", text[4:]) if text.startswith("---\n") else ("", text)
    path = written(tmp_path, name, f"{head}{LINES[fault]}\n{text}".encode())
    refused(path, YAML[name])


@pytest.mark.parametrize("fault", [*CONTENTS, *PLACES])
@pytest.mark.parametrize("name", [*YAML, *JSON])
def test_a_file_that_is_another(tmp_path, name, fault):
    path = written(tmp_path, name, CONTENTS.get(fault))
    if fault in PLACES:
        PLACES[fault](path)
    refused(path, {**YAML, **JSON}[name])


@pytest.mark.parametrize("fault", OBJECTS)
@pytest.mark.parametrize("name", JSON)
def test_an_object_that_is_malformed(tmp_path, name, fault):
    refused(written(tmp_path, name, OBJECTS[fault]), JSON[name])


@pytest.mark.parametrize("fault", OBJECTS)
def test_a_row_of_a_job_that_is_malformed_is_set_aside_with_its_text(tmp_path, fault):
    path = tmp_path / "rows.jsonl"
    line = OBJECTS[fault].rstrip(b"\n")
    path.write_bytes(line + b"\n" + json.dumps({"id": "a"}).encode() + b"\n")
    if fault == "a byte order mark of UTF-16":
        refused(path, read)
        return
    odd, plain = read(path)
    assert plain.columns == {"id": "a"} and plain.fault == plain.text == ""
    assert odd.text == line.decode() if odd.fault else odd.columns == {"zzz": 1}


def test_check_names_the_same_faults(small, tmp_path):
    name = "data/small/acme/taxi.md"
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    for fault in ("deep lists", "an alias bomb", "a day that is none", "half a pair"):
        line = LINES[fault]
        text = (small / name).read_text()
        path = written(tmp_path, name, f"---\n{line}\n{text[4:]}".encode())
        found = check_all(tmp_path)
        assert not found.passed and str(path) in str(found), fault


def test_the_unchanged_files_are_read(small, tmp_path):
    for name, reader in YAML.items():
        data = (small / name).read_bytes()
        reader(written(tmp_path, name, data))
        if name.endswith((".yaml", ".md")):  # a byte order mark, as editors of Windows write it
            reader(written(tmp_path, name, b"\xef\xbb\xbf" + data))
    for name in (NOTEBOOK, "data/small/questions.jsonl"):
        JSON[name](written(tmp_path, name, b"\xef\xbb\xbf" + (small / name).read_bytes()))
    assert files.read_yaml(tmp_path / "params.yaml")["use_cases"].keys() == {"small"}
