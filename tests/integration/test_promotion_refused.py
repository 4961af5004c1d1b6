"""What may not be promoted: each reason in words with the way to fix it, and nothing half done.

test_otherwise_in_a_job has what only a judged run and the clean run show.
"""

from __future__ import annotations

import pytest
from clone_edits import NOTEBOOK, add_to_task, commit, edit_cells, one_error, source, state

from workbench.errors import WorkbenchError
from workbench.promotion.promote import ReleaseOptions, promote

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
#: What tests/integration/promotion says of each refusal without a pipeline, in a clone with one.
IN_A_CLONE = pytest.mark.drawn("refusals with a pipeline", 1)

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
)


@IN_A_CLONE
def test_what_is_unknown_or_promoted_already_is_said_by_name(promoted_clone):
    """test_promoted_jobs has the same content again, whose clean runs take most of a promotion's time."""
    before = state(promoted_clone)
    for reference, label, said in UNKNOWN:
        with pytest.raises(WorkbenchError) as caught:
            promote(promoted_clone.folder, reference, ReleaseOptions(label=label, show=False))
        assert said in caught.value.message and caught.value.hint and caught.value.exit_code == 2
    said = one_error(promoted_clone.run("workbench", "promote", "job/anwsers", code=2))
    assert "declares no job 'anwsers'" in said
    assert state(promoted_clone) == before


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
