"""The command `workbench memory`: maintain a memory with the same verbs as in notebooks."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import config
from workbench.cli.output import check_names, check_out, say
from workbench.errors import ConfigError

if TYPE_CHECKING:  # late elsewhere: each command of `workbench` imports this file
    from workbench.workspace.memory_admin import Memories, Which

_SUGGEST = "workbench memory suggest handbook -n 20 --out drafts.jsonl"


def _about(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select a memory, and --json; the command takes `which` and `as_json`."""

    @click.option("--use-case", metavar="NAME", help="The use case; by default the only one.")
    @click.option("--memory", metavar="NAME", help="NAME or NAME@VERSION; by default the use case's own.")
    @click.option("--tenant", metavar="NAME", help="The tenant; by default all tenants of the use case.")
    @click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
    @functools.wraps(command)
    def with_which(*, use_case: str | None, memory: str | None, tenant: str | None, **given: Any) -> None:
        from workbench.workspace.memory_admin import Which

        command(which=Which(use_case=use_case, memory=memory, tenant=tenant), **given)

    return with_which


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select ids, a subject or a source."""
    command = click.option("--id", "ids", multiple=True, metavar="ID", help="An item's id; repeatable.")(
        command
    )
    command = click.option("--source", metavar="NAME", help="All items from this source.")(command)
    return click.option("--subject", metavar="NAME", help="All items about this subject.")(command)


@click.group()
def memory() -> None:
    """Ingest, compare, restore and forget the items of a memory.

    Every command works on the use case's memory and all its tenants, unless --memory or --tenant is given.
    """


def _keep_former_name(name: str, command: click.Command) -> None:
    """Add `name` as a hidden alias of a renamed command."""
    former = f"The former name of `{command.name}`."
    memory.add_command(
        click.Command(name, params=command.params, callback=command.callback, help=former, hidden=True)
    )


@memory.command()
@click.argument("source", metavar="[DIR]", required=False)
@_about
def ingest(*, source: str | None, which: Which, as_json: bool) -> None:
    """Replace the memory's documents by the pages in DIR (default: its own source), as a new version.

    Unchanged pages create no version. After an interrupt the next call continues. Example:

        workbench memory ingest --use-case answers
    """
    from workbench.retrieval.reading import told

    with _open(which) as memories:
        done = memories.ingest(source)
    left_out = next((counts.left_out for counts in done.values()), ())
    lines = [
        f"{tenant}: version {counts.version}: {counts.added} added, {counts.unchanged} unchanged, "
        f"{counts.replaced} replaced"
        + (f"; {counts.other_tenants} pages of other tenants skipped" if which.tenant else "")
        for tenant, counts in done.items()
    ] + told(left_out)
    say(done, "\n".join(lines), as_json=as_json)


@memory.command()
@click.argument("folder", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))
@_about
def snapshot(*, folder: Path | None, which: Which, as_json: bool) -> None:
    """Write the active version to files with a digest, which any store can restore.

    FOLDER is by default below .workbench/state/snapshots, the fallback of an unavailable server. Example:

        workbench memory snapshot backup/handbook
    """
    if folder is not None:
        check_names(folder, again="workbench memory snapshot backup")
    with _open(which) as memories:
        done = memories.snapshot(folder)
    items = ", ".join(f"{tenant} {number}" for tenant, number in done.items.items())
    say(done, f"{done.folder}: {items} items, digest {done.digest[:12]}", as_json=as_json)


@memory.command()
@click.argument("before", metavar="[V1]", type=int, required=False)
@click.argument("after", metavar="[V2]", type=int, required=False)
@click.option("--sources", is_flag=True, help="Compare the active version with the current sources.")
@_about
def diff(*, before: int | None, after: int | None, sources: bool, which: Which, as_json: bool) -> None:
    """Show the sources added, removed and changed from version V1 to V2, or since the last ingest.

    Without versions, --sources compares the active version with the files on disk. Example:

        workbench memory diff 1 2 --tenant acme
    """
    if sources in {before is not None, after is not None}:
        raise ConfigError(
            "diff takes two versions, or --sources without versions", hint="workbench memory diff --sources"
        )
    with _open(which) as memories:
        if before is None or after is None:
            found = memories.each(lambda handle: handle.diff_sources())
        else:
            handle = memories.one(f"diff {before} {after}")
            found = {handle.tenant: handle.diff(before, after)}
    text = "\n".join(map(str, found.values()))
    say({tenant: change.to_json() for tenant, change in found.items()}, text, as_json=as_json)


@memory.command()
@click.argument("what", metavar="VERSION|FOLDER")
@_about
def restore(*, what: str, which: Which, as_json: bool) -> None:
    """Make an earlier VERSION active again, or the snapshot in FOLDER; nothing is embedded.

    Forgotten items stay forgotten. Example:

        workbench memory restore 3 --tenant acme
    """
    check_names(Path(what), again="workbench memory versions")
    with _open(which) as memories:
        if what.isdecimal():
            handle = memories.one(f"restore {what}")
            done = {handle.tenant: handle.restore(int(what))}
        else:
            done = memories.restore(Path(what))
    lines = [
        f"{tenant}: version {counts.version} active: {counts.added} items added, {counts.replaced} removed, "
        f"{counts.episodic} items written by use restored"
        for tenant, counts in done.items()
    ]
    say(done, "\n".join(lines), as_json=as_json)


@memory.command()
@_chosen
@click.option("--expired", is_flag=True, help="All expired items.")
@click.option("--dry-run", is_flag=True, help="Count the items; forget nothing.")
@_about
def forget(*, expired: bool, dry_run: bool, which: Which, as_json: bool, **named: Any) -> None:
    """Forget items, and the items derived from them, in every version at once.

    Recorded answers with their texts are removed from the journals below .workbench.
    Exit 1 when items under legal hold stay. Example:

        workbench memory forget --tenant acme --subject ann --dry-run
    """
    how = _selected(named)
    with _open(which) as memories:
        if expired:
            done = memories.each(lambda handle: handle.forget(**how, expired=True, dry_run=dry_run))
        else:
            handle = memories.one("forget …")
            done = {handle.tenant: handle.forget(**how, dry_run=dry_run)}
    word = "would be forgotten" if dry_run else "forgotten"
    lines = [
        f"{tenant}: {counts.items} items {word}, {counts.derived} of them derived"
        + (f"; {counts.journal_entries} recorded answers removed" if counts.journal_entries else "")
        + (f"; {counts.held} are under legal hold and stay: workbench memory release" if counts.held else "")
        for tenant, counts in done.items()
    ]
    say(done, "\n".join(lines), as_json=as_json)
    sys.exit(1 if any(counts.held for counts in done.values()) else 0)


@memory.command()
@_chosen
@_about
def hold(*, which: Which, as_json: bool, **named: Any) -> None:
    """Put ids, a subject or a source under legal hold: no command removes their items, later ones included.

    Example: workbench memory hold --tenant acme --subject ann
    """
    with _open(which) as memories:
        handle = memories.one("hold …")
        done = {handle.tenant: handle.hold(**_selected(named))}
    lines = [f"{tenant}: {number} items are under this hold" for tenant, number in done.items()]
    say(done, "\n".join(lines), as_json=as_json)


@memory.command()
@_chosen
@_about
def release(*, which: Which, as_json: bool, **named: Any) -> None:
    """End the legal hold made with the same options.

    Example: workbench memory release --tenant acme --subject ann
    """
    with _open(which) as memories:
        handle = memories.one("release …")
        done = {handle.tenant: handle.release(**_selected(named))}
    lines = [f"{tenant}: this hold had {number} items" for tenant, number in done.items()]
    say(done, "\n".join(lines), as_json=as_json)


@memory.command()
@_about
def purge(*, which: Which, as_json: bool) -> None:
    """Remove expired items, which no search finds, and versions that the spec does not keep.

    Example, for a timer: workbench memory purge --use-case answers
    """
    with _open(which) as memories:
        done = memories.each(lambda handle: handle.purge())
    lines = [
        f"{tenant}: {counts.expired} expired, {counts.outdated} of old versions removed; {counts.held} held"
        for tenant, counts in done.items()
    ]
    say(done, "\n".join(lines), as_json=as_json)


_keep_former_name("sweep", purge)


@memory.command()
@_about
def versions(*, which: Which, as_json: bool) -> None:
    """List the kept versions, oldest first; the last is active.

    Example: workbench memory versions --tenant acme
    """
    with _open(which) as memories:
        done = memories.each(lambda handle: handle.versions())
    lines = [
        f"{tenant}: version {version.number}  {version.at}  {version.items} items  {version.content[:12]}"
        for tenant, found in done.items()
        for version in found
    ]
    text = "\n".join(lines) or "no version yet; next: workbench memory ingest"
    say(done, text, as_json=as_json)


@memory.command()
@_about
def stats(*, which: Which, as_json: bool) -> None:
    """Count the items by kind and state, and show the store's settings.

    Example: workbench memory stats
    """
    with _open(which) as memories:
        done = memories.each(lambda handle: handle.stats())
    lines = [
        f"{tenant} ({counts.store}): version {counts.version}, {counts.items} items active, "
        f"{counts.stored} stored, {counts.staged} staged, {counts.expired} expired, {counts.held} held; "
        f"{_listed(counts.by_kind)}\n  embedding {counts.embedding or 'none'} "
        f"({counts.dimensions or 0} dimensions); {_listed(counts.facts)}"
        for tenant, counts in done.items()
    ]
    say(done, "\n".join(lines), as_json=as_json)


@memory.command()
@click.argument("text")
@click.option("-k", type=int, default=5, show_default=True, help="At most this many passages.")
@click.option("--version", type=int, metavar="V", help="Search an earlier version.")
@click.option("--as-of", metavar="DAY", help="Passages valid on this day, as YYYY-MM-DD.")
@_about
def search(*, text: str, which: Which, as_json: bool, **how: Any) -> None:
    """Search for TEXT in one tenant (by default the first), with your own permissions.

    Example: workbench memory search "who pays for taxis" --version 1
    """
    with _open(which) as memories:
        handle = memories.first()
        found = handle.search(text, **how)
    say(list(found), f"{handle.spec}, tenant {handle.tenant}\n{found}", as_json=as_json)


@memory.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("-n", type=int, default=20, show_default=True, help="At most this many cases.")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed drafts other cases.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write all drafts to FILE.")
@_about
def suggest(*, name: str | None, n: int, seed: int, out: Path | None, which: Which, as_json: bool) -> None:
    """Draft questions with accepted answers from the documents of the memory NAME.

    Every draft says that it is synthetic. Read FILE and delete the lines that are no good, then:
    workbench init NAME --docs DIR --questions FILE. Example:

        workbench memory suggest handbook -n 20 --out drafts.jsonl
    """
    if name is not None and which.memory is not None:
        raise ConfigError("the memory is named twice", hint=f"workbench memory suggest {which.memory}")
    if out is not None:
        check_out(out, again=_SUGGEST)
        if out.exists():
            raise ConfigError(f"--out: {out} exists and is not replaced", hint=_SUGGEST)
    with _open(dataclasses.replace(which, memory=name or which.memory)) as memories:
        drafts = memories.suggest(n, seed=seed)
    text = drafts.text("" if out else _SUGGEST)
    if out is not None:
        if not len(drafts):
            raise ConfigError(f"no case can be drafted: {'; '.join(drafts.reasons)}", hint=_SUGGEST)
        saved = drafts.accept(*drafts.ids).save(out)
        text += f"\n\nNobody has read these drafts: delete the bad lines.\n\n{saved}"
    say(drafts.to_json(), text, as_json=as_json)


@memory.command()
@_about
def deactivate(*, which: Which, as_json: bool) -> None:
    """Deactivate tenants on a server: they take no memory there until their next use.

    Example: workbench memory deactivate --tenant acme
    """
    from workbench.workspace import memory_admin

    number = memory_admin.deactivate(config.find_root(), which)
    result = {"deactivated": number, "rested": number}  # `rested` is the former name
    say(result, f"{number} tenants deactivated; their next use activates them", as_json=as_json)


_keep_former_name("rest", deactivate)


def _as_administrator(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--admin-key-env",
        default="WEAVIATE_ADMIN_KEY",
        show_default=True,
        metavar="NAME",
        help="The environment variable that holds an administrator's key.",
    )(command)


@memory.command()
@_as_administrator
@_about
def grant(*, admin_key_env: str, which: Which, as_json: bool) -> None:
    """Create a key for each tenant, with which the server opens that tenant only.

    Each key is printed once and not stored; a tenant's older key becomes invalid. With
    memory_api_key_env: WEAVIATE_KEY_{tenant} in params.yaml every tenant's calls use its own key. Example:

        workbench memory grant --tenant acme
    """
    from workbench.workspace import memory_admin

    keys = memory_admin.grant(config.find_root(), which, admin_key_env=admin_key_env)
    lines = [f"export WEAVIATE_KEY_{config.variable_part(tenant)}={key}" for tenant, key in keys.items()]
    say(keys, "\n".join(lines), as_json=as_json)


@memory.command()
@_as_administrator
@_about
def revoke(*, admin_key_env: str, which: Which, as_json: bool) -> None:
    """Revoke each tenant's key; the server refuses it from then on.

    Example: workbench memory revoke --tenant acme
    """
    from workbench.workspace import memory_admin

    done = memory_admin.revoke(config.find_root(), which, admin_key_env=admin_key_env)
    lines = [f"{tenant}: {'key revoked' if revoked else 'no key found'}" for tenant, revoked in done.items()]
    say(done, "\n".join(lines), as_json=as_json)


def _open(which: Which) -> Memories:
    from workbench.workspace.memory_admin import Memories

    return Memories(config.find_root(), which)


def _selected(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value or None for name, value in named.items()}


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "nothing"
