"""The boundary of a workspace whose calls another process answers: the gateway."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.budgets.report import BudgetReport
from workbench.context import Context
from workbench.identity import Principal
from workbench.layout import STATE
from workbench.memory.stores import StoreLocation, Stores
from workbench.models import ModelCard
from workbench.policy.current import CurrentPolicy
from workbench.ports import Call
from workbench.remote.connection import GatewayConnection
from workbench.remote.handler import RemoteHandler
from workbench.workspace import policies
from workbench.workspace.boundary import Boundary
from workbench.workspace.gateway_verbs import RemoteVerbs

if TYPE_CHECKING:
    import polars as pl

    from workbench.config import MemoryServer


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoutes:
    """How a workspace reaches its gateway: as the caller `own`, in the use case of that name.

    `home` is the repository with the state; with `reads_state` the verbs on records read it here, because it
    is the gateway's own. `snapshots` has the digest of the pinned snapshot by the name of its memory, and
    `today` is whether a pinned snapshot is searched without the items forgotten since. `server` is the server
    of the use case's memory, which administrators ask. `bearing` makes the connection of the bearer of a
    token.
    """

    connection: GatewayConnection
    bearing: Callable[[str], GatewayConnection]
    use_case: str
    own: Principal
    home: Path
    reads_state: bool = False
    snapshots: Mapping[str, str] = field(default_factory=dict)
    today: bool = False
    server: MemoryServer | None = None


class GatewayBoundary(Boundary):
    """Has the surface of `Boundary` that a workspace uses, and asks a gateway to answer every call.

    `cards` replace the repository's cards of the same name, for what a workspace describes; the gateway
    resolves each call by its own. No tape, no ledger, no log and no store is opened here.
    """

    def __init__(self, root: Path, *, routes: GatewayRoutes, cards: Iterable[ModelCard] = ()) -> None:
        self.root, self.home = root, routes.home
        self.stores = Stores(
            StoreLocation(state=routes.home / STATE, server=routes.server, today=routes.today)
        )
        self._cards = {name: card for card in cards for name in (card.name, card.reference)}
        self.policy = CurrentPolicy(root)
        self.access = policies.access_to_items(
            self.policy, timeless=bool(routes.snapshots) and not routes.today
        )
        self._ask_through(routes)

    def _ask_through(self, routes: GatewayRoutes) -> None:
        self.routes = routes
        self.handler = RemoteHandler(routes.connection, own=routes.own)
        self._asks = RemoteVerbs(routes.connection, use_case=routes.use_case, own=routes.own)
        self.verbs = None if routes.reads_state else self._asks

    def permits(self, call: Call) -> bool:  # noqa: ARG002 - it decides on the call itself
        """Return True: the gateway alone decides, when it is asked."""
        return True

    def pinned_digest(self, memory: str) -> str | None:
        """Return the digest of the pinned snapshot of a memory, or None for a live memory."""
        return self.routes.snapshots.get(memory)

    async def budget(self, context: Context) -> BudgetReport:
        """Return the report of the budgets that a call with this context takes from."""
        found: BudgetReport = await self._asks.ask_async("budget", context)
        return found

    def bound_to(self, token: str, own: Principal) -> Boundary:
        """Return the boundary for the calls of a token's bearer, who is `own`."""
        bound = copy.copy(self)
        bound._ask_through(  # noqa: SLF001 - another of this class
            dataclasses.replace(self.routes, connection=self.routes.bearing(token), own=own)
        )
        return bound

    def endpoints(self) -> pl.DataFrame:
        """Return a frame of the endpoints, with the gateway's breakers, limits and calls in flight."""
        found: pl.DataFrame = self._asks.ask("endpoints", None)
        return found

    async def aclose(self) -> None:
        """Close the connections; a later call opens them again."""
        await self.routes.connection.aclose()
        await self.stores.aclose()
