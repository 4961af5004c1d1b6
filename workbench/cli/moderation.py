"""`workbench moderation …`: the answers that checks hold for review."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

import click

from workbench import config, layout
from workbench.cli.output import Json, say
from workbench.display import Card
from workbench.errors import RefusedError
from workbench.identities.providers import principal_of_command
from workbench.moderation.held import HeldAnswer, HeldAnswers

_reason = click.option("--reason", required=True, metavar="TEXT", help="Say why; it is kept with the answer.")


@click.group()
def moderation() -> None:
    """Review the answers that a check with `severity: hold` keeps back; docs/moderation.md explains them."""


@moderation.command()
@click.argument("held", metavar="[ID]", required=False)
@click.option("--all", "decided", is_flag=True, help="Show released and rejected answers too.")
@Json()
def held(*, held: str | None, decided: bool, as_json: bool) -> None:
    """Show the answers that wait for review, or one of them with its text.

    Use cases that do not name you as an admin are left out. Example:

        workbench moderation held
    """
    root = config.find_root()
    if held is not None:
        found = _checked(root, held)
        say(found, f"{_line(found)}\n\n{found.text}", as_json=as_json)
        return
    answers = HeldAnswers(folder=root / layout.HELD)
    seen = [each for each in answers.all() if _is_admin(root, each) and (decided or each.state == "waiting")]
    head = ("id", "at", "use_case", "tenant", "principal", "check", "state", "by")
    rows = [[getattr(each, name) for name in head] for each in seen]
    table = Card(title="held answers, the oldest first", head=head, rows=rows)
    text = table.text() if rows else "no answer waits for review"
    say([dict(zip(head, row, strict=True)) for row in rows], text, as_json=as_json)


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


def _decide(held: str, state: Literal["released", "rejected"], *, reason: str, as_json: bool) -> None:
    root = config.find_root()
    _checked(root, held)
    done = HeldAnswers(folder=root / layout.HELD).decide(
        held,
        state,
        by=principal_of_command(root).name,
        reason=reason,
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    facts = {"id": done.id, "state": done.state, "by": done.by, "reason": done.reason}
    say(facts, f"{state} {done.id} of {done.use_case}, tenant {done.tenant}", as_json=as_json)


def _checked(root: Path, held: str) -> HeldAnswer:
    """Return a held answer; raise RefusedError unless the user is an admin of its use case."""
    found = HeldAnswers(folder=root / layout.HELD).get(held)
    if not _is_admin(root, found):
        name = principal_of_command(root).name
        raise RefusedError(
            f"{name!r} may not review answers of {found.use_case!r}: this needs an admin of the use case",
            hint=f"ask an admin, or add {name!r} to use_cases.{found.use_case}.admins in params.yaml",
        )
    return found


def _is_admin(root: Path, held: HeldAnswer) -> bool:
    case = config.load_params(root).use_cases.get(held.use_case)
    who = principal_of_command(root)
    return case is not None and bool(case.rights(who.name, who.assurance)["admin"])


def _line(held: HeldAnswer) -> str:
    decided = f", {held.state} by {held.by}: {held.reason}" if held.by else ""
    return f"{held.id}  {held.at}  {held.use_case}, tenant {held.tenant}, by {held.check}{decided}"
