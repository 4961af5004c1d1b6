"""Measure jobs in production: `make bench ARGS=jobs`.

A server is measured in a process of its own. CPU is user and system. The ledger's figures are those of one
process that waits for the disk, in SQLite and in a PostgreSQL server on this machine.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import jobs_made
from benchmarks.measuring import Row, clone, run, timed
from workbench.context import SystemClock
from workbench.jobs.ledger import JobLedger, RunOrder, Slot
from workbench.jobs.ledger.postgres import PostgresLedger
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.layout import JOB_LEDGER

DEFINITIONS, TICKS, DECISIONS, RUNS, WAITING = 1_000, 1_000, 1_000, 100_000, 1_000
#: How often each operation of the ledger is timed.
TIMES = 50
NOT_MEASURED = "PostgreSQL is not installed: `apt-get install postgresql`"


def served() -> Iterator[Row]:
    """A server of 1,000 definitions: its start, its memory, and 100 slots that are due at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = jobs_made.repository(Path(name) / "many", DEFINITIONS)
        _child("start", folder)  # compiles what is not compiled
        found = min((_child("start", folder) for _ in range(3)), key=lambda each: each["cpu_s"])
        assert found["definitions"] == DEFINITIONS
        plain = _imports()
        value = f"{found['cpu_s']:.1f} s of CPU, of which {plain:.1f} s imports ({found['wall_s']:.1f} s)"
        yield (
            f"a server of {DEFINITIONS:,} definitions: start and first look",
            value,
            "<= 2 s",
        )
        shutil.rmtree(folder / ".workbench", ignore_errors=True)
        held = _child("ticks", folder)
        grown = held["mb_at_1000"] - held["mb_at_100"]
        done = f"{TICKS:,} ({held['runs']:,} runs)"
        value = f"{held['mb_at_100']:.0f} MB after 100 looks, {grown:+.1f} MB after {done}"
        yield "the same, with a run an hour each: memory", value, "flat"
        yield "the same: CPU a look, with 6 runs in each", f"{held['ms_a_tick']:.1f} ms", "reported"
        due = _child("due", Path(name))
    value = f"{due['last_s']:.2f} s to the last start ({due['cpu_s']:.2f} s of CPU)"
    yield "100 slots due at once, each started as a process", value, "<= 1 s"
    value = f"{due['ahead']} start"
    yield "the same with ten places: the most that one of ten jobs is ahead of another", value, "<= 1"


def _child(what: str, folder: Path) -> dict[str, float]:
    return json.loads(run(sys.executable, "-m", "benchmarks.jobs_served", what, str(folder)).splitlines()[-1])


def _imports() -> float:
    code = "import benchmarks.jobs_served, time; print(time.process_time())"
    return min(float(run(sys.executable, "-c", code)) for _ in range(3))


def warm() -> Iterator[Row]:
    """A run of a server with --warm, a cold one, and the same notebook by plain papermill, in turns."""
    found = json.loads(run(sys.executable, "-m", "benchmarks.jobs_warm").splitlines()[-1])
    value = (
        f"{found['warm'] / found['plain']:.2f}x ({found['warm']:.2f} s of {found['plain']:.2f} s; "
        f"cold {found['cold'] / found['plain']:.2f}x); both templates {found['mb']:.0f} MB"
    )
    what = "a run of a server with `--warm` against the same notebook by plain papermill, in CPU"
    yield what, value, "<= 0.25x"


def rollback() -> Iterator[Row]:
    """`workbench rollback` of a shipped job to the version before, whose environment is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = clone(Path(name) / "clone")
        jobs_made.installed(folder)
        before = os.times()
        seconds = timed(lambda: run("workbench", "rollback", "job/answers", cwd=folder))
        after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    yield "`workbench rollback job/answers`", f"{cpu:.1f} s of CPU ({seconds:.1f} s)", "<= 2 s"


def evidence() -> Iterator[Row]:
    """1,000 approvals of a version: signed, exported, and verified by the exporter's public key."""
    from workbench.attestations.verification import verify_export

    with tempfile.TemporaryDirectory() as name:
        begun = time.process_time()
        key = jobs_made.export(Path(name), DECISIONS)
        built = time.process_time()
        found = verify_export(Path(name), [key.key.public_key()])
        ended = time.process_time()
    assert found.passed and len(found.statements) == DECISIONS + 1, found.faults[:3]
    value = f"{ended - begun:.1f} s of CPU: {built - begun:.1f} s built, {ended - built:.1f} s verified"
    yield f"evidence of {DECISIONS:,} decisions", value, "<= 5 s"


def page() -> Iterator[Row]:
    """`reports/jobs.html` over 100,000 runs of one job in the window of its objective."""
    code = (
        "import time; from pathlib import Path; from workbench.pipeline.jobs_page import write_jobs_page;"
        "begun = time.process_time(); path = write_jobs_page(Path(), 'answers');"
        "print(time.process_time() - begun, path.stat().st_size)"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = clone(Path(name) / "clone")
        jobs_made.history(folder / JOB_LEDGER, RUNS, until=dt.datetime.now(dt.UTC), days=28)
        seconds, size = map(float, run(sys.executable, "-c", code, cwd=folder).split())
        ledger = SqliteLedger(folder / JOB_LEDGER, clock=SystemClock())
        begun = time.process_time()
        assert len(ledger.history("answers", limit=RUNS)) == RUNS
        read = time.process_time() - begun
    value = f"{seconds:.1f} s of CPU, of which {read:.1f} s read the ledger; {size / 1e3:.0f} KB"
    yield f"the page of a job with {RUNS:,} runs", value, "reported"


def ledgers() -> Iterator[Row]:
    """Operations of the ledger, with 1,000 runs that wait."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "jobs.db"
        yield _ledger("SQLite", lambda: SqliteLedger(place, clock=SystemClock()))
    with _postgres() as url:
        if url is None:
            yield "the job ledger in PostgreSQL", NOT_MEASURED, "reported"
        else:
            yield _ledger("PostgreSQL", lambda: PostgresLedger(url, clock=SystemClock()))


def _ledger(store: str, opened: Callable[[], JobLedger]) -> Row:
    ledger, at = opened(), dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
    slots = [
        Slot(job=f"job-{number % 100}", tenant="", at=at + dt.timedelta(hours=number // 100))
        for number in range(WAITING + TIMES)
    ]
    orders = [RunOrder(slot=slot, trigger="schedule") for slot in slots]
    costs = {"1,000 slots fired together": _cost(lambda: ledger.enqueue_all(orders[:WAITING]))}
    rest = iter(orders[WAITING:])
    costs["one fired"] = _mean(lambda: ledger.enqueue(next(rest)))
    runs = []
    costs["taken"] = _mean(lambda: runs.append(ledger.take("s", runs=WAITING, per_tenant=0)))
    own = iter(runs)
    costs["claimed"] = _mean(
        lambda: (taken := next(own)) and ledger.claim(taken.slot, run=taken.run, version=1, input_digest="i")
    )
    own = iter(runs)
    costs["started"] = _mean(lambda: ledger.started(next(own).run, os.getpid()))
    own = iter(runs)
    costs["finished"] = _mean(lambda: ledger.finished(next(own).run, "published", rows=1))
    costs["the last 50 read"] = _mean(lambda: ledger.history(limit=50))
    listed = ", ".join(f"{what} {wall:.1f} ({cpu:.1f})" for what, (wall, cpu) in costs.items())
    return f"the job ledger in {store}, {WAITING:,} runs waiting: ms (of them CPU)", listed, "reported"


def _cost(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of the clock and of CPU."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - begun) * 1e3, (time.process_time() - used) * 1e3


def _mean(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = _cost(lambda: [work() for _ in range(TIMES)])
    return wall / TIMES, cpu / TIMES


@contextmanager
def _postgres() -> Iterator[str | None]:
    """The URL of a server of this benchmark's own, which syncs to the disk; None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        yield None
        return
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        if user:
            shutil.chown(name, "postgres")

        def do(program: str, *arguments: str) -> None:
            command = [*user, str(found[-1].with_name(program)), "-D", f"{name}/data", *arguments]
            subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)

        do("initdb", "-U", "bench", "--auth=trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        do("pg_ctl", "-w", "-l", f"{name}/log", "-o", options, "start")
        try:
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            do("pg_ctl", "-w", "-m", "immediate", "stop")


PARTS = (served, warm, rollback, evidence, page, ledgers)


def rows() -> Iterator[Row]:
    """All rows of the table, each when it has been measured."""
    for part in PARTS:
        yield from part()
