from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_jobs import a_spec, frozen
from made_repositories import git, saved

from workbench import files
from workbench.config import Limits, Timing
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec, Parameter

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x85"))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
LITERALS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
#: Another value of each field, and whether it makes another version.
OTHERWISE = {
    "format": (2, True),
    "job": ("others", True),
    "version": (7, False),
    "use_case": ("triage", True),
    "phase": ("mlvp", True),
    "notebook": ("notebooks/other.ipynb", True),
    "commit": ("e" * 40, False),
    "code": ({"workbench": "e" * 40}, True),
    "task_digest": ("u" * 64, True),
    "gate_digest": ("h" * 64, True),
    "dataset_digest": ("e", True),
    "run": ("s" * 12, False),
    "pins": ({"prompt": "answer@3"}, True),
    "digests": ({"prompt": "other"}, True),
    "parameters": ({"k": Parameter(type="int", value=4)}, True),
    "sample": ("sample.parquet", True),
    "sample_outputs": ({"answers.acme.parquet": "x"}, True),
    "limits": (Limits(seconds=61), True),
    "files": ({"task.ipynb": "x"}, True),
    "arm": ({"temperature": 0.6}, True),
    "schedule": (Timing(cron="0 7 * * *"), True),
    "input": (None, True),
}


@pytest.fixture
def page(tmp_path):
    def read(spec):
        path = tmp_path / "job.yaml"
        path.write_bytes(spec if isinstance(spec, bytes) else spec.text())
        return jobspec.read(path)

    return read


@settings(max_examples=40)
@given(value=LITERALS, name=TEXTS)
def test_a_page_reads_back_as_it_was_written_whatever_parameters_hold(tmp_path_factory, value, name):
    spec = a_spec(parameters={name: Parameter(type="Any", value=value)}, arm={name: value})
    path = tmp_path_factory.mktemp("page") / "job.yaml"
    path.write_bytes(spec.text())
    assert jobspec.read(path) == spec and jobspec.read(path).text() == spec.text()


def test_what_is_not_there_is_left_out_and_read_as_none(page):
    spec = a_spec(schedule=None, input=None)
    assert b"schedule" not in spec.text() and page(spec) == spec


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("sample:", "sampel:", r"job\.yaml: unknown key 'sampel' \(nearest: 'sample'"),
        ("  seconds:", "  secs:", r"unknown key 'limits\.secs' \(nearest: 'seconds'"),
        ("use_case: answers\n", "", "missing key 'use_case'"),
        ("version: 1", "version: one", "version: input should be a valid integer"),
        ("format: 1", "format: 2", r"job\.yaml has format 2, this workbench reads 1"),
        ("format: 1\n", "", "has format None"),
    ],
)
def test_a_page_that_is_not_ours_is_one_clear_error(page, before, after, said):
    text = a_spec().text().decode()
    assert text.count(before) == 1
    with pytest.raises(ConfigError, match=said):
        page(text.replace(before, after).encode())


def test_every_field_is_content_but_number_commit_and_run():
    assert OTHERWISE.keys() == {one.name for one in dataclasses.fields(JobSpec)}
    base = a_spec()
    for name, (value, counts) in OTHERWISE.items():
        other = dataclasses.replace(base, **{name: value})
        assert other != base
        assert (other.content() != base.content()) is counts, name


def test_evidence_and_how_long_answers_took_are_no_content_and_every_other_file_is():
    def content(**given):
        return a_spec(
            files={"task.ipynb": "a", "tape.jsonl": "b", "evidence/gate.json": "c", **given}
        ).content()

    same = [content(**{"tape.jsonl": "x"}), content(**{"evidence/gate.json": "x", "evidence/run/new": "y"})]
    assert set(same) == {content()}
    different = [{"task.ipynb": "x"}, {"prompts/answer/2.prompty": "x"}, {"evidence.json": "x"}]
    assert content() not in {content(**given) for given in different}
    slower = dataclasses.replace(a_spec(), digests={**a_spec().digests, "tape": "other"})
    assert slower.content() == a_spec().content()


def test_a_tuple_is_the_same_content_as_the_list_it_is_read_back_as(page):
    spec = a_spec(parameters={"ks": Parameter(type="tuple", value=(1, 2))})
    assert page(spec).content() == spec.content()


# -- the folder


@pytest.fixture
def repo(tmp_repo):
    saved(tmp_repo, workbench__code="1")
    return tmp_repo


@pytest.fixture
def folder(repo):
    frozen(repo)
    return repo / "pipelines/jobs/answers/1"


def frozen_files():
    return ["prompts/answer/2.prompty", "sample.jsonl", "tape.jsonl", "task.ipynb"]


def test_a_whole_version_is_loaded_with_its_folder(repo, folder):
    spec, place = jobspec.load(repo, "answers", 1)
    assert place == folder and spec.reference == "answers@1" and spec.values() == {"k": 3}
    assert sorted(spec.files) == frozen_files() == sorted(jobspec.digests(folder))


@pytest.mark.parametrize("damage", ["changed", "emptied", "removed", "linked", "a folder"])
def test_every_file_that_is_not_as_promoted_is_named_with_the_way_back(repo, folder, damage):
    what = "is missing" if damage in {"removed", "a folder"} else "was changed"
    for name in frozen_files():
        path = folder / name
        before = path.read_bytes()
        path.unlink()
        if damage == "linked":
            (repo / "same").write_bytes(before)
            path.symlink_to(repo / "same")
        elif damage == "a folder":
            path.mkdir()
        elif damage != "removed":
            path.write_bytes(before + b"\n" if damage == "changed" or not before else b"")
        with pytest.raises(CorruptError, match=rf"{name} {what}: a promoted version never changes") as caught:
            jobspec.load(repo, "answers", 1)
        assert caught.value.hint == f"git checkout -- {path}"
        if damage == "a folder":
            path.rmdir()
        git(repo, "checkout", "--", str(path))
    assert jobspec.load(repo, "answers", 1)


def test_a_file_more_is_named_and_its_removal_is_what_mends_it(repo, folder):
    path = folder / "prompts" / "my notes"
    path.write_text("x")
    with pytest.raises(CorruptError, match="my notes does not belong to it") as caught:
        jobspec.load(repo, "answers", 1)
    assert os.system(caught.value.hint) == 0
    assert jobspec.load(repo, "answers", 1)
    (folder / "nowhere").symlink_to("gone")
    with pytest.raises(CorruptError, match="nowhere does not belong to it"):
        jobspec.load(repo, "answers", 1)


@given(st.data())
def test_no_byte_can_be_flipped_unnoticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("folder")
    content = data.draw(st.binary(min_size=1, max_size=40))
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    (folder / "f").write_bytes(content)
    known = jobspec.digests(folder)
    jobspec.check_files(folder, known)
    (folder / "f").write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
    with pytest.raises(CorruptError, match="f was changed"):
        jobspec.check_files(folder, known)


def test_a_changed_page_and_one_that_calls_itself_otherwise_are_refused(repo, folder):
    page = folder / "job.yaml"
    page.write_bytes(page.read_bytes() + b"# a word\n")
    with pytest.raises(CorruptError, match="was changed after it was saved"):
        jobspec.load(repo, "answers", 1)
    frozen(repo, 2, job="others")
    with pytest.raises(CorruptError, match="names others@2 as its version"):
        jobspec.load(repo, "answers", 2)


def test_the_code_is_the_named_commit_or_one_with_the_same_objects(repo):
    spec = frozen(repo)
    assert jobspec.code_of(repo, spec) == spec.commit
    git(repo, "commit", "--quiet", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z")
    rebased = dataclasses.replace(spec, commit="f" * 40)
    found = jobspec.code_of(repo, rebased)
    assert git(repo, "rev-parse", f"{found}:workbench") == spec.code["workbench"]
    gone = dataclasses.replace(rebased, code={"workbench": "0" * 40})
    with pytest.raises(NotFoundError, match="answers@1 runs the code of commit ffffffffffff") as caught:
        jobspec.code_of(repo, gone)
    assert "git fetch" in caught.value.hint


def test_the_page_itself_is_not_among_its_own_files(folder):
    assert "job.yaml" not in jobspec.digests(folder)
    assert files.digest((folder / "job.yaml").read_bytes()) not in jobspec.digests(folder).values()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sample": "../../../.workbench/state/x"}, "sample"),
        ({"sample": "/tmp/x"}, "sample"),
        ({"sample": ".."}, "sample"),
        ({"notebook": "../../n.ipynb"}, "notebook"),
        ({"notebook": "/n.ipynb"}, "notebook"),
        ({"digests": {**a_spec().digests, "memory": "../../state"}}, "digests.memory"),
        ({"files": {"../../x": "0"}}, "files"),
    ],
)
def test_a_page_whose_names_lead_out_of_their_folder_is_refused(tmp_path, change, key):
    path = tmp_path / "job.yaml"
    path.write_bytes(a_spec(**change).text())
    with pytest.raises(ConfigError, match=rf"job\.yaml: {key}.* leads out of its folder") as caught:
        jobspec.read(path)
    assert "git checkout" in caught.value.hint
