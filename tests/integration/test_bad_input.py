"""Bad input: one clear error with the next command in it, and everything else as it was."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest
from aiohttp import web
from clones import Clone
from endpoint import endpoint

TAPE = "pipelines/tapes/answers.jsonl"
NOTEBOOK = "notebooks/answers.ipynb"
QUESTIONS = "data/handbook/questions.jsonl"


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


def truncated(folder):
    path = folder / TAPE
    path.write_bytes(path.read_bytes()[:-300])


#: What is done to the repository, what is said of it, and the stage that stops (None: a gate may be so).
CASES = {
    "missing key": (
        replaced("params.yaml", "    title: Answers from the company handbook\n", ""),
        "missing key",
        "prepare",
    ),
    "unknown key": (
        replaced("params.yaml", "    owner:", "    onwer:"),
        r"unknown key .*nearest: 'owner'",
        "prepare",
    ),
    "unknown prompt": (
        replaced("params.yaml", "name: answer,", "name: anser,"),
        "nearest: 'answer'",
        "experiment",
    ),
    "unknown version": (
        replaced("params.yaml", "answer, version: 2", "answer, version: 9"),
        "has no version 9",
        "experiment",
    ),
    "unknown model": (
        replaced("params.yaml", "smollm2-135m", "smollm"),
        "nearest: 'smollm2-135m'",
        "experiment",
    ),
    "edited version": (
        replaced("pipelines/prompts/answer/2.prompty", "staff", "stuff"),
        "changed after it was saved",
        "experiment",
    ),
    "no parameters cell": (
        cell(lambda cells: cells[1]["metadata"].pop("tags")),
        "needs one cell tagged `parameters`, found none",
        "experiment",
    ),
    "syntax error": (cell(lambda cells: cells[2].update(source="x = (1")), "cell 3, line 1", "experiment"),
    "unknown parameter": (
        replaced("params.yaml", "      corpus:", "      corpsu:"),
        "nearest: 'corpus'",
        "experiment",
    ),
    "duplicate ids": (twice, "case id 'acme-001' is there twice", "prepare"),
    "other tape format": (
        replaced(TAPE, "workbench-tape/1", "workbench-tape/9"),
        "tape of format",
        "experiment",
    ),
    "edited tape": (replaced(TAPE, '"content":"', '"content":" '), "edited by hand", "experiment"),
    "truncated tape": (truncated, "cut off|ends here|digest", "experiment"),
    "hopeless gate": (
        replaced("params.yaml", "cases: {min: 100}", "cases: {min: 1000}"),
        "can never pass",
        None,
    ),
    "looser mlvp": (
        replaced("params.yaml", "accuracy: {min: 0.70", "accuracy: {min: 0.40"),
        "may only tighten",
        None,
    ),
}


@pytest.fixture(scope="module")
def remembered(tmp_path_factory) -> Clone:
    """A clone whose memory is built, for what stops the experiment; copied for each test."""
    clone = Clone.of_head(tmp_path_factory.mktemp("remembered"))
    clone.run("dvc", "repro", "remember@answers", "prepare@answers", network=False)
    return clone


@pytest.fixture
def copy_of_it(remembered, tmp_path) -> Clone:
    return remembered.copied(tmp_path)


def said_well(found: str, said: str) -> None:
    """What is wrong is said, and below it, where a line begins with an arrow, what to type next."""
    place = re.search(said, found, flags=re.DOTALL)
    assert place, found
    assert re.search(r"^  -> \S", found[place.start() :], flags=re.MULTILINE), found
    assert "Traceback" not in found


@pytest.mark.parametrize("name", CASES)
def test_check_names_it_and_changes_nothing(fresh_clone, name):
    edit, said, _ = CASES[name]
    edit(fresh_clone.folder)
    changed, tape = fresh_clone.status(), (fresh_clone.folder / TAPE).read_bytes()
    code = 2 if "key" in name else 1
    found = fresh_clone.run("workbench", "check", code=code)
    said_well(found, said)
    for problem in re.split(r"^(?=ok |WRONG|warning|\d+ wrong)", found, flags=re.MULTILINE):
        assert "\n  -> " in problem or not problem.startswith(("WRONG", "warning")), problem
    assert fresh_clone.status() == changed and (fresh_clone.folder / TAPE).read_bytes() == tape


@pytest.mark.parametrize("name", [name for name, (*_, stage) in CASES.items() if stage])
def test_a_stage_stops_with_the_same_words(copy_of_it, name):
    edit, said, stage = CASES[name]
    edit(copy_of_it.folder)
    changed, tape = copy_of_it.status(), (copy_of_it.folder / TAPE).read_bytes()
    found = copy_of_it.run(
        "python", "-m", "workbench.pipeline.stages", stage, "answers", code=2, network=False
    )
    said_well(found, said)
    assert copy_of_it.status() == changed and (copy_of_it.folder / TAPE).read_bytes() == tape
    assert not (copy_of_it.folder / "results/answers/runs").exists()


@pytest.mark.parametrize("name", ["unknown prompt", "syntax error", "duplicate ids", "truncated tape"])
def test_the_pipeline_stops_with_the_same_words(copy_of_it, name):
    edit, said, _ = CASES[name]
    edit(copy_of_it.folder)
    tape = (copy_of_it.folder / TAPE).read_bytes()
    found = copy_of_it.run("workbench", "repro", code=2, network=False)
    said_well(found, said)
    assert (copy_of_it.folder / TAPE).read_bytes() == tape


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


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (wrong_manifest, r"CorruptError: \S+/memory/\S+ .*(digests do not fit|other items)"),
        (truncated_items, r"CorruptError: \S+/memory/globex\.parquet"),
    ],
)
def test_a_snapshot_with_a_wrong_digest_stops_the_experiment(copy_of_it, edit, said):
    edit(copy_of_it.folder)
    tape = (copy_of_it.folder / TAPE).read_bytes()
    found = copy_of_it.run(
        "python", "-m", "workbench.pipeline.stages", "experiment", "answers", code=2, network=False
    )
    said_well(found, said)
    assert "  -> dvc repro remember, or dvc checkout" in found
    assert (copy_of_it.folder / TAPE).read_bytes() == tape
    assert not (copy_of_it.folder / "results/answers/runs").exists()


async def unauthorised(_request):
    error = {"message": "this key is not known", "type": "invalid_request_error"}
    return web.json_response({"error": error}, status=401)


async def too_many(_request):
    return web.json_response({"error": {"message": "slow down"}}, status=429)


async def a_page(_request):
    return web.Response(text="<!doctype html><title>Sign in</title>", content_type="text/html")


async def half_an_answer(_request):
    return web.Response(text='{"choices": [{"message": {"content": "46 eu', content_type="application/json")


#: What answers (None: nobody does), how often it is asked at most, and what is said of it.
ENDPOINTS = {
    "refuses the connection": (None, 0, r"UnavailableError: cannot connect to \S+"),
    "401": (unauthorised, 1, r"RefusedError: \S+ answered 401: this key is not known"),
    "429 for ever": (too_many, 4, r"RateLimitedError: \S+ answered 429: slow down"),
    "HTML": (a_page, 4, "UnavailableError: .* answered 200, but not with choices in JSON: '<!doctype html>"),
    "truncated JSON": (half_an_answer, 4, "UnavailableError: .* answered 200, but not with choices in JSON"),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_that_does_not_answer_stops_the_pipeline_and_changes_nothing(copy_of_it, free_port, name):
    answer, most, said = ENDPOINTS[name]
    asked = []

    async def counted(request):
        asked.append(request.headers["Authorization"])
        return await answer(request)

    tape, params = copy_of_it.folder / TAPE, copy_of_it.folder / "params.yaml"
    tape.write_bytes(b"")
    with endpoint(counted) if answer else nullcontext(f"http://127.0.0.1:{free_port}/v1") as url:
        lines = f"    model: smollm2-135m\n    provider: openai\n    base_url: {url}\n"
        text = params.read_text()
        assert "    model: smollm2-135m\n" in text
        params.write_text(text.replace("    model: smollm2-135m\n", lines, 1))
        changed = copy_of_it.status()
        found = copy_of_it.run("workbench", "repro", code=3, OPENAI_API_KEY="k-123456")
    said_well(found, said)
    assert "Running stage 'experiment@answers'" in found and "k-123456" not in found
    assert asked == ["Bearer k-123456"] * most
    now = [line for line in copy_of_it.status().splitlines() if not line.endswith(" dvc.lock")]
    assert tape.read_bytes() == b"" and now == changed.splitlines(), "only the stages before it left a trace"
    journal = copy_of_it.folder / ".workbench/cache/answers.jsonl"
    assert not journal.exists() or journal.read_bytes() == b""


def test_a_failing_cell_is_named_with_its_source_and_the_way_to_run_it_again(fresh_clone):
    cell(lambda cells: cells[3].update(source="ratio = 1 / 0"))(fresh_clone.folder)
    found = fresh_clone.run("workbench", "run", NOTEBOOK, code=3)
    assert re.search(r"cell 4: ZeroDivisionError: .*ratio = 1 / 0", found, flags=re.DOTALL), found
    assert f"-> workbench run {NOTEBOOK}" in found and "Traceback" not in found


def test_a_kernel_killed_for_memory_is_said_and_answers_are_kept(fresh_clone):
    cell(lambda cells: cells[3].update(source="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))(
        fresh_clone.folder
    )
    found = fresh_clone.run("workbench", "run", NOTEBOOK, code=3)
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
def test_the_command_line_answers_with_the_next_command(fresh_clone, command, code, said):
    found = fresh_clone.run("workbench", *command, code=code)
    assert said in found and "Traceback" not in found
    assert re.search(r"^(  -> \S|Try 'workbench --help')", found, flags=re.MULTILINE), found


def test_a_replay_miss_after_one_changed_character_shows_where(fresh_clone):
    code = """
import workbench as wb
from workbench.context import InvocationScope, invocation_scope

ws = wb.connect("answers", mode="replay")
case = next(iter(ws.cases()))
mine = ws.bind(tenant=case.tenant)
mine.memory().add(wb.load("data/handbook"))
hits = mine.memory().search(case.inputs["question"], k=5)
question = case.inputs["question"].replace("What", "Whot")
with invocation_scope(InvocationScope(case=case.id)):
    mine.model().chat(mine.prompt().render(question=question, passages=hits[:1]))
"""
    found = fresh_clone.run("python", "-c", code, code=1)
    for said in (
        "ReplayMissError",
        "nearest recording",
        "messages[1].content",
        "Whot is",
        "What is",
        "dvc repro",
    ):
        assert said in found, found
