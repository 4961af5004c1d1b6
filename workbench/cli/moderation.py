"""`workbench moderation …`: the answers that checks hold for review."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from workbench import config
from workbench.cli.output import Json, say
from workbench.display import Card

if TYPE_CHECKING:
    from workbench.moderation.held import HeldAnswer

_SHOWN = ("id", "at", "expires", "use_case", "tenant", "principal", "check", "state", "by", "reason")
_reason = click.option("--reason", required=True, metavar="TEXT", help="Say why; it is kept with the answer.")


@click.group()
def moderation() -> None:
    """Review the answers that a check with `severity: hold` keeps back; docs/moderation.md explains them."""


@moderation.command()
@click.argument("held", metavar="[ID]", required=False)
@click.option("--all", "decided", is_flag=True, help="Show released and rejected answers too.")
@Json()
def held(*, held: str | None, decided: bool, as_json: bool) -> None:
    """Show the answers that wait for review, or one of them with its text, which the audit log notes.

    Use cases that do not name you as an admin are left out. Example:

        workbench moderation held
    """
    root = config.find_root()
    from workbench.workspace.caller_identity import tenant_of_command
    from workbench.workspace.reviewing import held_answers, read_held

    if held is not None:
        found, texts = read_held(root, held)
        say({**_facts(found), "text": texts.text}, f"{_line(found)}\n\n{texts.text}", as_json=as_json)
        return
    answers, tenant = held_answers(root), tenant_of_command(root, None)
    chosen = [each for each in answers.all() if tenant in {None, each.tenant} and _is_admin(root, each)]
    seen = [each for each in chosen if decided or each.state == "waiting"]
    rows = [[getattr(each, name) for name in _SHOWN] for each in seen]
    table = Card(title="held answers, the oldest first", head=_SHOWN, rows=rows)
    text = table.text() if rows else "no answer waits for review"
    say([_facts(each) for each in seen], text, as_json=as_json)


@moderation.command()
@click.argument("held", metavar="ID")
@_reason
@Json()
def release(*, held: str, reason: str, as_json: bool) -> None:
    """Release a held answer: `ws.released(ID)` gives its text from then on.

    Example:
        workbench moderation release 5a27f2… --reason "a link of our own"

    """
    _decide(held, "released", reason=reason, as_json=as_json)


@moderation.command()
@click.argument("held", metavar="ID")
@_reason
@Json()
def reject(*, held: str, reason: str, as_json: bool) -> None:
    """Reject a held answer: its request and its texts are deleted.

    Example:
        workbench moderation reject 5a27f2… --reason "it names another customer"

    """
    _decide(held, "rejected", reason=reason, as_json=as_json)


@moderation.command()
@Json()
def purge(*, as_json: bool) -> None:
    """Remove the held answers that have expired, decided or not; each new held answer does so too.

    `keep_held: 30 days` of a use case's moderation states how long they are kept. Example:

        workbench moderation purge
    """
    from workbench.workspace.reviewing import held_answers

    removed = held_answers(config.find_root()).purge(dt.datetime.now(dt.UTC).date())
    say({"removed": removed}, f"removed {removed:,} held answers", as_json=as_json)


def _decide(held: str, state: Literal["released", "rejected"], *, reason: str, as_json: bool) -> None:
    from workbench.workspace.reviewing import decide_held

    done = decide_held(config.find_root(), held, state, reason=reason)
    say(_facts(done), f"{state} {done.id} of {done.use_case}, tenant {done.tenant}", as_json=as_json)


def _facts(held: HeldAnswer) -> dict[str, str]:
    """Return what a listing shows of an answer, without content."""
    return {name: getattr(held, name) for name in _SHOWN}


def _is_admin(root: Path, held: HeldAnswer) -> bool:
    from workbench.identities.providers import principal_of_command

    case = config.load_params(root).use_cases.get(held.use_case)
    who = principal_of_command(root)
    return case is not None and bool(case.rights(who.name, who.assurance)["admin"])


def _line(held: HeldAnswer) -> str:
    decided = f", {held.state} by {held.by}: {held.reason}" if held.by else ""
    return f"{held.id}  {held.at}  {held.use_case}, tenant {held.tenant}, by {held.check}{decided}"
