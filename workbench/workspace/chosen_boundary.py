"""Choose what answers the calls of a workspace: this process, or a gateway."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import config
from workbench.config import Execution, GatewaySettings, Mode, Params, UseCase
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.workspace import boundary
from workbench.workspace.boundary import Boundary

if TYPE_CHECKING:
    from workbench.remote.connection import GatewayConnection
    from workbench.workspace.gateway_boundary import GatewayRoutes

#: The variable with the key for the gateway at the URL of params.yaml.
KEY_VARIABLE: Final = "WORKBENCH_GATEWAY_KEY"

#: The variable that turns the gateway of params.yaml off for one process.
OFF_VARIABLE: Final = "WORKBENCH_GATEWAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting:
    """Who connects to which use case: what `wb.connect` has found out.

    `current` is the execution of this process, which may be of another use case than `execution`. `own` is
    the principal of the process or of `token`, before it takes fewer rights.
    """

    root: Path
    name: str
    use_case: UseCase
    execution: Execution
    current: Execution
    own: Principal
    token: str | None = field(default=None, repr=False)
    mode: Mode | None = None


def chosen_gateway(params: Params, environment: Mapping[str, str] = os.environ) -> str:
    """Return "off" where each process answers its own calls, "auto", or the URL of a gateway.

    The variable `WORKBENCH_GATEWAY=off` turns the gateway of params.yaml off for one process, such as a test.
    Raise ConfigError for another value of it.
    """
    stated = environment.get(OFF_VARIABLE, "")
    if stated not in {"", "off"}:
        raise ConfigError(
            f"{OFF_VARIABLE} is {stated[:80]!r}, and only off is known",
            hint=f"unset {OFF_VARIABLE}; params.yaml states the gateway",
        )
    return stated or GatewaySettings.of(params.gateway).use


def boundary_for(connecting: Connecting) -> Boundary:
    """Return the boundary of a workspace.

    The gateway of a run answers what the run's kernel asks. Otherwise params.yaml names a gateway, which
    answers what no runner records or replays; this process answers the rest.
    """
    execution, current = connecting.execution, connecting.current
    if current.gateway is not None:
        return _asking(connecting, _of_run(connecting, current.gateway))
    use = _use(connecting)
    if use == "off":
        return boundary.of_use_case(
            connecting.root, connecting.name, connecting.use_case, execution, mode=connecting.mode
        )
    return _asking(connecting, _own(connecting) if use == "auto" else _at(connecting, use))


def _use(connecting: Connecting) -> str:
    """Return "off" where this process answers, "auto", or the URL of a gateway."""
    current, mode = connecting.current, connecting.mode or connecting.current.mode
    if mode != "auto" or current.job or any((current.tape, current.memory, current.home)):
        return "off"
    return chosen_gateway(config.load_params(connecting.root))


def _asking(connecting: Connecting, routes: GatewayRoutes) -> Boundary:
    from workbench.workspace.gateway_boundary import GatewayBoundary

    cards = [boundary.card_of_use_case(connecting.root, connecting.use_case)]
    return GatewayBoundary(connecting.root, routes=routes, cards=cards)


def _of_run(connecting: Connecting, address: str) -> GatewayRoutes:
    """Return the way to the gateway of the run that this process is a kernel of."""
    return _to(connecting, address, None)


def _at(connecting: Connecting, url: str) -> GatewayRoutes:
    """Return the way to a gateway at a URL, for the bearer of a token or of the key in the environment."""
    token = _token(connecting) or config.secret(KEY_VARIABLE, needed_by=f"the gateway at {url}")
    return _to(connecting, url, token)


def _to(connecting: Connecting, address: str, token: str | None) -> GatewayRoutes:
    from workbench.workspace.gateway_boundary import GatewayRoutes
    from workbench.workspace.gateway_connection import connection_to, shared

    return GatewayRoutes(
        connection=shared(address, token, connection_to),
        bearing=lambda token: shared(address, token, connection_to),
        use_case=connecting.name, own=connecting.own, home=connecting.root,
        snapshots=connecting.execution.snapshots, today=connecting.execution.live_memory,
    )  # fmt: skip


def _own(connecting: Connecting) -> GatewayRoutes:
    """Return the way to the private gateway of the repository, which gets this process's provider keys."""
    from workbench.workspace import provider_keys
    from workbench.workspace.gateway_boundary import GatewayRoutes
    from workbench.workspace.gateway_connection import OwnConnection, shared
    from workbench.workspace.gateway_place import GatewayPlace
    from workbench.workspace.gateway_process import GatewayProcess

    root = connecting.root
    secrets = provider_keys.take(root, config.load_params(root))
    process = GatewayProcess(place=GatewayPlace.of(root), secrets=secrets)

    def bearing(token: str | None) -> GatewayConnection:
        found = shared(process.place.address, token, lambda _, token: OwnConnection(process, token=token))
        if isinstance(found, OwnConnection):
            found.process = process  # with the keys that were taken since
        return found

    return GatewayRoutes(
        connection=bearing(_token(connecting)), bearing=bearing, use_case=connecting.name,
        own=connecting.own, home=root, reads_state=True,
        server=config.memory_server(connecting.use_case),
    )  # fmt: skip


def _token(connecting: Connecting) -> str | None:
    """Return the token of the caller: the stated one, or that of the process; None for its user."""
    from workbench.identities.oidc import OIDCProvider
    from workbench.identities.providers import provider_of

    if connecting.token is not None:
        return connecting.token
    provider = provider_of(config.load_params(connecting.root).identity, connecting.root)
    return provider.token() if isinstance(provider, OIDCProvider) else None
