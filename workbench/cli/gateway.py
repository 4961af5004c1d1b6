"""`workbench gateway`: serve models and memories behind the controls, to any language and tool."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from workbench import config
from workbench.cli.gateway_process import execute, secret, status, stop
from workbench.config import GatewaySettings
from workbench.config.gateway import check_gateway
from workbench.layout import OWNER_TOKEN


@click.group(invoke_without_command=True)
@click.option(
    "--address", metavar="HOST:PORT", help="Listen here [default: gateway.address, 127.0.0.1:8340]."
)
@click.option("--socket", metavar="PATH", help="Listen on a Unix socket that only this user opens.")
@click.option("--workers", type=click.IntRange(1, 64), help="Serve with this many processes.")
@click.pass_context
def gateway(context: click.Context, *, address: str | None, socket: str | None, workers: int | None) -> None:
    """Serve models and memories as an OpenAI-compatible API, behind the controls of params.yaml.

    A client needs the address as its base_url and a key: `workbench keys issue` makes one. The section
    gateway of params.yaml states TLS, a public address and limits; see docs/gateway.md. SIGTERM ends it when
    its answers have ended, SIGHUP exchanges its workers and loses none.
    """
    if context.invoked_subcommand is None:
        _serve(address, socket, workers)


for command in (status, stop, execute, secret):
    gateway.add_command(command)


def _serve(address: str | None, socket: str | None, workers: int | None) -> None:
    from workbench.gateway.listening import address_of, listen
    from workbench.gateway.server import log_to_stderr
    from workbench.gateway.supervisor import Supervisor
    from workbench.identities.owner_token import make_owner_token

    root = config.find_root()
    settings = _with(GatewaySettings.of(config.load_params(root).gateway), address, socket, workers)
    log_to_stderr()
    make_owner_token(root)
    listener = listen(settings)

    def ready() -> None:
        click.echo(f"the gateway answers at {address_of(listener, settings)} (base_url ends in /v1)")
        click.echo(f"the key of this user is in {OWNER_TOKEN}; for others: workbench keys issue")

    try:
        Supervisor(root, listener, settings).run(ready=ready)
    finally:
        if settings.socket is not None:
            Path(settings.socket).unlink(missing_ok=True)


def _with(
    found: GatewaySettings, address: str | None, socket: str | None, workers: int | None
) -> GatewaySettings:
    """Return the settings with those of the command line in their place; raise ConfigError for an odd one."""
    stated: dict[str, Any] = {"address": address, "socket": socket, "workers": workers}
    given = {name: value for name, value in stated.items() if value is not None}
    if address is not None and socket is None:
        given["socket"] = None
    settings = dataclasses.replace(found, **given)
    check_gateway(settings, where="workbench gateway")
    return settings
