"""kill -9 of whole processes of jobs in production: after a new server, each slot has one output, paid once.

The server, a run that it started, a run with a canary, and the commands that promote, approve and roll back
are killed at a step of theirs, several times one after the other with `make soak`. The worker's program, the
endpoint and everything else are real processes. test_promotion_killed has the whole promotion, with DVC.
"""

from __future__ import annotations

import collections
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clones import Clone
from endpoint import endpoint, speaking
from killed_commands import Watched
from made_repositories import git, saved
from served_jobs import KEY, ROWS, be_due, order_slot, served_repository
from sizes import kill_points

import workbench as wb
from workbench import registry
from workbench.audit import verify
from workbench.audit.signing import Signer
from workbench.context import SystemClock
from workbench.jobs import publishing
from workbench.jobs.ledger import open_ledger
from workbench.layout import AUDIT, AUDIT_KEYS
from workbench.promotion.job_approvals import approvals_of
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.testing.fakes import FakeClock, FakeModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SEED = 194
#: How often a kill is tried whose step was not come to.
TRIES = 5
SERVE = ("workbench", "jobs", "serve", "--once")
ROLLBACK = ("workbench", "rollback", "job/answers", "--commit")
PROMOTE = ("workbench", "promote", "job/answers@2", "--to", "production", "--commit")
APPROVE = ("workbench", "approve", "job/answers@2", "--commit")
RUN = "jobs run answers"
#: Every step but those of Python itself, which writes compiled modules.
ANY = r"/^\S+ (?!elsewhere)/"
#: The steps of the withdrawal that a run begins whose output is rolled back, and of its lines before.
AFTER = r"/withdraw|evidence|signing|asset|stages|state.audit|clone (add|commit|diff|hash|cat|rev-list)/"
#: What is killed: the command, the words of the descendant that is the victim, the steps among which one is
#: chosen, and how often the victim is killed.
SCENES = {
    "serve": (SERVE, "", ANY, 9),
    "run": (SERVE, RUN, ANY, 9),
    "publishing": (SERVE, RUN, "/published|audit|state.jobs/", 6),
    "canary": (SERVE, RUN, ANY, 6),
    "take back": (SERVE, RUN, AFTER, 6),
    "rollback": (ROLLBACK, "", ANY, 5),
    "promote": (PROMOTE, "", ANY, 5),
    "approve": (APPROVE, "", ANY, 4),
}
POINTS = [(name, number) for name, scene in SCENES.items() for number in range(scene[-1])]
#: The kills of one copy: those of a scene one after the other, and of a withdrawal, which is begun once, one.
COPIES: dict[str, list[tuple[str, int]]] = {}
for point in kill_points(POINTS):
    COPIES.setdefault(f"{point[0]} {point[1]}" if point[0] == "take back" else point[0], []).append(point)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The repository, to be copied, and the model behind its endpoint."""
    model = FakeModel()
    folder = tmp_path_factory.mktemp("served")
    with endpoint(speaking(model)) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, "k-123")
        root = served_repository(folder / "clone", url)
        (root / ".venv").symlink_to(sys.prefix)
        be_due(root)
        yield Clone.at(folder), model


def prepared(scene: str, root: Path) -> None:
    """Bring a copy to where the scene begins."""
    order = {"show": False, "commit": True, "clock": FakeClock("2026-11-20T00:00:00Z")}
    if scene == "canary":
        promote(root, "job/answers@2", ReleaseOptions(label="canary", share=0.5, **order))
    elif scene in {"take back", "rollback"}:
        promote(root, "job/answers@2", ReleaseOptions(label="production", **order))
    if scene == "take back":
        (root / "regressed").write_text("2")
    if scene == "approve":
        command = [sys.executable, "-m", "workbench.cli", "evidence", "trust", "--role", "approver"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        saved(root, "Trusted keys")


@pytest.mark.parametrize("points", COPIES.values(), ids=COPIES)
def test_after_the_kills_each_slot_has_one_output_that_is_paid_once(served, tmp_path, monkeypatch, points):
    clone, model = served
    scene = points[0][0]
    if scene == "approve":
        monkeypatch.setenv("GIT_AUTHOR_NAME", "Bob")
        monkeypatch.setenv("GIT_AUTHOR_EMAIL", "bob@acme.example")
    left, copies = list(points), 0
    count = steps_of(Watched.of(clone, tmp_path / "whole"), scene)
    while left:
        copies += 1
        assert copies <= len(points) + TRIES, "kills do not come"
        watched = Watched.of(clone, tmp_path / str(copies))
        prepared(scene, watched.root)
        asked = len(model.calls)
        while left and not is_done(watched.root, scene):
            if killed_once(watched, scene, left[0][1], count, again=copies):
                del left[0]
        finish(watched, scene)
        check_labels(watched.root, scene)
        check_slots(watched.root)
        check_memory(watched.root)
        check_spend(watched.root, len(model.calls) - asked, kills=len(watched.kills))
        check_audit(watched.root)
        check_nothing_is_left(watched)
    print(f"{scene}: {len(points)} kills, all at their steps, in {copies} copies")


def steps_of(watched: Watched, scene: str) -> int:
    """How many of the steps among which one is chosen the victim of a scene takes when nothing kills it."""
    command, victim, among, _ = SCENES[scene]
    prepared(scene, watched.root)
    if scene != "take back":  # its victim is the run whose output is rolled back
        order_slot(watched.root, 0)
    assert watched.run(*command, victim=victim) in {0, 1}, watched.said()
    return sum(bool(re.search(among[1:-1], step)) for step in watched.steps)


def killed_once(watched: Watched, scene: str, number: int, count: int, *, again: int) -> bool:
    """Kill the victim of the scene at one of `count` steps, which the seed and the number choose.

    A command may end before it comes to the step: the kill before it may leave less to do. Then one of the
    steps that it did take is chosen, for the same command on a new slot, until the kill comes. Return False
    when the command has done all without a kill: then the next copy is killed.
    """
    command, victim, among, _ = SCENES[scene]
    chance = random.Random(f"{SEED} {scene} {number} {again}" if again > 1 else f"{SEED} {scene} {number}")
    for tried in range(TRIES):
        if command == SERVE and scene != "take back":
            order_slot(watched.root, 1 + number + len(POINTS) * tried)
        kill = f"{among} #{chance.randrange(count)}"
        code = watched.run(*command, kill=kill, victim=victim)
        assert code in ({0, 1} if victim else {0, 1, -signal.SIGKILL}), watched.said()
        print(f"{scene} {number}: told {kill} of {count}, ended with {code}: {watched.steps[-1:]}")
        if watched.was_killed:
            watched.kills.append(kill)
            return True
        if is_done(watched.root, scene):
            return False
        count = max(1, min(count, sum(bool(re.search(among[1:-1], step)) for step in watched.steps)))
    raise AssertionError(f"{scene} {number}: no kill came in {TRIES} tries\n{watched.said()}")


def is_done(root: Path, scene: str) -> bool:
    """Whether a killed command has done all: `rollback` again would go further back. A server never has."""
    if SCENES[scene][0] == SERVE:
        return False
    try:
        check_labels(root, scene)
    except AssertionError:
        return False
    return True


def finish(watched: Watched, scene: str) -> None:
    """The same command again unless it has done all, then a server, until nothing is waiting."""
    command = SCENES[scene][0]
    if command != SERVE and not is_done(watched.root, scene):
        watched.finished(*command)
    ledger = open_ledger(watched.root, SystemClock())
    for _ in range(10):
        code = watched.run(*SERVE)
        assert code in {0, 1}, watched.said()
        if not ledger.unfinished():
            return
        time.sleep(0.2)  # a retry waits for its time
    raise AssertionError(f"stuck: {ledger.unfinished()}\n{watched.said()}")


def check_labels(root: Path, scene: str) -> None:
    """The label's moves are those of one command, and all is committed."""
    moves = [(move.label, move.version) for move in registry.load(root, "job", "answers").moves]
    first, second = ("production", 1), ("production", 2)
    expected = {
        "canary": [first, ("canary", 2)], "take back": [first, second, first],
        "rollback": [first, second, first], "promote": [first, second],
    }  # fmt: skip
    assert moves == expected.get(scene, [first])
    assert git(root, "status", "--porcelain") == ""
    if scene == "approve":
        found = approvals_of(root, "answers", 2, "production", now=SystemClock().now())
        assert len(found.counted) == 1 and not found.refused
        assert len(list((root / "pipelines/evidence/answers/2").glob("approval-*"))) == 1
    if scene == "take back":
        assert len(list((root / "pipelines/evidence/answers/2").glob("withdrawal-*"))) == 1
        assert not list((root / ".workbench/state").rglob("answers@2.json")), "an order is left"


def check_slots(root: Path) -> None:
    """Each slot has one output, which its manifest and one line of the ledger name; others say why not."""
    ledger = open_ledger(root, SystemClock())
    assert ledger.unfinished() == [] and ledger.servers() == []
    runs = [
        run for run in ledger.history(limit=1_000) if run.role == "production" and run.outcome != "missed"
    ]
    published = {run.slot.key: run for run in runs if run.outcome == "published"}
    assert published and published.keys() == {run.slot.key for run in runs}
    assert len(published) == sum(run.outcome == "published" for run in runs)
    outputs = {path.parent for path in (root / "published").rglob("manifest.json")}
    assert outputs == {root / run.folder for run in published.values()}
    for run in published.values():
        manifest = publishing.read(root / run.folder)
        assert (manifest.run, manifest.version) == (run.run, run.version)
        assert manifest.counts["rows"] == manifest.counts["answered"] == run.rows == 4
        assert (run.cost_usd, manifest.cost_usd) == (manifest.cost_usd, run.cost_usd)
    for run in ledger.history(limit=1_000):
        assert run.state == "lost" or run.detail or run.outcome in {"published", "unchanged"}, run
        assert run.outcome in {
            "",
            "published",
            "unchanged",
            "missed",
            "failed",
            "rolled_back",
            "interrupted",
        }, run
    told = [(item.key, item.event) for item in ledger.notices(limit=1_000)]
    assert len(told) == len(set(told))
    kept = root / ".workbench/told.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    assert [line for line, count in collections.Counter(lines).items() if count > 1] == []


def check_memory(root: Path) -> None:
    """Each published slot has remembered each of its rows once, in the words of the version that published.

    What a canary answers is in its own words.
    """
    history = open_ledger(root, SystemClock()).history(limit=1_000)
    runs = [run for run in history if run.outcome == "published"]
    ws = wb.connect("answers", root=root)
    items = wb._sync.run(ws.memory("notes").view.items())
    ws.close()
    said = collections.Counter(tuple(item.text.split(": ", 1)) for item in items)
    asked = {row["question"] for row in ROWS if row["tenant"] == "acme"}
    slots = [run.version for run in runs if run.role == "production"]
    counts = collections.Counter(dict.fromkeys(asked, 0))
    for (_, question), count in said.items():
        counts[question] += count
    assert counts == {question: len(slots) for question in asked}
    if not any(run.role == "canary" for run in runs):
        versions = collections.Counter(map(str, slots))
        assert said == {(number, q): count for number, count in versions.items() for q in asked}


def check_spend(root: Path, requests: int, *, kills: int) -> None:
    """What the endpoint answered is recorded once and in the budget once; a killed call may be under way."""
    ws = wb.connect("answers", root=root)
    calls = ws.calls()
    [budget] = [line for line in ws.budget().lines if line.measure == "calls"]
    ws.close()
    ok = [
        call["trace_id"] for call in calls.to_dicts() if call["outcome"] == "ok" and call["source"] == "model"
    ]
    assert len(set(ok)) == len(ok) <= requests <= len(ok) + 4 * kills
    assert len(ok) <= budget.spent + budget.reserved <= requests + 4 * kills
    labels = (call["labels"] for call in calls.to_dicts() if call["outcome"] == "ok")
    assert all(labels)


def check_audit(root: Path) -> None:
    """The chain of the audit log verifies, and each act that began has ended or was cut off by a kill."""
    public = root / ".workbench/public.pem"
    public.write_bytes(Signer.load(root / AUDIT_KEYS).public_pem())
    found = verify(root / AUDIT, [public])
    assert found.passed and found.rows, str(found)


def check_nothing_is_left(watched: Watched) -> None:
    """No process, no lock, no file of a dead writer and no input of a dead run."""
    end = time.monotonic() + 60
    while found := processes_of(watched):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    root = watched.root
    rooms = ("pipelines", "published")
    dots = [path for room in rooms for path in (root / room).rglob(".*") if path.name != ".gitkeep"]
    assert dots == [] and list((root / ".workbench/cache/jobs").glob("*")) == []
    assert list((root / ".git").rglob("*.lock")) == []
    assert [path for path in (root / ".workbench/state/jobs").rglob("*") if path.is_file()] == []


def processes_of(watched: Watched) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            ours = str(watched.beside) in process.environ().get("PYTHONPATH", "")
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
