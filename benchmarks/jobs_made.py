"""Make what the benchmarks of jobs measure: many jobs, many runs, many decisions."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
from pathlib import Path

from benchmarks.measuring import ROOT, run
from workbench import files, layout, registry
from workbench.attestations import SigningKey, Statement, Subject, Trust, TrustedKey
from workbench.attestations.bundle import EXPORT
from workbench.attestations.verification import EXPORT_TYPE
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import RunOrder, Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.registry import Asset, Move, VersionEntry
from workbench.repository import environments
from workbench.repository.git import Repository
from workbench.testing.fakes import FakeClock

JOB = "answers"
NOON = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)
_LINE = (
    "INSERT INTO runs (run, job, tenant, at, version, input_digest, state, outcome, queued_at, started_at,"
    " finished_at, lease_until, rows, cost_usd, cause) VALUES (?, ?, '', ?, 7, 'i', 'finished', ?, ?, ?, ?,"
    " ?, 100, 0.02, 'schedule')"
)


def repository(folder: Path, jobs: int) -> Path:
    """A committed repository with this number of promoted jobs, each with its own schedule."""
    folder.mkdir()
    page = registry.resolve(ROOT, "job", f"{JOB}@production").path.read_text()
    assert "  cron: 0 6 * * *\n" in page
    for number in range(jobs):
        name = f"job-{number:04}"
        text = page.replace("  cron: 0 6 * * *\n", f"  cron: {number % 60} {number // 60}-23 * * *\n")
        path = registry.path_of(folder, "job", name, 1)
        path.parent.mkdir(parents=True)
        path.write_text(text)
        move = Move(label="production", version=1, by="Ada", at=NOON.isoformat(), reason="it passed")
        entry = VersionEntry(digest=files.digest(text.encode()), author="Ada", reason="it passed")
        asset = Asset(kind="job", name=name, versions={1: entry}, labels={"production": 1}, moves=(move,))
        registry.write(folder, asset)
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    (folder / ".gitignore").write_text("/.workbench/\n")
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", ".", cwd=folder)
    person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run("git", *person, "commit", "--quiet", "-m", "Start", cwd=folder)
    return folder


def history(path: Path, runs: int, *, until: dt.datetime, days: int) -> None:
    """Write the lines of this number of ended runs of one job, evenly over the days before a time."""
    clock = FakeClock(NOON.isoformat())
    SqliteLedger(path, clock=clock).enqueue_all([RunOrder(slot=Slot(job="other", tenant="", at=NOON))])
    every = dt.timedelta(days=days) / runs
    lines = []
    for number in range(runs):
        at = until - every * (runs - number)
        begun, ended = (at + dt.timedelta(seconds=seconds) for seconds in (1, 20 + number % 30))
        outcome = "failed" if number % 50 == 7 else "published"
        times = [moment.isoformat() for moment in (begun, begun, ended, ended)]
        lines.append((f"run-{number}", JOB, at.replace(microsecond=0).isoformat(), outcome, *times))
    with sqlite3.connect(path) as db:
        db.executemany(_LINE, lines)
    db.close()


def export(folder: Path, decisions: int) -> SigningKey:
    """Write an export of this number of approvals of one version; return the exporter's key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    ada, bob = (SigningKey(principal=name, key=Ed25519PrivateKey.generate()) for name in ("ada", "bob"))
    at = NOON.isoformat().replace("+00:00", "Z")
    page = b"job: answers\nversion: 7\n"
    subjects = (Subject(name="job.yaml", sha256=files.digest(page)),)
    stated = {}
    for number in range(decisions):
        predicate = {"at": at, "role": f"officer {number}", "job": JOB, "version": 7}
        approval = Statement(
            predicate_type="urn:workbench:approval:1", subjects=subjects, predicate=predicate
        )
        stated[f"statements/approval-{number}.dsse.json"] = bob.sign(approval).to_bytes()
    index = Statement(
        predicate_type="urn:workbench:evidence:1", subjects=subjects, predicate={"at": at, "built": "with"}
    )
    stated["statements/evidence.dsse.json"] = ada.sign(index).to_bytes()
    keys = [_trusted(ada, "promoter"), _trusted(bob, "approver")]
    trust = Trust(keys={key.id: key for key in keys}).to_bytes()
    contents = {"keys.yaml": trust, "version/job.yaml": page, **stated}
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    listed = tuple(Subject(name=name, sha256=files.digest(data)) for name, data in contents.items())
    said = {"at": at, "by": "ada", "job": JOB, "version": 7}
    exported = Statement(predicate_type=EXPORT_TYPE, subjects=listed, predicate=said)
    (folder / EXPORT).write_bytes(ada.sign(exported).to_bytes())
    return ada


def _trusted(key: SigningKey, role: str) -> TrustedKey:
    return TrustedKey(
        id=key.key_id, public=key.public_pem().decode(), principal=key.principal, roles=(role,),
        since="2026-06-01T00:00:00Z", until="2027-06-01T00:00:00Z",
    )  # fmt: skip


def resident_mb() -> float:
    """Return the memory of this process that is in RAM, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def installed(root: Path) -> None:
    """Let what stands for their environments be there for all versions of the job."""
    for number in registry.load(root, "job", JOB).versions:
        code = jobspec.code_of(root, jobspec.load(root, JOB, number)[0])
        lock = Repository(root=root).read(code, layout.LOCK) or b""
        folder = root / layout.ENVIRONMENTS / environments.digest(lock)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / environments.STAMP).write_bytes(lock)
        (folder / "bin/python").touch()
