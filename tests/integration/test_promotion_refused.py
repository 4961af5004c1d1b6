"""What may not be promoted: each reason in words with the way to fix it, and nothing half done."""

from __future__ import annotations

import pytest
from clone_edits import NOTEBOOK, add_to_task, commit, edit_cells, one_error, replaced, source, state

from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments.runs import load_runs
from workbench.promotion import requirements
from workbench.promotion.promote import ReleaseOptions, promote

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
#: What tests/integration/promotion says of each refusal without a pipeline, in a clone with one.
IN_A_CLONE = pytest.mark.drawn("refusals in a clone", 2)

#: By the clone's own interpreter: the installed script names the one it was installed with.
WORKBENCH = ("python", "-m", "workbench.cli")
KEY = "sk-" + "a1" * 12
BAD = f"""\
import socket
import pytest
key = "{KEY}"
who = "grace.hopper@mail-server.dev"
where = "/Users/grace/answers.csv"
!ls
"""
#: What is said of the cell above, and of the parameters' cell.
FORBIDDEN = {
    f"uncommitted: {NOTEBOOK}": 'git add --all && git commit -m "…"',
    "the results are not of what is committed: judge@answers": "make repro",
    f"{NOTEBOOK} holds task": "dvc repro",
    "parameter 'seed_question' of": "write seed_question: TYPE = None",
    "declares no parameter 'inputs'": 'add inputs = ""',
    "line 1: imports `socket`, a way around the boundary": "use `ws.model()`",
    "line 2: imports `pytest` of pytest, which is not in the lock": "run `make lock`",
    "line 3: a model provider's key": "take it out and revoke it",
    "line 4: an e-mail address": "use a made-up one",
    "line 5: a path of one machine": "name it relative to the repository",
    "line 6: a shell line (`!`)": "do it in Python",
}


def spoiled(cells):
    add_to_task(BAD)(cells)
    (given,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    kept = [line for line in source(given).splitlines() if not line.startswith("inputs")]
    text = "\n".join(kept).replace('seed_question = ""', "seed_question = None")
    given["source"] = text.splitlines(keepends=True)


@IN_A_CLONE
def test_all_that_forbids_it_is_listed_at_once_and_no_secret_is_repeated(reproduced_clone):
    clone = reproduced_clone
    edit_cells(clone.folder, spoiled)
    before = state(clone)
    card = clone.run("workbench", "promote", "job/answers", "--dry-run", code=1)
    said = one_error(clone.run("workbench", "promote", "job/answers", code=2))
    for text in (card, said):
        lines = text.splitlines()
        for what, fix in FORBIDDEN.items():
            (at,) = (n for n, line in enumerate(lines) if what in line)
            assert fix in lines[at + 1], lines[at : at + 2]
        assert KEY not in text and "grace" not in text
    assert state(clone) == before


UNKNOWN = (
    ("job/anwsers", "production", "params.yaml declares no job 'anwsers' (nearest: 'answers'"),
    ("jobs/answers", "production", "'jobs/answers' names no asset (nearest: 'job'"),
    ("job/answers@7", "production", "job 'answers' has no version 7 (known: answers@1)"),
    ("job/answers", "prodction", "there is no label 'prodction' (nearest: 'production'"),
    ("job/answers@1", "production", "job/answers@1 is in production already"),
    ("job/answers", "production", "nothing to promote: job/answers@1 is in production"),
)


@IN_A_CLONE
def test_what_is_unknown_or_promoted_already_is_said_by_name(promoted_clone):
    before = state(promoted_clone)
    for reference, label, said in UNKNOWN:
        with pytest.raises(WorkbenchError) as caught:
            promote(promoted_clone.folder, reference, ReleaseOptions(label=label, show=False))
        assert said in caught.value.message and caught.value.hint and caught.value.exit_code == 2
    said = one_error(promoted_clone.run("workbench", "promote", "job/anwsers", code=2))
    assert "declares no job 'anwsers'" in said
    assert state(promoted_clone) == before


@IN_A_CLONE
def test_a_run_with_too_few_cases_under_another_gate_is_refused(reproduced_clone):
    """First the gate's text alone is another one; then the run is made under it, and a draft is explored."""
    clone = reproduced_clone
    replaced(clone, "params.yaml", "cases: {min: 6}", "cases: {min: 100}")
    commit(clone, "Ask for more cases")
    before = state(clone)
    said = one_error(clone.run("workbench", "promote", "job/answers", code=2))
    assert "the gate's text is not the one the run was made under" in said
    assert state(clone) == before

    edit_cells(clone.folder, with_a_draft)
    clone.run("dvc", "repro", "experiment@answers", network=False)
    commit(clone, "Explore a draft")
    before = state(clone)
    said = one_error(clone.run("workbench", "promote", "job/answers", code=4))
    assert "the mvp gate says undecided: cases >= 100" in said
    assert "draft" not in said, "the judge takes the prompt of params.yaml"
    explored = {run.arm: run for run in load_runs(clone.folder / "results/answers/runs")}
    assert explored["candidate"].settings["prompt"].startswith("answer@draft-")
    assert state(clone) == before


def with_a_draft(cells):
    """The same words as the saved prompt's, so that the tape has the answers."""
    (arms,) = (cell for cell in cells if "arms = " in source(cell))
    text = source(arms).replace('"candidate": {}', '"candidate": {"prompt": ws.prompt().edit(parameters={})}')
    arms["source"] = text.splitlines(keepends=True)


@IN_A_CLONE
def test_another_lock_than_the_environments_is_refused_and_an_old_version_asks_for_its_own(promoted_clone):
    clone = promoted_clone
    lock = clone.folder / "locks/workbench.lock"
    lock.write_text(lock.read_text() + "# another package\n")
    commit(clone, "Another lock")
    before = state(clone)
    said = one_error(clone.run("workbench", "promote", "job/answers", code=2))
    assert "this environment is not the one of locks/workbench.lock" in said and "make repro" in said
    assert state(clone) == before

    installed(clone, lock.read_bytes())  # as `make repro` does
    said = clone.run(*WORKBENCH, "promote", "job/answers", code=2)
    assert "this environment is not" not in said
    said = clone.run("dvc", "repro", "--force", "job@answers-1", network=False, code=None)
    assert "the environment of this version" in said and "-> workbench jobs install answers@1" in said
    assert "Traceback" not in said and clone.status() == ""
    said = one_error(clone.run(*WORKBENCH, "jobs", "run", "answers", code=3))
    assert "-> workbench jobs install answers@1" in said


def installed(clone, lock: bytes) -> None:
    """The shared environment under another stamp, as if this lock had been installed into it."""
    link = clone.folder / ".venv"
    shared = link.resolve()
    link.unlink()
    link.mkdir()
    for path in shared.iterdir():
        (link / path.name).symlink_to(path)
    (link / "installed.lock").unlink()
    (link / "installed.lock").write_bytes(lock)


LEAKS = """\
import logging.handlers
handler = logging.handlers.SocketHandler("127.0.0.1", 9)
handler.emit(logging.makeLogRecord({"msg": "a library's own connection"}))
print("grace.hopper@" + "mail-server.dev")
"""


def of_an_explore_cell(cells):
    cells[-1]["source"] = ["len(cases)\n", *cells[-1]["source"]]


CLEAN = {
    "a name that an explore cell gives": (
        of_an_explore_cell,
        ("the frozen notebook does not run clean alone", "NameError: name 'cases' is not defined"),
    ),
    "a connection and an address": (
        add_to_task(LEAKS),
        (
            # Confined, the socket is refused; elsewhere its connection is seen.
            "line 3: socket.",
            ", which the boundary did not open",
            "ask through ws.model(), ws.openai() or ws.memory()",
            "output 1, line 1: an e-mail address",
        ),
    ),
}


@pytest.mark.drawn("what only the clean run shows", 1)
@pytest.mark.parametrize("case", CLEAN)
def test_what_only_the_clean_run_shows_is_refused(reproduced_clone, monkeypatch, case):
    """Judged or not is not the question here: the looks that come before it are left out."""
    change, said = CLEAN[case]
    edit_cells(reproduced_clone.folder, change)
    commit(reproduced_clone, "Another notebook")
    before = state(reproduced_clone)
    monkeypatch.setattr(requirements, "missing", lambda *_: [])
    with pytest.raises(ConfigError) as caught:
        promote(reproduced_clone.folder, "job/answers", ReleaseOptions(show=False))
    assert all(words in caught.value.message for words in said), caught.value.message
    assert caught.value.hint and "mail-server" not in str(caught.value)
    assert state(reproduced_clone) == before
