"""Who may do what with a memory: what a call says of its asker is cut down to the principal that makes it.

Searching and reading show what the principal's groups and clearance open. The verbs that act on all of a
tenant, whatever its access lists say, are for principals that keep the memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, TypeVar

from workbench.context import instant
from workbench.controls.position import READS, WRITES, Position
from workbench.errors import RefusedError, items_gone
from workbench.ports import Budget, Call, Handler, Query, Requester, written_id
from workbench.types import Event

T = TypeVar("T", Requester, Query)
#: Memory's part of policy. Models have no access lists.
POSITION: Final = Position(
    name="access", operations=READS | WRITES, after=("fallback", "policy"), before=("output", "retry")
)
#: They report or change what the requester may not see.
ADMIN_OPERATIONS: Final = frozenset(
    {"add", "forget", "hold", "missing", "publish", "release", "stage", "stats", "purge"}
)


class Access:
    """Cuts down every asker, and refuses keepers' verbs to everybody else.

    `timeless` says that a pinned snapshot is searched as it was, with no regard to the clock; otherwise
    what has ended by the context's clock is not found, whatever moment a call names.
    """

    def __init__(self, *, timeless: bool = False) -> None:
        self._timeless = timeless

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """The answer to the call as its principal may make it; RefusedError when it may not."""
        allowed = dataclasses.replace(call, payload=self._allowed(call))
        if call.operation == "remember" and not call.context.principal.admin:
            await self._check_seen(call, proceed)
        async with aclosing(proceed(allowed)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    def _allowed(self, call: Call) -> dict[str, Any]:
        payload, admin = dict(call.payload), call.context.principal.admin
        match call.operation:
            case "search":
                return payload | {"query": self._of(call, payload["query"])}
            case "items" | "count" if requester := payload.get("requester"):
                return payload | {"requester": self._of(call, requester)}
            case "remember" if not admin:
                _check_stamps(call)
                # Whoever chose the budget could evict what others wrote.
                return payload | {"budget": Budget(**call.identity.get("budget", {}))}
            case "items" | "count":
                _check_admin(call, f"read all of {call.target!r}")
            case verb if verb in ADMIN_OPERATIONS:
                _check_admin(call, f"{verb} in {call.target!r}")
        return payload

    def _of(self, call: Call, requester: T) -> T:
        """An asker, or a query's, with no more groups, clearance and past than the principal has."""
        principal = call.context.principal
        less: dict[str, Any] = {
            "groups": tuple(filter(principal.grants.__contains__, requester.groups)),
            "clearance": min(requester.clearance, principal.clearance),
        }
        if not self._timeless:
            less["now"] = max(requester.now or "", instant(call.context.clock.now()))
        return dataclasses.replace(requester, **less)

    async def _check_seen(self, call: Call, proceed: Handler) -> None:
        """NotFoundError, as of a store, unless the principal sees all that items are to be written with."""
        ids = sorted(set(call.payload.get("while_there", ())))
        if not ids:
            return
        requester = self._of(call, Requester.of(call.context.principal, now=""))
        payload = {"ids": ids, "requester": requester}
        count = dataclasses.replace(call, operation="count", payload=payload)
        async with aclosing(proceed(count)) as events:  # type: ignore[type-var]
            (seen,) = [event.data async for event in events]
        if seen < len(ids):
            raise items_gone(len(ids) - seen, len(ids))


def _check_admin(call: Call, what: str) -> None:
    principal, use_case = call.context.principal, call.context.use_case
    if not principal.admin:
        raise RefusedError(
            f"{principal} may not {what}: that is for those who keep the memory",
            hint=f"ask one of them, or add {principal.name!r} to use_cases.{use_case}.admins in params.yaml",
        )


def _check_stamps(call: Call) -> None:
    """RefusedError when what is to be remembered is not stamped as the principal's own."""
    principal = call.context.principal
    tenant = call.context.tenant
    forged = [
        item
        for item in call.payload["items"]
        if (item.owner, item.id) != (principal.name, written_id(tenant, item)) or item.trust > principal.trust
    ]
    if forged:
        raise RefusedError(
            f"{len(forged)} items are not stamped as what {principal} writes",
            hint="write through the handle: ws.memory(…).remember(text)",
        )
