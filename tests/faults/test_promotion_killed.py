"""kill -9 at a step of promote, run, publish or rollback: the same command again finishes the work."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
import pytest
import sizes
from clone_edits import INBOX, SAMPLE, commit, runs
from clones import Clone
from killed_commands import Watched, drawn
from made_once import made_once
from sizes import kill_points

from workbench import files, layout, registry
from workbench.config import Limits
from workbench.jobs import publishing
from workbench.jobs import spec as jobspec
from workbench.processes import MARK
from workbench.promotion import release
from workbench.repository import dvc
from workbench.testing.fakes import FakeClock

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
#: Every run of the tests kills publishing at each of its steps (test_publishing_killed), a run of a job and
#: its server (test_jobs_killed), and a worker and its caller (test_worker_processes).
RUNS = pytest.mark.drawn("runs that are killed", 1)

SEED = 92  # draws the steps of each test, of which a run takes as many as its size says
PROMOTE = ("workbench", "promote", "job/answers")
ROLLBACK = ("workbench", "rollback", "job/answers")
RUN = ("workbench", "jobs", "run", "answers", "--input")
DAY = "2026-11-01"


@pytest.fixture(scope="module")
def in_production(promoted) -> Clone:
    """answers@1 in production and committed; to be copied."""
    return promoted.clone


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A clone whose job ran once, the steps of the run, and the digests of its output."""

    clone: Clone
    steps: list[str]
    output: dict[str, str]


@pytest.fixture(scope="module")
def ran(in_production, tmp_path_factory) -> Ran:
    """The sample of answers@1, run and published; to be copied."""

    def make(folder: Path) -> None:
        watched = Watched.of(in_production, folder)
        steps = watched.finished(*RUN, SAMPLE, "--at", DAY)
        (output,) = published(watched.clone)
        (folder / "ran.json").write_text(json.dumps({"steps": steps, "output": output}))

    folder = made_once(tmp_path_factory, "ran", make)
    return Ran(clone=Clone.at(folder), **json.loads((folder / "ran.json").read_text()))


def nothing_is_torn(root: Path) -> None:
    """What a reader may find is whole: every version, label, result and published output."""
    asset = registry.load_or_new(root, "job", "answers")
    for number in asset.versions:
        jobspec.load(root, "answers", number)
    for page in root.glob("pipelines/jobs/*/[0-9]*/job.yaml"):  # also of a folder that no label knows yet
        jobspec.check_files(page.parent, jobspec.read(page).files)
    for page in (root / layout.PROMOTED, root / "dvc.lock"):
        files.read_yaml(page)
    for output in outputs(root):
        publishing.read(output)
    for path in root.glob("results/**/*.json"):
        json.loads(path.read_bytes())


def nothing_is_left(root: Path) -> None:
    """No file of a dead writer, no input of a dead run, no process of one."""
    dots = [p for room in ("pipelines", "published", "results") for p in (root / room).rglob(".*")]
    assert [path for path in dots if path.name not in {".gitignore", ".gitkeep"}] == []
    assert list((root / ".workbench/cache/jobs").glob("*")) == []
    assert list(of_a_run(root)) == []


def of_a_run(root: Path, name: str = "") -> Iterator[psutil.Process]:
    """What lives of the runs of a clone and has this in its command."""
    for process in psutil.process_iter():
        try:
            told, command = process.environ(), " ".join(process.cmdline())
            ours = MARK in told and told.get("PYTHONPATH", "").startswith(str(root))
            if ours and name in command and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def outputs(root: Path) -> list[Path]:
    return sorted(root.glob("published/*/*/[!.]*"))


class Copies:
    """Copies of one clone, in which commands are killed."""

    def __init__(self, clone: Clone, folder: Path) -> None:
        self._clone, self._folder = clone, folder
        self._made: list[Watched] = []
        self._numbers = itertools.count()

    def new(self) -> Watched:
        """A copy of the clone as it was before any death."""
        watched = Watched.of(self._clone, self._folder / f"killed-{next(self._numbers)}")
        self._made.append(watched)
        return watched

    def killed(self, kills: list[str], work: Callable[[list[str]], None]) -> None:
        """Let `work` kill at these steps, a few in one copy, many in two at the same time."""
        shares = [kills] if len(kills) <= 3 else [kills[::2], kills[1::2]]
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(work, shares))
        assert sorted(kill for watched in self._made for kill in watched.kills) == sorted(kills)


# -- promote ----------------------------------------------------------------------------------------


def test_a_promotion_killed_at_a_step_is_finished_as_one_version(reproduced, promoted, tmp_path):
    expected = {**promotion_of(promoted.clone.copied(tmp_path)), "git": promoted.staged}
    copies = Copies(reproduced, tmp_path)

    def killed_and_finished(kills: list[str]) -> None:
        watched = copies.new()
        for kill in kills:
            if not watched.killed(*PROMOTE, kill=kill):  # the last death came after what a clone does once
                assert promotion_of(watched.clone) == expected
                watched = copies.new()
                assert watched.killed(*PROMOTE, kill=kill), f"{kill} was not come to"
            nothing_is_torn(watched.root)
        killed_while_dvc_runs(watched)
        nothing_is_torn(watched.root)
        watched.finished(*PROMOTE)
        assert dvc.running(watched.root) == []
        nothing_is_left(watched.root)
        assert promotion_of(watched.clone) == expected
        (line,) = (line for line in watched.said().splitlines() if line.startswith("next: git commit"))
        watched.clone.run(*shlex.split(line.removeprefix("next: ")))
        assert watched.clone.status() == ""

    # The second death of each copy is the one while DVC runs.
    copies.killed(sizes.drawn(drawn(promoted.steps, 12, seed=SEED), 1), killed_and_finished)


def killed_while_dvc_runs(watched: Watched) -> None:
    """Kill a promotion while DVC runs a stage for it: DVC ends with it, and the next one finishes at once."""
    (watched.root / "results/answers/gate.json").unlink()  # the stage before may be finished already
    promotion = watched.begun(*PROMOTE)
    wait_until(lambda: "Running stage 'gate@answers'" in watched.said(), promotion)
    promotion.kill()
    assert promotion.wait() == -signal.SIGKILL


def promotion_of(clone: Clone) -> dict[str, object]:
    """All that a promotion leaves, but who moved the label when."""
    asset = registry.load(clone.folder, "job", "answers")
    (move,) = asset.moves
    (number,) = asset.versions
    spec, folder = jobspec.load(clone.folder, "answers", number)
    sample = clone.folder / f"results/jobs/answers-{number}"
    assert jobspec.digests(sample) == spec.sample_outputs
    return {
        "page": spec,
        "label": (asset.labels, move.version, move.run),
        "files": jobspec.digests(folder),
        "git": clone.status(),
    }


def wait_until(happened: Callable[[], bool], process) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until and process.poll() is None, "it never came to that"
        time.sleep(0.02)


# -- jobs run ---------------------------------------------------------------------------------------


@RUNS
def test_a_run_killed_at_a_step_is_published_once(in_production, ran, tmp_path):
    copies = Copies(in_production, tmp_path)
    run = (*RUN, SAMPLE, "--at", DAY)

    def killed_and_finished(kills: list[str]) -> None:
        watched = copies.new()
        for kill in kills:
            if not watched.killed(*run, kill=kill):  # the last death came after its output was published
                assert published(watched.clone) == [ran.output]
                watched = copies.new()
                assert watched.killed(*run, kill=kill), f"{kill} was not come to"
            nothing_is_torn(watched.root)
        watched.finished(*run)
        nothing_is_left(watched.root)
        assert published(watched.clone) == [ran.output]

    copies.killed(kill_points(drawn(ran.steps, 10, seed=SEED)), killed_and_finished)


def published(clone: Clone) -> list[dict[str, str]]:
    """The digests of what each slot holds; the ledger must know each, and no run that is still alive."""
    book = runs(clone)
    assert {run.state for run in book} <= {"finished", "lost"}
    assert {run.outcome for run in book} <= {"published", "unchanged", ""}
    folders = {path.relative_to(clone.folder).as_posix() for path in outputs(clone.folder)}
    assert {run.folder for run in book if run.outcome} == folders
    kept = [path for path in (clone.folder / ".workbench/state/jobs").rglob("*") if path.is_file()]
    assert not kept, "answers are kept until they are published, and no longer"
    for copy in (clone.folder / ".workbench/cache/executed").glob("task-*"):
        cells = json.loads(copy.read_text())["cells"]
        assert not any(cell.get("outputs") for cell in cells), "what a run printed may hold rows"
    return [publishing.read(path).outputs for path in outputs(clone.folder)]


@RUNS
def test_a_replacement_killed_at_a_step_leaves_one_whole_output(ran, tmp_path):
    watched, old = Watched.of(ran.clone, tmp_path / "one"), ran.output
    sample = (watched.root / SAMPLE).read_text()
    last = json.loads(sample.splitlines()[-1])["id"]
    (watched.root / "other.jsonl").write_text(sample.replace(f'"{last}"', '"globex-009"'))
    replace = [(*RUN, rows, "--at", DAY, "--replace") for rows in ("other.jsonl", SAMPLE)]
    steps = watched.finished(*replace[0])
    (new,) = published(watched.clone)
    assert new.keys() == old.keys() and new != old

    kills = kill_points(drawn(steps, 4, seed=SEED, among="published"))
    for kill, run in zip(kills, itertools.cycle(reversed(replace)), strict=False):
        assert watched.killed(*run, kill=kill), f"{kill} was not come to after {watched.kills}"
        assert [publishing.read(path).outputs for path in outputs(watched.root)] in ([], [old], [new])
    assert watched.kills == kills
    watched.finished(*replace[0])
    nothing_is_left(watched.root)
    assert published(watched.clone) == [new]


# -- rollback ---------------------------------------------------------------------------------------


@pytest.mark.drawn("rollbacks that are killed", 1)
@pytest.mark.parametrize("commits", [(), ("--commit",)], ids=["staged", "committed"])
def test_a_rollback_killed_at_a_step_goes_back_once(in_production, tmp_path, commits):
    watched = Watched.of(in_production, tmp_path / "one")
    second_version(watched.clone)
    watched.finished(*ROLLBACK, *commits)
    watched.clone.run("git", "reset", "--quiet", "--hard", "second")
    steps = watched.finished(*ROLLBACK, *commits)  # a second time: without what a clone does once
    if commits:
        assert "rev-parse" in steps.pop()  # it is committed by then: again would go further back
    expected = rolled_back(watched.clone)
    assert expected["moves"] == [("production", 1), ("production", 2), ("production", 1)]
    kills = kill_points(drawn(steps, 4, seed=SEED))
    for kill in kills:
        watched.clone.run("git", "reset", "--quiet", "--hard", "second")
        assert watched.killed(*ROLLBACK, *commits, kill=kill)
        nothing_is_torn(watched.root)
        watched.finished(*ROLLBACK, *commits)
        nothing_is_left(watched.root)
        assert rolled_back(watched.clone) == expected, kill
    assert watched.kills == kills


def second_version(clone: Clone) -> None:
    """The first version again with another limit, in production and committed, where the tag `second` is."""
    root = clone.folder
    spec, folder = jobspec.load(root, "answers", 1)
    shutil.copytree(folder, folder.with_name("2"))
    page = dataclasses.replace(spec, version=2, limits=Limits(seconds=800)).text()
    (folder.with_name("2") / jobspec.PAGE).write_bytes(page)
    asset = registry.load(root, "job", "answers")
    entry = dataclasses.replace(asset.versions[1], digest=files.digest(page), parent=1)
    asset = dataclasses.replace(asset, versions={**asset.versions, 2: entry})
    release.move(root, asset, label="production", version=2, reason="a test's", run=None, clock=FakeClock())
    commit(clone, "A second version")
    clone.run("git", "tag", "second")


def rolled_back(clone: Clone) -> dict[str, object]:
    """All that a rollback leaves, but who moved the label when."""
    release.check_stages(clone.folder)
    return {
        "moves": [(move.label, move.version) for move in registry.load(clone.folder, "job", "answers").moves],
        "git": clone.status(),
        "commits": clone.run("git", "log", "--format=%s", "second.."),
    }


# -- the processes of a run ---------------------------------------------------------------------------


@RUNS
@pytest.mark.parametrize("victims", [("worker",), ("caller", "worker")], ids=" and ".join)
def test_killed_while_rows_are_answered_a_rerun_asks_for_the_rest(in_production, tmp_path, victims):
    watched = Watched.of(in_production, tmp_path / "one")
    pl.read_parquet(watched.root / INBOX).head(3).write_parquet(watched.root / "three.parquet")
    run = (*RUN, "three.parquet", "--at", DAY)
    caller = watched.begun(*run)
    wait_until(lambda: kept_answers(watched.root), caller)
    (worker,) = of_a_run(watched.root, "workbench.worker")
    found = {"caller": psutil.Process(caller.pid), "worker": worker}
    for name in victims:  # nobody hears of another's end before its own
        found[name].suspend()
    for name in victims:
        found[name].kill()
    code = caller.wait(timeout=60)
    (last,) = runs(watched.clone)
    if "caller" in victims:
        assert (code, last.state) == (-signal.SIGKILL, "running")
    else:
        assert code == 3 and "Traceback" not in watched.said()
        assert "the worker " in watched.said() and "run it again" in watched.said()
        assert (last.state, last.outcome) == ("finished", "failed")
        assert list(of_a_run(watched.root)) == []
    watched.finished(*run)
    nothing_is_left(watched.root)
    (output,) = outputs(watched.root)
    assert pl.read_parquet(output / "answers.acme.parquet").height == 3
    assert pl.read_parquet(output / "quarantine.parquet").is_empty()
    asked = answered_by_the_model(watched.root)
    assert len(set(asked)) == len(asked) >= 3 - 1  # one may be kept by the journal alone


def kept_answers(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in root.glob(".workbench/state/jobs/**/1.jsonl"))


def answered_by_the_model(root: Path) -> list[str]:
    """Rows of the inbox that the model itself answered, one entry for each time; no interrupted call."""
    calls = map(json.loads, (root / ".workbench/state/calls.jsonl").read_text().splitlines())
    asked = [call for call in calls if call["operation"] == "chat" and call["source"] == "model"]
    asked = [call for call in asked if call["outcome"] != "interrupted"]
    return [row for call in asked if (row := call["labels"].get("row", "")).startswith("q-")]
