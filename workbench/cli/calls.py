"""`workbench calls …`: the record of calls, what they cost, and what they did for their users."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import config, layout
from workbench.cli.output import Json, say, show
from workbench.cli.retention import purge_day
from workbench.display import Card

if TYPE_CHECKING:
    import polars as pl

    from workbench.records.calls import Chosen

_SHOWN = (
    "at", "tenant", "operation", "model", "outcome", "error", "source", "input_tokens", "output_tokens",
    "cost_usd", "session", "trace_id",
)  # fmt: skip
_since = click.option("--since", metavar="TIME", help="Only calls from this day or time on: 2026-11-24.")
_tenant = click.option("--tenant", metavar="NAME", help="Only calls of this tenant.")


@click.group(invoke_without_command=True)
@click.option("--trace", metavar="ID", help="Show the record of the call with this trace id.")
@_since
@_tenant
@click.option("--session", metavar="ID", help="Only calls of this session.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many."
)
@Json()
@click.pass_context
def calls(
    ctx: click.Context, /, *, trace: str | None, limit: int, as_json: bool, **which: str | None
) -> None:
    """Show the newest calls of this repository, without content; docs/records.md explains the columns.

    Use cases that do not name you as an admin are left out; the last line says how many. Examples:

        workbench calls --since 2026-11-24 --tenant acme

        workbench calls --trace 5a27f2…
    """
    if ctx.invoked_subcommand is not None:
        return
    from workbench.records.calls import find_calls, newest_calls
    from workbench.workspace.history import hidden_note

    root = config.find_root()
    chosen = _chosen(root, **which)
    if trace is not None:
        found = find_calls(root / layout.CALLS, trace, chosen)
        rows = _plain(found)
        text = "\n\n".join("\n".join(f"{name:>18}  {row[name]}" for name in row) for row in rows)
        say(rows, text or f"no call has the trace {trace[:64]}", as_json=as_json)
        return
    found, _ = newest_calls(root / layout.CALLS, chosen, limit=limit)
    text = _table("calls, the newest last", found.select(_SHOWN))
    say(_plain(found), text + hidden_note(chosen.hidden), as_json=as_json)


@calls.command()
@click.option(
    "--by", multiple=True, metavar="COLUMN", help="Sum by this; repeatable [default: tenant, model]."
)
@_since
@_tenant
@Json()
def costs(*, by: tuple[str, ...], as_json: bool, **which: str | None) -> None:
    """Show money, tokens and calls of models; a replayed or cached answer costs nothing.

    COLUMN is day, use_case, tenant, principal, purpose, job, run, session, operation, target, model, prompt,
    outcome, source or fallback. Example:

        workbench calls costs --by tenant --by day
    """
    from workbench.records.calls import intact, scan_calls
    from workbench.records.costs import costs_of

    root = config.find_root()
    log, chosen = root / layout.CALLS, _chosen(root, **which)
    with intact(log):
        found = costs_of(scan_calls(log, chosen), by or ("tenant", "model"))
    _say_found("costs", found, chosen, as_json=as_json)


@calls.command()
@_since
@_tenant
@Json()
def sessions(*, as_json: bool, **which: str | None) -> None:
    """Show the sessions of users: their calls, failures, tokens and money."""
    from workbench.records.calls import intact, scan_calls
    from workbench.records.costs import sessions_of

    root = config.find_root()
    log, chosen = root / layout.CALLS, _chosen(root, **which)
    with intact(log):
        found = sessions_of(scan_calls(log, chosen))
    _say_found("sessions", found, chosen, as_json=as_json)


@calls.command("would-refuse")
@_since
@_tenant
@Json()
def would_refuse(*, as_json: bool, **which: str | None) -> None:
    """Show what policies, checks, data rules and budgets that only observe would have refused.

    Each row is a rule: its calls, their share of the calls of the use case, and one of them. Example:

        workbench calls would-refuse --since 2026-11-24
    """
    from workbench.records.calls import intact, scan_calls
    from workbench.records.would_refuse import would_refuse_of

    root = config.find_root()
    log, chosen = root / layout.CALLS, _chosen(root, **which)
    with intact(log):
        found = would_refuse_of(scan_calls(log, chosen))
    _say_found("would have been refused", found, chosen, as_json=as_json)


@calls.command()
@click.argument("use_case", metavar="USE_CASE")
@click.option(
    "--events", type=click.Path(path_type=Path), help="Join the events of this file, CSV or Parquet."
)
@click.option(
    "--on", type=click.Choice(["trace_id", "session"]), default="trace_id", show_default=True, help="Join by."
)
@click.option("--by", multiple=True, metavar="COLUMN", help="Group by this; repeatable.")
@_since
@click.option("--save", is_flag=True, help="Write it as a file that the readiness page shows.")
@Json()
def impact(
    *, use_case: str, events: Path | None, on: Any, by: tuple[str, ...], since: str | None, save: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Show success, latency, cost and outcome of USE_CASE by group, with 95 % intervals.

    Outcomes are those that ws.outcome recorded, or the columns of numbers or booleans of --events. Example:

        workbench calls impact answers --events tickets.csv --on session
    """
    from workbench.workspace.saved_impact import measure, save_impact

    root = config.find_root()
    found = measure(root, use_case, events=events, on=on, by=by or ("tenant", "prompt", "model"), since=since)
    show(found, as_json=as_json)
    if save:
        path = save_impact(root, use_case, found).relative_to(root)
        click.echo(f"next: write  impact: {path}  under use_cases.{use_case} of params.yaml", err=as_json)


@calls.command()
@click.option("--before", metavar="DAY", help="Remove the calls of earlier days [default: by params.yaml].")
@Json()
def purge(*, before: str | None, as_json: bool) -> None:
    """Remove the calls and outcomes of days before DAY, or older than retention.calls_days of params.yaml.

    Decisions on promotions and other verbs go with them. Days are whole days of UTC. Nothing else removes a
    call. Example:

        workbench calls purge --before 2026-01-01
    """
    from workbench.policy.authorise import purge_decisions
    from workbench.records.outcomes import purge_outcomes
    from workbench.records.segments import purge as purge_calls

    root = config.find_root()
    day = purge_day(root, before, command="calls")
    removed = purge_calls(root / layout.CALLS, day)
    outcomes = purge_outcomes(root / layout.OUTCOMES, day)
    purge_decisions(root, day)
    facts = {"before": day.isoformat(), "calls": removed, "outcomes": outcomes}
    say(facts, f"removed {removed:,} calls and {outcomes:,} outcomes of days before {day}", as_json=as_json)


def _say_found(title: str, found: pl.DataFrame, chosen: Chosen, *, as_json: bool) -> None:
    """Print a table, and how many use cases it leaves out."""
    from workbench.workspace.history import hidden_note

    say(_plain(found), _table(title, found) + hidden_note(chosen.hidden), as_json=as_json)


def _chosen(root: Path, **which: str | None) -> Chosen:
    """Return the calls that the user of this process may see."""
    from workbench.workspace.history import chosen_of_process, moment_of
    from workbench.workspace.interrupted import recover_interrupted

    recover_interrupted(root)
    return chosen_of_process(
        root,
        tenant=which.get("tenant"),
        session=which.get("session"),
        since=moment_of(which.get("since")),
    )


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame in the types of JSON."""
    return [
        {name: value.isoformat() if isinstance(value, dt.date) else value for name, value in row.items()}
        for row in frame.to_dicts()
    ]


def _table(title: str, frame: pl.DataFrame) -> str:
    """Return a frame as a text table; None is an empty cell, and a time has whole seconds."""
    rows = [[_cell(value) for value in row] for row in frame.rows()]
    return Card(title=title, head=frame.columns, rows=rows).text() if rows else f"{title}: none"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    return value.isoformat(" ", "seconds") if isinstance(value, dt.datetime) else str(value)
