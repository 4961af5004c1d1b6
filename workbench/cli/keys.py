"""`workbench keys …`: issue, list, show, rotate and revoke the API keys of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from workbench import config, files
from workbench.cli.output import Json, check_out, say
from workbench.context import SystemClock, instant
from workbench.display import Card
from workbench.errors import ConfigError
from workbench.identity import KeyBudget

if TYPE_CHECKING:
    from workbench.identities.api_keys import ApiKey, KeyRights
    from workbench.workspace.key_admin import IssuedKey

_SHOWN = ("id", "principal", "tenant", "use cases", "state", "expires", "last use")
_out = click.option(
    "--out", type=click.Path(path_type=Path), help="Write the secret to this new file and do not print it."
)


@click.group()
def keys() -> None:
    """Give out API keys: with one a program is an authenticated principal of the gateway.

    A key is kept as a hash, is limited to what it states, and can be rotated and revoked; docs/keys.md
    explains it.
    """


@keys.command()
@click.option(
    "--principal", required=True, metavar="NAME", help="Whom the key names, such as job:answers or ann."
)
@click.option(
    "--tenant", default="", metavar="NAME", help="Only this tenant [default: all of the use cases]."
)
@click.option(
    "--use-case", "use_cases", multiple=True, metavar="NAME", help="Only this use case; repeatable."
)
@click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="A group; repeatable [default: the use case's]."
)
@click.option("--clearance", type=click.IntRange(min=0), help="The clearance [default: the use case's].")
@click.option("--purpose", "purposes", multiple=True, metavar="NAME", help="Only this purpose; repeatable.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; repeatable.")
@click.option("--memory", "memories", multiple=True, metavar="NAME", help="Only this memory; repeatable.")
@click.option("--admin", is_flag=True, help="An admin where params.yaml names the principal as one.")
@click.option("--usd", type=float, help="The most that its calls may cost.")
@click.option("--tokens", type=int, help="The most tokens of its calls.")
@click.option("--calls", type=int, help="The most calls of models.")
@click.option(
    "--per", type=click.Choice(["day", "month"]), help="Renew the budget each day or month [default: never]."
)
@click.option("--days", type=int, default=90, show_default=True, help="End the key after so many days.")
@_out
@Json()
def issue(*, days: int, out: Path | None, as_json: bool, **stated: Any) -> None:
    """Issue a key, and print its secret once.

    With --principal alone it is for all use cases, tenants, purposes, models and memories of this
    repository. Start the gateway with `workbench gateway`. Example:

        workbench keys issue --principal job:answers --tenant acme --use-case answers --days 30
    """
    from workbench.workspace.key_admin import KeyAdmin

    rights = _rights(**stated)
    _check_new(out)
    _say_issued(KeyAdmin(config.find_root()).issue(rights, days=days, out=out), out=out, as_json=as_json)


@keys.command("list")
@click.option("--all", "ended", is_flag=True, help="Show expired and revoked keys too.")
@Json()
def listed(*, ended: bool, as_json: bool) -> None:
    """Show the keys, without their secrets.

    Keys of use cases that do not name you as an admin are left out.
    """
    from workbench.workspace.key_admin import KeyAdmin

    now = instant(SystemClock().now())
    found = [key for key in KeyAdmin(config.find_root()).listed() if ended or key.state(now) == "active"]
    rows = [_row(key, now) for key in found]
    text = (
        Card(title="API keys, the oldest first", head=_SHOWN, rows=rows).text() if rows else "API keys: none"
    )
    say([key.to_json(now) for key in found], text, as_json=as_json)


@keys.command()
@click.argument("id", metavar="ID")
@Json()
def show(*, id: str, as_json: bool) -> None:  # noqa: A002  the argument's name
    """Show what the key ID permits, until when, and when it was last used."""
    from workbench.workspace.key_admin import KeyAdmin

    facts = KeyAdmin(config.find_root()).find(id).to_json(instant(SystemClock().now()))
    rows = [(name, _text(value)) for name, value in facts.items() if value not in (None, "", False)]
    say(facts, Card(title=f"API key {id}", head=("field", "value"), rows=rows).text(), as_json=as_json)


@keys.command()
@click.argument("id", metavar="ID")
@click.option("--overlap", type=float, default=24.0, show_default=True, metavar="HOURS",
              help="End the old key after so many hours.")  # fmt: skip
@click.option("--days", type=int, help="End the new key after so many days [default: as the old one].")
@_out
@Json()
def rotate(*, id: str, overlap: float, days: int | None, out: Path | None, as_json: bool) -> None:  # noqa: A002
    """Issue a key with the rights of the key ID, which ends after the overlap.

    A key can be rotated once, and the new one again. Example:

        workbench keys rotate zqkdwvnarjpt --overlap 1
    """
    from workbench.workspace.key_admin import KeyAdmin

    _check_new(out)
    made = KeyAdmin(config.find_root()).rotate(id, overlap_hours=overlap, days=days, out=out)
    _say_issued(made, out=out, as_json=as_json)


@keys.command()
@click.argument("id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Say why; the audit log has a digest of it.")
@Json()
def revoke(*, id: str, reason: str, as_json: bool) -> None:  # noqa: A002  the argument's name
    """Revoke the key ID: its next request is refused, in every process.

    An answer that is being streamed goes on to its end. Example:

        workbench keys revoke zqkdwvnarjpt --reason "it was in a commit"
    """
    from workbench.workspace.key_admin import KeyAdmin

    done = KeyAdmin(config.find_root()).revoke(id, reason=reason)
    text = f"revoked {id}: its next request is refused" if done else f"{id} was revoked before"
    say({"id": id, "revoked": done}, text, as_json=as_json)


def _row(key: ApiKey, now: str) -> tuple[str, ...]:
    rights = key.rights
    return (
        key.id, rights.principal, rights.tenant or "all", ", ".join(rights.use_cases or ("all",)),
        key.state(now), key.expires[:16] or "never", key.used[:13] or "never",
    )  # fmt: skip


def _rights(*, principal: str, admin: bool, **stated: Any) -> KeyRights:
    from workbench.identities.api_keys import KeyRights

    budget = {name: stated.pop(name) for name in ("usd", "tokens", "calls")}
    per: Literal["", "day", "month"] = stated.pop("per") or ""
    limited = per or any(limit is not None for limit in budget.values())
    scope = {name: value or None for name, value in stated.items() if isinstance(value, tuple)}
    return KeyRights(
        principal=principal,
        kind="job" if principal.startswith("job:") else "user",
        tenant=stated["tenant"],
        clearance=stated["clearance"],
        admin=admin,
        budget=KeyBudget(**budget, per=per) if limited else None,
        **scope,
    )


def _check_new(out: Path | None) -> None:
    if out is not None:
        check_out(out, again="workbench keys issue … --out app.key")
        if out.exists() or out.is_symlink():
            raise ConfigError(f"--out {out}: the file exists", hint="name a new file")


def _say_issued(made: IssuedKey, *, out: Path | None, as_json: bool) -> None:
    """Print a new key: not masked, because this is the only time that its secret is shown."""
    facts = made.key.to_json(made.key.issued)
    if as_json:
        shown = {"out": str(out)} if out is not None else {"secret": made.secret}
        click.echo(files.pretty({**facts, **shown}).decode(), nl=False)
        return
    rights = made.key.rights
    click.echo(f"API key {made.key.id} of {rights.principal}, until {made.key.expires}\nfor {_scope(rights)}")
    if out is not None:
        click.echo(f"its secret is in {out}. Send it as: Authorization: Bearer KEY")
        return
    click.echo(f"{made.secret}\nThis is shown once. Send it as: Authorization: Bearer KEY")


def _scope(rights: KeyRights) -> str:
    """Return what a key is limited to, and what it is not."""
    limits = {
        "tenant": (rights.tenant,) if rights.tenant else None, "use case": rights.use_cases,
        "purpose": rights.purposes, "model": rights.models, "memory": rights.memories,
    }  # fmt: skip
    stated = [f"{name} {', '.join(values)}" for name, values in limits.items() if values is not None]
    every = ", ".join(name for name, values in limits.items() if values is None)
    return "; ".join([*stated, *([f"every {every}"] if every else [])])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item not in (None, ""))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
