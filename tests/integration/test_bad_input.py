"""Bad input: one clear error with the next command in it, and everything else as it was."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing, contextmanager, nullcontext

import pytest
from aiohttp import web
from clone_edits import commit, without_use_case
from clones import Clone
from endpoint import endpoint

import workbench as wb
from workbench import layout
from workbench.cli import main
from workbench.context import InvocationScope, invocation_scope
from workbench.diagnostics.check import check_all
from workbench.errors import (
    ConfigError,
    CorruptError,
    NoAnswerError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
    WorkbenchError,
)
from workbench.pipeline import stages

pytest_plugins = ("promoted_clones",)
TAPE = "pipelines/tapes/answers.jsonl"
JUDGE_TAPE = "pipelines/tapes/answers.judge.jsonl"
NOTEBOOK = "notebooks/answers.ipynb"
QUESTIONS = "data/handbook/questions.jsonl"
RESULTS = "results/answers"
#: What each stage that runs the notebook leaves, and the tape that it writes.
MADE = {"judge": ("judged", JUDGE_TAPE), "experiment": ("runs", TAPE)}


def replaced(path, before, after):
    def edit(folder):
        text = (folder / path).read_text()
        assert before in text
        (folder / path).write_text(text.replace(before, after, 1))

    return edit


def cell(change):
    def edit(folder):
        notebook = json.loads((folder / NOTEBOOK).read_text())
        change(notebook["cells"])
        (folder / NOTEBOOK).write_text(json.dumps(notebook))

    return edit


def twice(folder):
    lines = (folder / QUESTIONS).read_text().splitlines(keepends=True)
    (folder / QUESTIONS).write_text("".join([*lines, lines[0]]))


def truncated(tape):
    def edit(folder):
        path = folder / tape
        path.write_bytes(path.read_bytes()[:-300])

    return edit


#: What is done to the repository, the error of the stage that stops (None: a gate may be so), its word.
CASES = {
    "missing key": (
        replaced("params.yaml", "    title: Answers from the company handbook\n", ""),
        ("prepare", ConfigError),
        "title",
    ),
    "unknown key": (
        replaced("params.yaml", "    owner:", "    onwer:"),
        ("prepare", ConfigError),
        "'owner'",
    ),
    "unknown prompt": (
        replaced("params.yaml", "name: answer,", "name: anser,"),
        ("judge", NotFoundError),
        "'answer'",
    ),
    "unknown version": (
        replaced("params.yaml", "answer, version: 2", "answer, version: 9"),
        ("judge", NotFoundError),
        "version 9",
    ),
    "unknown model": (
        replaced("params.yaml", "smollm2-135m", "smollm"),
        ("judge", NotFoundError),
        "'smollm2-135m'",
    ),
    "edited version": (
        replaced("pipelines/prompts/answer/2.prompty", "staff", "stuff"),
        ("judge", CorruptError),
        "changed",
    ),
    "no parameters cell": (
        cell(lambda cells: cells[1]["metadata"].pop("tags")),
        ("judge", ConfigError),
        "`parameters`",
    ),
    "syntax error": (
        cell(lambda cells: cells[2].update(source="x = (1")),
        ("judge", ConfigError),
        "cell 3",
    ),
    "unknown parameter": (
        replaced("params.yaml", "      corpus:", "      corpsu:"),
        ("judge", ConfigError),
        "'corpus'",
    ),
    "duplicate ids": (twice, ("prepare", ConfigError), "'acme-001'"),
    "other tape format": (
        replaced(JUDGE_TAPE, "workbench-tape/1", "workbench-tape/9"),
        ("judge", CorruptError),
        "format",
    ),
    "edited tape": (
        replaced(JUDGE_TAPE, '"content":"', '"content":" '),
        ("judge", CorruptError),
        "edited",
    ),
    "truncated tape": (truncated(JUDGE_TAPE), ("judge", CorruptError), "cut off|ends here|digest"),
    "edited tape of the experiment": (
        replaced(TAPE, '"content":"', '"content":" '),
        ("experiment", CorruptError),
        "edited",
    ),
    "truncated tape of the experiment": (
        truncated(TAPE),
        ("experiment", CorruptError),
        "cut off|ends here|digest",
    ),
    "hopeless gate": (
        replaced("params.yaml", "cases: {min: 100}", "cases: {min: 1000}"),
        None,
        "never pass",
    ),
    "looser mlvp": (
        replaced("params.yaml", "accuracy: {min: 0.70", "accuracy: {min: 0.40"),
        None,
        "tighten",
    ),
}


@pytest.fixture(scope="module")
def unjudged(reproduced, tmp_path_factory) -> Clone:
    """One clone of the small use case for all that stops a stage; its cases and memory are made."""
    return reproduced.copied(tmp_path_factory.mktemp("unjudged"))


@pytest.fixture
def remembered(unjudged, reproduced) -> Clone:
    """The clone as it was made, without what the stages leave that run the notebook."""
    unjudged.run("git", "checkout", "--quiet", ".")
    shutil.rmtree(unjudged.folder / RESULTS)
    shutil.copytree(reproduced.folder / RESULTS, unjudged.folder / RESULTS)
    for name, _ in MADE.values():
        shutil.rmtree(unjudged.folder / RESULTS / name)
    shutil.rmtree(unjudged.folder / ".workbench", ignore_errors=True)
    assert unjudged.status() == ""
    return unjudged


def said_well(found: str, word: str) -> None:
    """What is wrong is said, and below it, where a line begins with an arrow, what to type next."""
    place = re.search(word, found, flags=re.DOTALL)
    assert place, found
    assert re.search(r"^  -> \S", found[place.start() :], flags=re.MULTILINE), found
    assert "Traceback" not in found


def kept(clone) -> tuple[str, list[bytes]]:
    """What bad input may not change."""
    return clone.status(), tapes_of(clone)


def tapes_of(clone) -> list[bytes]:
    return [(clone.folder / tape).read_bytes() for _, tape in MADE.values()]


def made_nothing(clone) -> bool:
    return not any((clone.folder / RESULTS / name).exists() for name, _ in MADE.values())


@pytest.fixture(scope="module")
def looked_at(head, tmp_path_factory) -> Clone:
    """One clone with one use case for all that only looks: each test takes its edit back."""
    clone = head.copied(tmp_path_factory.mktemp("looked-at"))
    without_use_case(clone.folder, "triage")
    commit(clone, "One use case")
    return clone


@pytest.fixture
def edited(looked_at):
    """The clone after an edit, until the test ends."""

    def make(edit) -> Clone:
        edit(looked_at.folder)
        return looked_at

    yield make
    looked_at.run("git", "checkout", "--quiet", ".")
    assert looked_at.status() == ""


@pytest.mark.parametrize("name", CASES)
def test_check_names_it_and_changes_nothing(edited, name):
    edit, stops, word = CASES[name]
    clone = edited(edit)
    before = kept(clone)
    if "key" in name:
        with pytest.raises(stops[1]) as caught:
            check_all(clone.folder)
        problems = [str(caught.value)]
    else:
        checked = check_all(clone.folder)
        assert not checked.passed
        problems = [finding.problem for finding in checked.findings if finding.problem]
    said_well("\n".join(problems), word)
    assert all("\n  -> " in problem for problem in problems), problems
    assert kept(clone) == before


#: What the notebook's kernel refuses, where the stage itself refuses the others before it starts one.
IN_A_KERNEL = {"unknown prompt", "unknown version", "edited version"}
DRAWN = pytest.mark.drawn("assets that a kernel refuses", 1)
STOPPING = [
    pytest.param(name, marks=[DRAWN] if name in IN_A_KERNEL else [])
    for name, (_, stops, _) in CASES.items()
    if stops
]


@pytest.mark.parametrize("name", STOPPING)
def test_a_stage_stops_with_the_same_words(remembered, monkeypatch, capsys, name):
    """So does the pipeline: test_small_use_case and an endpoint below have a stage that stops it."""
    edit, (stage, kind), word = CASES[name]
    edit(remembered.folder)
    before = kept(remembered)
    monkeypatch.chdir(remembered.folder)
    if stages.main(["settings", "answers"]) != 0:  # the first of the pipeline
        said_well(capsys.readouterr().err, word)
    with pytest.raises(WorkbenchError) as caught:
        getattr(stages, stage)(remembered.folder, "answers")
    assert caught.value.exit_code == 2
    # What a kernel raised comes as a NotebookError that names the type.
    assert isinstance(caught.value, kind) or f"{kind.__name__}: " in str(caught.value), caught.value
    said_well(str(caught.value), word)
    assert kept(remembered) == before and made_nothing(remembered)


def wrong_manifest(folder):
    manifest = folder / "results/answers/memory/manifest.json"
    text = manifest.read_text()
    changed = re.sub(r'"logical_digest": "\w{4}', '"logical_digest": "0000', text)
    assert changed != text
    manifest.unlink()  # it may be a link into DVC's cache
    manifest.write_text(changed)


def truncated_items(folder):
    items = folder / "results/answers/memory/globex.parquet"
    data = items.read_bytes()
    items.unlink()
    items.write_bytes(data[:-100])


@pytest.mark.parametrize(("edit", "stage"), [(wrong_manifest, "judge"), (truncated_items, "experiment")])
def test_a_snapshot_with_a_wrong_digest_stops_the_notebook(remembered, monkeypatch, edit, stage):
    edit(remembered.folder)
    before = kept(remembered)
    monkeypatch.chdir(remembered.folder)
    with pytest.raises(CorruptError) as caught:
        getattr(stages, stage)(remembered.folder, "answers")
    assert caught.value.exit_code == 2
    said_well(str(caught.value), "/memory/")
    assert "  -> dvc repro remember, or dvc checkout" in str(caught.value)
    assert kept(remembered) == before and made_nothing(remembered)


async def unauthorised(_request):
    error = {"message": "this key is not known", "type": "invalid_request_error"}
    return web.json_response({"error": error}, status=401)


async def too_many(_request):
    return web.json_response({"error": {"message": "slow down"}}, status=429)


async def a_page(_request):
    return web.Response(text="<!doctype html><title>Sign in</title>", content_type="text/html")


async def half_an_answer(_request):
    return web.Response(text='{"choices": [{"message": {"content": "46 eu', content_type="application/json")


#: What answers (None: nobody does), how often it is asked at most, its error and a word of it.
ENDPOINTS = {
    "refuses the connection": (None, 0, UnavailableError, "connect"),
    "401": (unauthorised, 1, RefusedError, "401: this key is not known"),
    "429 for ever": (too_many, 4, RateLimitedError, "429: slow down"),
    "HTML": (a_page, 1, NoAnswerError, "<!doctype html>"),
    "truncated JSON": (half_an_answer, 4, UnavailableError, "JSON"),
}


@contextmanager
def elsewhere(folder, name, free_port, asked):
    """The repository's model is asked at an endpoint, which counts in `asked`."""
    answer = ENDPOINTS[name][0]

    async def counted(request):
        asked.append(request.headers["Authorization"])
        return await answer(request)

    for tape in (TAPE, JUDGE_TAPE):
        (folder / tape).write_bytes(b"")
    with endpoint(counted) if answer else nullcontext(f"http://127.0.0.1:{free_port}/v1") as url:
        lines = f"    model: smollm2-135m\n    provider: openai\n    base_url: {url}\n"
        replaced("params.yaml", "    model: smollm2-135m\n", lines)(folder)
        yield


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_that_does_not_answer_is_one_error_and_changes_nothing(
    edited, monkeypatch, free_port, name
):
    _, most, kind, word = ENDPOINTS[name]
    clone, asked = edited(lambda folder: None), []
    monkeypatch.setenv("OPENAI_API_KEY", "k-123456")
    with elsewhere(clone.folder, name, free_port, asked):
        before = kept(clone)
        ws = wb.connect("answers", root=clone.folder)
        with pytest.raises(kind) as caught:
            ws.model().chat("What is paid?")
        ws.close()
    said_well(str(caught.value), word)
    assert "k-123456" not in str(caught.value)
    assert asked == ["Bearer k-123456"] * most
    assert kept(clone) == before
    assert no_answer_is_kept(clone)


def no_answer_is_kept(clone) -> bool:
    journals = [clone.folder / layout.JOURNAL, *(clone.folder / layout.JUDGE_JOURNALS).glob("*")]
    return not any(journal.exists() and journal.read_bytes() for journal in journals)


def test_an_endpoint_that_refuses_the_key_stops_the_pipeline_and_changes_nothing(remembered, free_port):
    asked = []
    with elsewhere(remembered.folder, "401", free_port, asked):
        changed = remembered.status()
        found = remembered.run("workbench", "repro", code=3, OPENAI_API_KEY="k-123456")
    said_well(found, "RefusedError: .*401: this key is not known")
    assert "Running stage 'judge@answers'" in found and "k-123456" not in found
    assert set(asked) == {"Bearer k-123456"} and len(asked) <= 2, "once for each of two workers at most"
    now = [line for line in remembered.status().splitlines() if not line.endswith(" dvc.lock")]
    assert now == changed.splitlines(), "only the stages before it left a trace"
    assert tapes_of(remembered) == [b"", b""] and no_answer_is_kept(remembered)


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type a command in a folder, in this process, and look at its exit code; its output."""

    def run(folder, *words: str, code: int) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["workbench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert ended.value.code == code, output
        return output.out + output.err

    return run


def test_a_kernel_killed_for_memory_is_said(edited, typed):
    """test_small_use_case has a cell that fails, with its source and the way to run it again."""
    source = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    clone = edited(cell(lambda cells: cells[3].update(source=source)))
    found = typed(clone.folder, "run", NOTEBOOK, code=3)
    assert "the kernel died" in found and "workbench run" in found and "Traceback" not in found


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("report", "anwsers"), 2, "nearest: 'answers'"),
        (("gate", "answers/candidate"), 2, "there is no run"),
        (("run", "notebooks/none.ipynb"), 2, "there is no file"),
        (("run", NOTEBOOK, "-p", "corpus"), 2, "is not NAME=VALUE"),
        (("run", NOTEBOOK, "-p", "corpsu=x"), 2, "nearest: 'corpus'"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_the_command_line_answers_with_the_next_command(looked_at, typed, command, code, said):
    found = typed(looked_at.folder, *command, code=code)
    assert said in found and "Traceback" not in found
    assert re.search(r"^ *(-> \S|Try '.* --help')", found, flags=re.MULTILINE), found


def test_a_replay_miss_after_one_changed_character_shows_where(looked_at, monkeypatch):
    monkeypatch.chdir(looked_at.folder)
    with closing(wb.connect("answers", mode="replay")) as ws:
        case = next(iter(ws.cases()))
        mine = ws.bind(tenant=case.tenant)
        mine.memory().add(wb.load("data/handbook"))
        hits = mine.memory().search(case.inputs["question"], k=5)
        question = case.inputs["question"].replace("What", "Whot")
        with invocation_scope(InvocationScope(case=case.id)), pytest.raises(ReplayMissError) as caught:
            mine.model().chat(mine.prompt().render(question=question, passages=hits[:1]))
    for said in ("nearest recording", "messages[1].content", "Whot is", "What is", "dvc repro"):
        assert said in str(caught.value), caught.value
