"""Names and paths that lead nowhere, elsewhere or too far are errors of ours wherever they are read."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import pytest
from made_jobs import a_spec
from small_use_case import NOTEBOOK, PARAMS, small_repository

from workbench import config, files, registry, retrieval
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, NotFoundError, WorkbenchError
from workbench.jobs import slots
from workbench.jobs import spec as jobspec

pytestmark = pytest.mark.timeout(60)
LONG = "x" * 300
JOB = "jobs:\n  small: {use_case: small, sample: SAMPLE}\n"
PAGES = "data/small/acme"
TAPE = "pipelines/tapes/small.jsonl"


def params(old, new):
    def change(root):
        text = (root / "params.yaml").read_text()
        assert old in text
        (root / "params.yaml").write_text(text.replace(old, new, 1))

    return change


def job(sample):
    return lambda root: (root / "params.yaml").write_text(
        PARAMS.replace("MODEL", "smollm2-135m") + JOB.replace("SAMPLE", sample)
    )


def memory(key, value):
    def change(root):
        path = root / "pipelines/memories/small/1.yaml"
        text, n = re.subn(f"{key}: .*", f"{key}: {value}", path.read_text(), count=1)
        assert n
        path.write_text(text)
        page = path.with_name("asset.yaml")
        page.write_text(re.sub("digest: .*", f"digest: {files.digest(text.encode())}", page.read_text()))

    return change


def link(name, target):
    def change(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def questions(**values):
    """Set these values in every row of the questions."""

    def change(root):
        (path,) = root.glob("data/small/*questions.jsonl")
        rows = [json.loads(line) | values for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


#: A fault in a repository, and words of the finding of `check`.
FAULTS = {
    "candidates": (memory("candidates", 10**12), "1.yaml: candidates must be 10000 or less"),
    "embedding elsewhere": (memory("embedding", "../x"), "1.yaml: embedding: '../x' is not a reference"),
    "embedding by a chat model": (memory("embedding", "smollm2-135m"), "is for chat, not for embedding"),
    "embedding by no model": (memory("embedding", "wordllama"), "no model 'wordllama' (nearest"),
    "embedding with a long name": (memory("embedding", LONG), "is not a reference"),
    "source elsewhere": (memory("source", "../../etc"), "source leads out"),
    "a page that is a number": (questions(page=5), "'page' must be a text or a list of texts, found int"),
    "a page that is a mapping": (questions(page={"a": 1}), "'page' must be a text or a list of texts"),
    "pages within pages": (questions(page=[["a"]]), "'page' must be a text or a list of texts"),
    "one page of two is not there": (questions(page=["nowhere"]), "has no page 'nowhere'"),
    "a question that is a number": (questions(question=5), "'question' must be a text, found int"),
    "a question that is a list": (questions(question=["a"]), "'question' must be a text, found list"),
    "answers that are numbers": (questions(answers=[5]), "'answers' must be a text or a list of texts"),
    "answers that are one word of none": (questions(answers="qqq"), "contains none of its accepted answers"),
    "questions elsewhere": (memory("questions", "../q.jsonl"), "questions leads out"),
    "notebook elsewhere": (params(NOTEBOOK, "../x"), "notebook: '../x' is not a path inside"),
    "notebook from the root": (params(NOTEBOOK, "/etc/passwd"), "notebook: '/etc/passwd' is not a path"),
    "notebook with a long name": (params(NOTEBOOK, LONG), "notebook: 'xxx"),
    "data elsewhere": (params("data: data", "data: ../data"), "data: '../data/small' is not a path"),
    "report elsewhere": (params("report: r", "report: ../r"), "report: '../reports/small' is not a path"),
    "report with a long name": (params("report: ", f"report: {LONG}"), "report: 'xxx"),
    "model elsewhere": (params("smollm2-135m", "../x"), "'../x' is not a reference"),
    "model with a long name": (params("smollm2-135m", LONG), "is not a reference"),
    "memory elsewhere": (params("name: small", "name: ../small"), "'../small@1' is not a reference"),
    "memory with a long name": (params("name: small", f"name: {LONG}"), "is not a reference"),
    "prompt elsewhere": (params("name: brief", "name: ../brief"), "'../brief@1' is not a reference"),
    "use case elsewhere": (params("  small:", "  ../x:"), "'../x' cannot name a use case"),
    "use case with a long name": (params("  small:", f"  {LONG}:"), "cannot name a use case"),
    "tenant with a long name": (params("[acme]", f"[{LONG}]"), "cannot name a tenant"),
    "sample elsewhere": (job("../x.jsonl"), "sample: '../x.jsonl' is not a path inside"),
    "sample with a long name": (job(LONG), "sample: 'xxx"),
    "no day": (params("2026-11-01", "2026-11-31"), "as_of: '2026-11-31' is not a day"),
    "an empty day": (params("2026-11-01", ""), "as_of: '' is not a day"),
    "a day that does not sort": (params("2026-11-01", "20261101"), "as_of: '20261101' is not a day"),
    "a gate line at 0": (params("min: 0.05", "min: 0.0"), "accuracy.min can never fail"),
    "a gate line below 0": (params("min: 0.05", "min: -3"), "accuracy.min can never fail"),
    "a gate line at 1": (params("min: 0.05", "max: 1"), "accuracy.max can never fail"),
    "a count of all": (params("{min: 0.05}", "{count: 4}"), "accuracy at most 4 can never fail"),
    "cases from 0": (params("cases: {min: 2}", "cases: {min: 0}"), "cases.min can never fail"),
    "a rate up to 1": (params("cases: {min: 2}", "unscored_rate: {max: 1}"), "unscored_rate.max can never"),
    "seed below 0": (params("seed: 7", "seed: -1"), "seed must be 0 or more"),
    "tape that loops": (link(TAPE, "small.jsonl"), "small.jsonl: Too many levels"),
    "tape that is nowhere": (link(TAPE, "none"), "there is no tape"),
    "notebook that loops": (link(NOTEBOOK, "small.ipynb"), "Too many levels"),
    "notebook outside": (link(NOTEBOOK, "/etc/hostname"), "leads out of the repository"),
    "prompt that loops": (link("pipelines/prompts/loop", "loop"), "prompts/loop: a link that leads nowhere"),
    "asset that loops": (link("pipelines/prompts/brief/asset.yaml", "asset.yaml"), "leads nowhere"),
    "version that loops": (link("pipelines/prompts/brief/1.prompty", "1.prompty"), "1.prompty is missing"),
    "questions that loop": (link("data/small/questions.jsonl", "questions.jsonl"), "leads nowhere"),
    "data that loops": (link("data/small", "small"), "leads nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_check_names_the_fault_at_once(tmp_path, name):
    change, said = FAULTS[name]
    root = small_repository(tmp_path)
    change(root)
    started = time.process_time()
    try:
        found = check_all(root)
        assert not found.passed
        problems = "\n".join(f"{f.what}: {f.problem}" for f in found.findings if f.problem and not f.warning)
    except WorkbenchError as error:
        problems = str(error)
    assert said in problems and "\n  -> " in problems
    assert time.process_time() - started < 5  # one second on a machine that does nothing else
    assert LONG not in problems.partition(": 'x")[2]


#: An entry among a tenant's pages, and words of the error of `check` and of an ingest.
ENTRIES = {
    "nowhere": (link(f"{PAGES}/x.md", "/nonexistent.md"), "link to /nonexistent.md, which leads nowhere"),
    "nowhere, without a suffix": (link(f"{PAGES}/x", "none"), "x is a link to none, which leads nowhere"),
    "itself": (link(f"{PAGES}/x.md", "x.md"), "x.md is a link to x.md, which leads nowhere"),
    "a file outside": (link(f"{PAGES}/x.md", "/etc/hostname"), "hostname, which is outside of"),
    "a device": (link(f"{PAGES}/x.md", "/dev/zero"), "/dev/zero, which is outside of"),
    "its own folder": (link(f"{PAGES}/up", "."), "up is a link to the folder"),
    "its parent": (link(f"{PAGES}/deep/up", ".."), "up is a link to the folder"),
    "a folder outside": (link(f"{PAGES}/etc", "/etc"), "etc is a link to the folder /etc"),
    "a tenant's folder outside": (link("data/small/globex", "/etc"), "globex is a link to the folder /etc"),
    "a tenant's folder nowhere": (link("data/small/globex", "none"), "globex is a link to none"),
    "a pipe": (lambda root: os.mkfifo(root / PAGES / "x.md"), "x.md: not a regular file"),
    "a pipe in a folder": (lambda root: os.mkfifo(root / "data/small/pipe.md"), "pipe.md lies in no tenant"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_check_and_ingest_name_what_is_no_page(tmp_path, name):
    change, said = ENTRIES[name]
    root = small_repository(tmp_path)
    change(root)
    found = check_all(root)
    assert not found.passed and said in str(found)
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:  # an ingest reads its pages by `load`
        retrieval.load("data/small", root=root)
    assert caught.value.hint


def test_pages_that_are_links_inside_the_folder_or_into_a_cache_of_dvc_are_read(tmp_path):
    root = small_repository(tmp_path / "repository")
    cached = tmp_path / "cache/files/md5/ab" / ("c" * 30)
    cached.parent.mkdir(parents=True)
    (root / PAGES / "taxi.md").rename(cached)
    (root / PAGES / "taxi.md").symlink_to(cached)
    (root / PAGES / "copy.md").symlink_to("hotel.md")
    assert [page.source for page in retrieval.load("data/small", root=root)] == ["copy", "hotel", "taxi"]


def test_a_gate_line_that_can_fail_is_no_fault(tmp_path):
    lines = "cost_usd_per_case: {max: 2}, latency_p95_s: {max: 30}, other: {min: 0, versus: production}"
    params("cases: {min: 2}", lines)(small_repository(tmp_path))
    gate = next(f for f in check_all(tmp_path).findings if f.what == "small: gates.mvp")
    assert "never fail" not in gate.problem


def test_a_folder_that_is_unreadable_is_not_left_out(tmp_path, monkeypatch):
    root = small_repository(tmp_path)
    (root / PAGES / "closed").mkdir()
    whole = os.listdir

    def listdir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(ConfigError, match=r"cannot read .*closed: Permission denied"):
        retrieval.load("data/small", root=root)


def test_a_use_case_without_a_tape_and_an_asset_that_is_not_saved_are_warnings(tmp_path):
    root = small_repository(tmp_path)
    draft = root / "pipelines/prompts/draft/1.prompty"
    draft.parent.mkdir()
    shutil.copy(root / "pipelines/prompts/brief/1.prompty", draft)
    judged = "pipelines/tapes/small.judge.jsonl"
    for tapes in ({}, {TAPE: b"", judged: b""}):  # an empty tape of the experiment lacks nothing by itself
        for tape, data in tapes.items():
            files.write_atomic(root / tape, data)
        warnings = {f.what: f.problem for f in check_all(root).findings if f.warning}
        missing = {f"small: {tape}" for tape in ((judged,) if tapes else (judged, TAPE))}
        assert warnings.keys() >= {*missing, "pipelines/prompts/draft"}
        assert all("make repro" in warnings[what] for what in missing)
        assert "workbench save prompt/draft" in warnings["pipelines/prompts/draft"]
    assert check_all(root).passed


@pytest.mark.parametrize("name", [LONG, "../x", "..", "", "a/b", f"a@{'9' * 5_000}", "é" * 60])
def test_a_name_that_is_no_file_name_is_refused_wherever_an_asset_is_named(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        registry.resolve(tmp_path, "prompt", name)
    assert caught.value.hint and len(str(caught.value)) < 300
    if "@" not in name:
        with pytest.raises(ConfigError, match="cannot name a prompt"):
            registry.load(tmp_path, "prompt", name)


@pytest.mark.parametrize("path", [LONG, f"{LONG}/{LONG}", "none", "\0"])
def test_pages_at_no_place_are_an_error_of_ours(tmp_path, path):
    with pytest.raises((ConfigError, NotFoundError)) as caught:
        retrieval.load(path, root=tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("commit", ["x", "", "HEAD", "--all", "../x", "c" * 39, "c" * 41, "C" * 40])
def test_a_commit_of_a_version_is_an_id(tmp_path, commit):
    path = tmp_path / "job.yaml"
    text = a_spec().text().decode()
    path.write_text(text.replace("c" * 40, f'"{commit}"'))
    with pytest.raises(ConfigError, match=rf"job\.yaml: commit '{commit}' is not the id") as caught:
        jobspec.read(path)
    assert "git checkout" in caught.value.hint


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", LONG + "/x", ".."])
@pytest.mark.parametrize("key", ["job", "use_case"])
def test_the_names_in_a_version_are_no_paths(tmp_path, key, name):
    path = tmp_path / "job.yaml"
    path.write_bytes(a_spec(**{key: name}).text())
    with pytest.raises(ConfigError, match=f"{key} leads out of its folder"):
        jobspec.read(path)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("0001-01-01", "years"), ("9999-12-31", "years"), ("0001-01-01T00:00+05:00", "years"),
        ("9999-12-31T23:59-05:00", "years"), ("1969-12-31T23:00Z", "years"), ("20261124", "time zone"),
        ("20261124Z", "not a time"), ("2026-02-30", "not a time"), ("", "not a time"), (LONG, "not a time"),
    ],
)  # fmt: skip
def test_a_time_of_a_run_is_one_that_schedules_have(at, said):
    for plain in (a_spec(), a_spec(schedule=None)):
        with pytest.raises(ConfigError, match=rf"--at .*{said}") as caught:
            slots.slot_of(plain, slots.RunRequest(reference="answers", at=at))
        assert "2026-11-24T" in caught.value.hint and len(str(caught.value)) < 300


def test_an_input_with_a_long_name_is_an_error_of_ours(tmp_path):
    request = slots.RunRequest(reference="answers", at="2026-11-24", input=f"{LONG}.jsonl")
    slot = slots.slot_of(a_spec(), request)
    with pytest.raises(ConfigError, match="File name too long"):
        slots.bytes_of(slots.input_of(tmp_path, a_spec(), request, slot))


def test_names_with_spaces_and_days_of_any_year_are_accepted():
    config.check_inside("a/b c/é.ipynb", where="x")
    config.check_day("0001-01-01", where="x")
    config.check_day("9999-12-31", where="x")
