"""`workbench audit …`: show, verify, export and purge the log of calls and acts; explain decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import config, layout
from workbench.cli.output import Json, say
from workbench.cli.output import show as show_result
from workbench.cli.retention import purge_day
from workbench.display import Card
from workbench.errors import NotFoundError

if TYPE_CHECKING:
    from workbench.records.calls import Chosen


@click.group()
def audit() -> None:
    """Read the audit log: one row for each call and act, without content or names of people.

    docs/audit.md explains the rows, and what verifying proves.
    """


@audit.command("show")
@click.option("--since", metavar="TIME", help="Only rows from this day or time on: 2026-11-24.")
@click.option("--principal", default="", metavar="NAME", help="Only rows of this person or job.")
@click.option("--tenant", default="", metavar="NAME", help="Only rows of this tenant.")
@click.option("--action", default="", metavar="NAME", help="Only this operation or act: model.chat, promote.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many."
)
@Json()
def show(*, since: str | None, principal: str, tenant: str, action: str, limit: int, as_json: bool) -> None:
    """Show the newest rows of this repository's audit log.

    People are shown by their pseudonyms. Use cases that do not name you as an admin are left out; the last
    line says how many. Example:

        workbench audit show --action promote --since 2026-11-01
    """
    from workbench.audit import Filter, rows_of
    from workbench.identities.providers import principal_of_command
    from workbench.workspace.caller_identity import tenant_of_command
    from workbench.workspace.history import hidden_note, hidden_use_cases, moment_of
    from workbench.workspace.interrupted import recover_interrupted

    root = config.find_root()
    recover_interrupted(root)
    earliest = moment_of(since)
    which = Filter(
        since=earliest.isoformat(timespec="microseconds") if earliest else "",
        principal=principal, tenant=tenant_of_command(root, tenant) or "", action=action,
        hidden=hidden_use_cases(root, principal_of_command(root)),
    )  # fmt: skip
    folder = root / layout.AUDIT
    rows = rows_of(folder, which, root / layout.AUDIT_KEYS, limit=limit) if folder.is_dir() else []
    say(rows, _table(rows) + hidden_note(which.hidden), as_json=as_json)


@audit.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--public-key", "keys", multiple=True, required=True, type=click.Path(path_type=Path),
    help="The public key in this file signs it; repeatable after a change of keys.",
)  # fmt: skip
@click.option(
    "--checkpoint", "anchors", multiple=True, type=click.Path(path_type=Path),
    help="The log must contain the rows in this file, which was kept elsewhere; repeatable.",
)  # fmt: skip
@Json()
def verify(*, folder: Path, keys: tuple[Path, ...], anchors: tuple[Path, ...], as_json: bool) -> None:
    """Verify the audit log in FOLDER, on any machine; exit 1 names the first bad row.

    It needs the folder and the public key alone. Example:

        workbench audit verify .workbench/state/audit --public-key public.pem
    """
    from workbench.audit import verify as verified

    found = verified(folder, keys, anchors=anchors)
    show_result(found, as_json=as_json)
    if not found.passed:
        raise SystemExit(1)


@audit.command()
@Json()
def key(*, as_json: bool) -> None:
    """Print the public key that verifies this repository's audit log.

    An auditor needs it. Example:

        workbench audit key > public.pem
    """
    from workbench.audit.signing import Signer

    signer = Signer.load(config.find_root() / layout.AUDIT_KEYS)
    text = signer.public_pem().decode()
    say({"key": signer.key_id, "pem": text}, text.rstrip("\n"), as_json=as_json)


@audit.command()
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@Json()
def export(*, target: Path, as_json: bool) -> None:
    """Sign the log and copy it to the new folder DIR, with what an auditor needs.

    The keys stay. Example:

        workbench audit export audit-2026
    """
    from workbench.audit import chain_at
    from workbench.audit.export import export as exported

    folder = exported(chain_at(config.find_root()), target)
    again = f"workbench audit verify {folder / 'log'} --public-key {folder / 'public.pem'}"
    say({"folder": folder, "next": again}, f"wrote {folder}\nnext: {again}", as_json=as_json)


@audit.command()
@click.option("--before", metavar="DAY", help="Remove the rows of earlier days [default: by params.yaml].")
@Json()
def purge(*, before: str | None, as_json: bool) -> None:
    """Remove the rows of days before DAY, or older than retention.audit_days of params.yaml.

    The log states where it begins from then on, so that it still verifies. Example:

        workbench audit purge --before 2026-01-01
    """
    from workbench.audit import chain_at
    from workbench.audit.export import purge as purged
    from workbench.identities.providers import principal_of_command

    root = config.find_root()
    day = purge_day(root, before, command="audit")
    removed = purged(chain_at(root), day, by=principal_of_command(root))
    facts = {"before": day.isoformat(), "rows": removed}
    say(facts, f"removed {removed:,} audit rows of days before {day}", as_json=as_json)


@audit.command("explain")
@click.argument("name", metavar="ID")
@Json()
def explain(*, name: str, as_json: bool) -> None:
    """Explain the decision ID, or that of the call with the trace id ID: who, what, and by which policies.

    The error of a refused call names its decision. Calls of use cases that do not name you as an admin are
    left out. Example:

        workbench audit explain 5a27f2c09b1d3e48
    """
    from workbench.policy.engine import CedarPolicy
    from workbench.policy.explain import explain as explained
    from workbench.policy.recorded import find_decisions

    root = config.find_root()
    found = find_decisions(root, name, _visible(root))
    if not found:
        raise NotFoundError(
            f"no recorded decision that you may see has the id {name[:64]!r}",
            hint="workbench calls   # its trace ids; an error of a refused call names the decision",
        )
    show_result(explained(CedarPolicy.of(root), found[-1]), as_json=as_json)


@audit.command("what-if")
@click.argument("draft", type=click.Path(path_type=Path))
@click.option("--since", metavar="TIME", help="Only calls from this day or time on: 2026-11-24.")
@Json()
def what_if(*, draft: Path, since: str | None, as_json: bool) -> None:
    """Show which recorded decisions the policies in the folder DRAFT would change, by id.

    The recorded requests are decided again; nothing is called or changed. Use cases that do not name you as
    an admin are left out. Example:

        cp -r pipelines/policies draft   # then edit draft/*.cedar

        workbench audit what-if draft
    """
    from workbench.policy.engine import CedarPolicy
    from workbench.policy.recorded import recorded_decisions
    from workbench.policy.source import read_folder
    from workbench.policy.what_if import what_if as decided_again

    root = config.find_root()
    policy = CedarPolicy(read_folder(draft))
    found = decided_again(policy, recorded_decisions(root, _visible(root, since)), name=str(draft))
    show_result(found, as_json=as_json)


def _visible(root: Path, since: str | None = None) -> Chosen:
    """Return the calls that the user of this process may see."""
    from workbench.workspace.history import chosen_of_process, moment_of

    return chosen_of_process(root, since=moment_of(since))


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("row", "time", "activity", "operation", "resource", "who", "tenant", "status", "policies")
    if not rows:
        return "audit log: no rows"
    return Card(title="audit log, the newest last", head=head, rows=[_cells(row) for row in rows]).text()


def _cells(row: dict[str, Any]) -> list[str]:
    found = (
        row.get("seq"), str(row.get("time_dt", ""))[:19], row.get("activity"),
        (row.get("api") or {}).get("operation"), (row.get("resource") or {}).get("name"),
        (row.get("actor") or {}).get("uid"), row.get("tenant_uid"),
        row.get("status_detail") or row.get("status_code") or row.get("status"),
        ", ".join((row.get("decision") or {}).get("policies") or ()),
    )  # fmt: skip
    return ["" if value is None else str(value) for value in found]
