"""Access control for memories: limits each call to the rights of its principal.

Search and read return only items that the principal's groups and clearance permit. Operations that act on a
whole tenant regardless of access lists require an admin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar

from workbench.context import instant
from workbench.controls.position import READS, WRITES, Position
from workbench.errors import RefusedError, items_gone
from workbench.ports import Budget, Call, Handler, Query, Requester, written_id
from workbench.types import Event

T = TypeVar("T", Requester, Query)
#: Applies to memories only: models have no access lists.
POSITION: Final = Position(
    name="access", operations=READS | WRITES, after=("fallback", "policy"), before=("output", "retry")
)
#: Operations that report or change items outside the requester's rights.
ADMIN_OPERATIONS: Final = frozenset(
    {"add", "forget", "hold", "missing", "publish", "release", "stage", "stats", "purge"}
)


class Access:
    """Limits every requester to its principal's rights and refuses admin operations to all others.

    With `timeless`, a pinned snapshot is searched as of any moment that the call names. Otherwise items whose
    validity has ended by the context's clock are not found, whatever moment the call names.
    """

    def __init__(self, *, timeless: bool = False) -> None:
        self._timeless = timeless

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on within the principal's rights; raise RefusedError if it exceeds them."""
        allowed = dataclasses.replace(call, payload=self._allowed(call))
        if call.operation == "remember" and not call.context.principal.admin:
            await self._check_seen(call, proceed)
        async for event in proceed(allowed):
            yield event

    def _allowed(self, call: Call) -> dict[str, Any]:
        payload, admin = dict(call.payload), call.context.principal.admin
        match call.operation:
            case "search":
                return payload | {"query": self._limited(call, payload["query"])}
            case "items" | "count" if requester := payload.get("requester"):
                return payload | {"requester": self._limited(call, requester)}
            case "remember" if not admin:
                _check_stamps(call)
                # A budget chosen by the caller could evict items of other principals.
                return payload | {"budget": Budget(**call.identity.get("budget", {}))}
            case "items" | "count":
                _check_admin(call, f"read all of {call.target!r}")
            case verb if verb in ADMIN_OPERATIONS:
                _check_admin(call, f"{verb} in {call.target!r}")
        return payload

    def _limited(self, call: Call, requester: T) -> T:
        """Return the requester or query limited to the principal's groups, clearance and current time."""
        principal = call.context.principal
        _check_plain(requester)
        limits: dict[str, Any] = {
            "groups": tuple(filter(principal.grants.__contains__, requester.groups)),
            "clearance": min(requester.clearance, principal.clearance),
        }
        if not self._timeless:
            limits["now"] = max(requester.now or "", instant(call.context.clock.now()))
        return dataclasses.replace(requester, **limits)

    async def _check_seen(self, call: Call, proceed: Handler) -> None:
        """Raise NotFoundError, as a store does, unless the principal can read every id in `while_there`."""
        ids = sorted(set(call.payload.get("while_there", ())))
        if not ids:
            return
        requester = self._limited(call, Requester.of(call.context.principal, now=""))
        payload = {"ids": ids, "requester": requester}
        count = dataclasses.replace(call, operation="count", payload=payload)
        (seen,) = [event.data async for event in proceed(count)]
        if seen < len(ids):
            raise items_gone(len(ids) - seen, len(ids))


def _check_plain(requester: Requester | Query) -> None:
    """Raise RefusedError for a value whose class could answer comparisons as it likes."""
    texts = (*requester.groups, requester.now or "")
    if any(type(text) is not str for text in texts) or type(requester.clearance) is not int:
        raise RefusedError(
            "the groups, the clearance and the time of a requester must be plain texts and a whole number",
            hint="Requester.of(ws.context.principal, now=…)",
        )


def _check_admin(call: Call, what: str) -> None:
    principal, use_case = call.context.principal, call.context.use_case
    if not principal.admin:
        raise RefusedError(
            f"{principal} may not {what}: this needs an admin of the memory",
            hint=f"ask an admin, or add {principal.name!r} to use_cases.{use_case}.admins in params.yaml",
        )


def _check_stamps(call: Call) -> None:
    """Raise RefusedError if an item's owner, id or trust is not the principal's own."""
    principal = call.context.principal
    tenant = call.context.tenant
    forged = [
        item
        for item in call.payload["items"]
        if (item.owner, item.id) != (principal.name, written_id(tenant, item)) or item.trust > principal.trust
    ]
    if forged:
        raise RefusedError(
            f"{len(forged)} items are not stamped as written by {principal}",
            hint="write through the handle: ws.memory(…).remember(text)",
        )
