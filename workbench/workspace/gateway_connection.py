"""The connection of a workspace to the gateway of its repository, which starts when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from workbench.identities.owner_token import make_owner_token
from workbench.remote.connection import GatewayConnection
from workbench.remote.http import HttpClient
from workbench.workspace.gateway_process import GatewayProcess

#: The connections of this process by address and token, which workspaces share: a second one finds it open.
_shared: dict[tuple[str, str | None], GatewayConnection] = {}
#: Attempts to connect; a gateway may end between its start and the connection.
_ATTEMPTS: Final = 3
#: Seconds in which there is a connection: a gateway that starts is waited for.
_START_S: Final = 90.0
#: Most connections that are shared: a service has one for each of its users' tokens.
_MOST_SHARED: Final = 1_000


def shared(
    address: str, token: str | None, make: Callable[[str, str | None], GatewayConnection]
) -> GatewayConnection:
    """Return the connection of this process to an address for the bearer of a token, made if missing."""
    found = _shared.get((address, token))
    if found is None:
        found = make(address, token)
        if len(_shared) < _MOST_SHARED:
            _shared[address, token] = found
    return found


def connection_to(address: str, token: str | None) -> GatewayConnection:
    """Return a new connection to an address for the bearer of a token."""
    return GatewayConnection(address, authorization=_bearer(token))


class OwnConnection(GatewayConnection):
    """Connects to the private gateway of a repository, and starts it when nobody listens.

    The caller is the user of this process, by the owner's token of the repository, or the bearer of `token`.
    """

    def __init__(self, process: GatewayProcess, *, token: str | None = None) -> None:
        super().__init__(process.place.address, authorization=_bearer(token))
        self.process = process
        self._is_named = token is not None

    def _current(self) -> HttpClient:
        if not self._is_named:  # at the first call, because a missing token is written
            token = make_owner_token(self.process.place.root)
            self._head += f"authorization: {_bearer(token)}\r\n".encode()
            self._is_named = True
        client = super()._current()
        client.connect_s = _START_S
        return client

    async def _connect(self, protocol: Callable[[], asyncio.Protocol]) -> tuple[Any, Any]:
        for _ in range(_ATTEMPTS - 1):
            try:
                if self.process.secrets:
                    await asyncio.to_thread(self._hand_over)
                return await super()._connect(protocol)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.to_thread(self.process.ensure)
        return await super()._connect(protocol)

    def _hand_over(self) -> None:
        """Give the gateway the keys of providers that this process took, if it listens."""
        self.process.hand_over(make_owner_token(self.process.place.root))


def _bearer(token: str | None) -> str:
    return f"Bearer {token}" if token else ""
