"""Open a repository's job ledger: a SQLite file, or PostgreSQL where pipelines/operations.yaml shares it."""

from __future__ import annotations

from pathlib import Path

from workbench import config
from workbench.config.operations import OPERATIONS, load_operations
from workbench.context import Clock
from workbench.errors import ConfigError
from workbench.jobs import publishing
from workbench.jobs.ledger.port import JobLedger
from workbench.jobs.ledger.runs import JobRun, Outcome, RunEnd
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.layout import JOB_LEDGER


def open_ledger(root: Path, clock: Clock) -> JobLedger:
    """Return the ledger of a repository; no file and no connection is opened yet.

    A run whose process died after it had published ends as published. ConfigError when operations.yaml shares
    the ledger and params.yaml names no database.
    """

    def end_of(run: JobRun) -> tuple[Outcome, RunEnd] | None:
        return published_end(root, run)

    if load_operations(root).ledger == "local":
        return SqliteLedger(root / JOB_LEDGER, clock=clock, end_of=end_of)
    from workbench.jobs.ledger.postgres import PostgresLedger  # a database alone needs its client

    params = config.load_params(root)
    if params.budget_url is None:
        raise ConfigError(
            f"{OPERATIONS}: ledger: shared needs the database that budget_url in params.yaml names",
            hint="set budget_url: postgresql://USER@HOST:PORT/DATABASE, or ledger: local",
        )
    variable = params.budget_password_env
    needed = f"ledger: shared in {OPERATIONS}"
    password = config.secret(variable, needed_by=needed) if variable else None
    return PostgresLedger(params.budget_url, password=password, clock=clock, end_of=end_of)


def published_end(root: Path, run: JobRun) -> tuple[Outcome, RunEnd] | None:
    """Return the end of a run whose output is published, by its manifest; None for every other run."""
    target = publishing.target_of(root, run.slot)
    manifest = publishing.published_by(target, run.run)
    if manifest is None:
        return None
    end: RunEnd = {
        "rows": manifest.counts.get("rows", 0),
        "quarantined": manifest.counts.get("quarantined", 0),
        "cost_usd": manifest.cost_usd,
        "folder": target.relative_to(root).as_posix(),
        "detail": f"process {run.pid} on {run.host} ended after it had published",
    }
    return "published", end
