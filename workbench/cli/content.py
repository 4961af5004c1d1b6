"""`workbench content …`: list, open, erase and purge the sealed requests and answers."""

from __future__ import annotations

import dataclasses
import itertools

import click

from workbench import config, files
from workbench.cli.output import Json, say
from workbench.display import Card


@click.group()
def content() -> None:
    """Read the sealed requests and answers of calls: each opening is authorised and audited.

    A use case keeps them with `content: {keep: 30 days}` in params.yaml; docs/audit.md explains it.
    """


@content.command("list")
@click.option("--use-case", default="", metavar="NAME", help="Only content of this use case.")
@click.option("--tenant", default="", metavar="NAME", help="Only content of this tenant.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many."
)
@Json()
def listed(*, use_case: str, tenant: str, limit: int, as_json: bool) -> None:
    """Show what is kept, without opening it; use cases that do not name you as an admin are left out."""
    from workbench.identities.providers import principal_of_command
    from workbench.workspace.caller_identity import tenant_of_command
    from workbench.workspace.history import hidden_use_cases
    from workbench.workspace.opening import content_at

    root = config.find_root()
    store, hidden = content_at(root), hidden_use_cases(root, principal_of_command(root))
    tenant = tenant_of_command(root, tenant) or ""
    found = (
        entry for entry in store.entries()
        if use_case in ("", entry.use_case) and tenant in ("", entry.tenant) and entry.use_case not in hidden
    )  # fmt: skip
    entries = list(itertools.islice(found, limit))
    head = ("id", "time", "use case", "tenant", "class", "expires", "state")
    rows = [
        (
            entry.id, entry.at[:19], entry.use_case, entry.tenant, entry.data_class, entry.expires,
            "sealed" if store.is_readable(entry) else "erased",
        )
        for entry in entries
    ]  # fmt: skip
    text = Card(title="sealed content", head=head, rows=rows).text() if rows else "sealed content: none"
    say(entries, text, as_json=as_json)


@content.command("open")
@click.argument("id", metavar="ID")
@click.option("--reason", required=True, help="Why it is opened; kept with the content, sealed.")
@Json()
def opened(*, id: str, reason: str, as_json: bool) -> None:  # noqa: A002  the argument's name
    """Open the exact request and answer ID, which ws.why, ws.calls and the list show.

    The policies decide whether you may, and the audit log has the opening. Example:

        workbench content open 20261230-0123456789abcdef --reason "complaint 4711"
    """
    import workbench as wb
    from workbench.workspace.opening import content_at

    root = config.find_root()
    entry = content_at(root).entry(id)
    ws = wb.connect(entry.use_case, tenant=entry.tenant, root=root)
    sealed = ws.content(id, reason=reason)
    facts = {
        "id": id, "operation": sealed.operation, "request": sealed.request, "answer": sealed.answer,
        "openings": [dataclasses.asdict(opening) for opening in sealed.openings],
    }  # fmt: skip
    say(facts, files.pretty(facts).decode().rstrip("\n"), as_json=as_json)


@content.command()
@click.option("--tenant", required=True, metavar="NAME", help="The tenant of the subject.")
@click.option("--subject", required=True, metavar="ID", help="The person whom the content is about.")
@Json()
def erase(*, tenant: str, subject: str, as_json: bool) -> None:
    """Destroy the key of what is kept about a subject, so that nobody can read it again.

    The policies decide: you need the right to open content of every use case. `workbench memory forget
    --subject ID` does so too. Example:

        workbench content erase --tenant acme --subject cust-4711
    """
    from workbench.identities.providers import provider_of
    from workbench.workspace.caller_identity import tenant_of_command
    from workbench.workspace.opening import erase_subject

    root = config.find_root()
    tenant_of_command(root, tenant)
    found = provider_of(config.load_params(root).identity, root).identify()
    done = erase_subject(root, tenant, subject, found=found)
    text = "erased: its key is destroyed" if done else "nothing was kept about this subject"
    say({"erased": done}, text, as_json=as_json)


@content.command()
@Json()
def purge(*, as_json: bool) -> None:
    """Remove what has expired in all use cases, of which the policies must permit you to open content."""
    from workbench.identities.providers import identity_of_process
    from workbench.workspace.opening import purge_content

    root = config.find_root()
    removed = purge_content(root, found=identity_of_process(config.load_params(root).identity, root))
    say({"removed": removed}, f"removed {removed:,} expired entries", as_json=as_json)
