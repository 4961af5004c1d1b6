"""`workbench gateway status|stop|secret`: the private gateway of a repository, and the keys that it holds."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

from workbench import config
from workbench.cli.output import Json, say
from workbench.config import Params
from workbench.errors import ConfigError, NotFoundError, WorkbenchError

_MOST_CHARACTERS = 20_000
_NONE = "no private gateway of this repository runs; the first call of a notebook starts one"


@click.command()
@Json()
def status(*, as_json: bool) -> None:
    """Show the private gateways of this repository: process, start, answers under way, address.

    The first call of a notebook starts one, unless params.yaml says `gateway: off`; a gateway that
    `workbench gateway` serves at an address is not among them. Exit 1 when none runs.
    """
    from workbench.workspace.gateway_place import GatewayPlace
    from workbench.workspace.gateway_process import running, under_way

    found = running(GatewayPlace.of(config.find_root()))
    rows = [
        {**dataclasses.asdict(each), "since": str(each.since), "under_way": under_way(each)} for each in found
    ]
    lines = [f"{each}, {row['under_way']} under way" for each, row in zip(found, rows, strict=True)]
    say(rows, "\n".join(lines) or _NONE, as_json=as_json)
    sys.exit(0 if found else 1)


@click.command()
@Json()
def stop(*, as_json: bool) -> None:
    """End the private gateways of this repository; answers under way finish first, for up to 15 seconds.

    The next call of a notebook starts the gateway again.
    """
    from workbench.workspace import gateway_process
    from workbench.workspace.gateway_place import GatewayPlace

    ended = gateway_process.stop(GatewayPlace.of(config.find_root()))
    rows = [{"pid": each.pid, "socket": str(each.socket)} for each in ended]
    text = "\n".join(f"ended process {each.pid}" for each in ended)
    say(rows, text or _NONE, as_json=as_json)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run COMMAND without the keys of model providers, which the private gateway gets before.

    With another gateway than `auto` in params.yaml COMMAND keeps them. Example:
    workbench gateway exec -- jupyter lab
    """
    from workbench.workspace.chosen_boundary import chosen_gateway

    root = config.find_root()
    try:
        params = config.load_params(root)
        if chosen_gateway(params) == "auto":
            _handed_over(root, params)
    except WorkbenchError as error:  # COMMAND may be what it is repaired with
        click.echo(f"the gateway was not started: {error}", err=True)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command that the user typed
    except OSError as error:
        raise NotFoundError(
            f"{command[0][:200]} cannot be run: {error.strerror}", hint="workbench gateway exec -- COMMAND"
        ) from None


def _handed_over(root: Path, params: Params) -> None:
    """Start the private gateway with the keys of this process, which then has none."""
    from workbench.identities.owner_token import make_owner_token
    from workbench.workspace import provider_keys
    from workbench.workspace.gateway_place import GatewayPlace
    from workbench.workspace.gateway_process import GatewayProcess

    process = GatewayProcess(place=GatewayPlace.of(root), secrets=provider_keys.take(root, params))
    if not process.ensure():
        process.hand_over(make_owner_token(root))


@click.group()
def secret() -> None:
    """Keep keys of model providers for the gateway, in a file that only this user reads."""


@secret.command("set")
@click.argument("name", metavar="NAME")
def set_secret(name: str) -> None:
    """Store the key of the variable NAME; it is typed without being shown, or comes from standard input.

    Notebooks then need no key in their environment. Example: workbench gateway secret set OPENAI_API_KEY
    """
    from workbench.workspace import provider_keys

    root = config.find_root()
    provider_keys.check_name(name)
    if sys.stdin.isatty():
        found = click.prompt(f"key of {name}", hide_input=True)
    else:
        found = sys.stdin.read(_MOST_CHARACTERS)
    provider_keys.store(root, name, found)
    _told(root, {name: found.strip()})
    click.echo(f"stored the key of {name} in {provider_keys.SECRETS}")


@secret.command("remove")
@click.argument("name", metavar="NAME")
def remove_secret(name: str) -> None:
    """Remove the key of the variable NAME."""
    from workbench.workspace import provider_keys

    root = config.find_root()
    if name not in provider_keys.stored(root):
        raise ConfigError(f"no key of {name[:80]!r} is stored", hint="workbench gateway secret list")
    provider_keys.store(root, name, None)
    _told(root, {name: ""})
    click.echo(f"removed the key of {name}")


@secret.command("list")
@Json()
def list_secrets(*, as_json: bool) -> None:
    """List the variables whose keys are stored; no key is shown."""
    from workbench.workspace import provider_keys

    names = sorted(provider_keys.stored(config.find_root()))
    say(names, "\n".join(names) or "no key is stored", as_json=as_json)


def _told(root: Path, secrets: dict[str, str]) -> None:
    """Give changed keys to the gateway, if it runs."""
    from workbench.identities.owner_token import make_owner_token
    from workbench.workspace.gateway_place import GatewayPlace
    from workbench.workspace.gateway_process import GatewayProcess

    process = GatewayProcess(place=GatewayPlace.of(root), secrets=secrets)
    process.hand_over(make_owner_token(root))
