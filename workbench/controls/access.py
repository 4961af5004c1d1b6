"""Access control for memories: the policies' condition limits each search, and decides on each hit again.

The policies are the one law. What they permit of a memory becomes the filter of a search or a read, so that a
store finds the best of the permitted items. The exact decision follows on the items that were found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypeVar

from workbench.context import Context, instant
from workbench.controls.policy import Noted, is_unfiltered, memory_of, request_of
from workbench.controls.position import READS, WRITES, Position
from workbench.errors import PolicyError, RefusedError, items_gone
from workbench.ports import Budget, Call, Handler, ItemFilter, Query, Requester, written_id
from workbench.ports.item_filter import all_of, at_most, one_of
from workbench.ports.policy import Decision, ItemPolicy, PolicyRequest, about_item
from workbench.types import Event, Item, ItemHit

T = TypeVar("T", Requester, Query)
#: Applies to memories only: models have no items.
POSITION: Final = Position(
    name="access", operations=READS | WRITES, after=("fallback", "policy"), before=("output", "retry")
)
#: The action whose permission includes writing items in the name of others, as a restore does.
_WRITES_FOR_OTHERS: Final = "memory.add"
#: Requests that are kept; a process with more contexts begins anew.
_MOST_KEPT: Final = 500


class Access:
    """Limits every call on a memory to what `law` permits its principal.

    With `timeless`, a pinned snapshot is searched as of any moment that the call names. Otherwise items whose
    validity has ended by the context's clock are not found, whatever moment the call names. `observed` is a
    set that is tried out: which of the hits it would deny is noted, and nothing else.
    """

    def __init__(
        self, law: ItemPolicy, *, timeless: bool = False, observed: ItemPolicy | None = None
    ) -> None:
        self._law, self._timeless, self._observed = law, timeless, observed
        #: What was asked for contexts, which are kept so that another one cannot have the id.
        self._requests: dict[tuple[Any, ...], tuple[Context, PolicyRequest]] = {}

    def permitted(self, call: Call) -> ItemFilter:
        """Return the condition under which an item is permitted to a call; raise PolicyError if unknown."""
        return self._law.permitted(self._request(call))

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on within what is permitted; raise RefusedError if it exceeds that."""
        payload = self._allowed(call)
        allowed = dataclasses.replace(call, payload=payload)
        if call.operation == "remember" and not self._writes_for_others(call):
            await self._check_seen(call, proceed)
        filtered = payload.get("query") or payload.get("requester")
        async for event in proceed(allowed):
            yield event if filtered is None else self._decided(call, event, filtered)

    def _allowed(self, call: Call) -> dict[str, Any]:
        payload = dict(call.payload)
        match call.operation:
            case "search":
                return payload | {"query": self._limited(call, payload["query"])}
            case "items" | "count" if requester := payload.get("requester"):
                return payload | {"requester": self._limited(call, requester)}
            case "items" | "count":
                self._check_all(call)
            case "remember" if not self._writes_for_others(call):
                _check_stamps(call)
                # A budget chosen by the caller could evict items of other principals.
                return payload | {"budget": Budget(**call.identity.get("budget", {}))}
        return payload

    def _limited(self, call: Call, requester: T) -> T:
        """Return the requester or query limited to what is permitted, and to the current time."""
        _check_plain(requester)
        where = self.permitted(call)
        narrowed: list[ItemFilter] = _narrowed(call, requester)
        if narrowed:
            where = all_of([where, *narrowed])
        limits: dict[str, Any] = {"groups": (), "clearance": requester.clearance, "where": where}
        if (lists := where.lists) is not None:
            limits = {"groups": lists[0], "clearance": lists[1], "where": None}
        if not self._timeless:
            limits["now"] = max(requester.now or "", instant(call.context.clock.now()))
        return dataclasses.replace(requester, **limits)

    def _request(self, call: Call, action: str = "") -> PolicyRequest:
        """Return what the policies are asked, the same value for the calls that a context makes."""
        unfiltered = is_unfiltered(call)
        label = str(call.labels.get("data_class", "")) if call.labels else ""
        place = (id(call.context), call.operation, action, call.target, unfiltered, label)
        kept = self._requests.get(place)
        if kept is None or kept[0] is not call.context:
            kept = (call.context, request_of(call, memory_of(call), action=action))
            if len(self._requests) >= _MOST_KEPT:
                self._requests.clear()
            self._requests[place] = kept
        return kept[1]

    def _writes_for_others(self, call: Call) -> bool:
        return self._law.decide(self._request(call, action=_WRITES_FOR_OTHERS)).allowed

    def _check_all(self, call: Call) -> None:
        """Raise PolicyError unless the principal may read every item of the memory."""
        if self.permitted(call) != all_of([]):
            raise PolicyError(
                f"{call.context.principal} may not read all of {call.target!r}: the policies permit some "
                "items only, and the call names no requester",
                hint="pass requester=Requester.of(ws.context.principal, now=…)",
            )

    async def _check_seen(self, call: Call, proceed: Handler) -> None:
        """Raise NotFoundError, as a store does, unless the principal can read every id in `while_there`."""
        ids = sorted(set(call.payload.get("while_there", ())))
        if not ids:
            return
        payload: dict[str, Any] = {"ids": ids, "requester": Requester.of(call.context.principal, now="")}
        count = dataclasses.replace(call, operation="count", payload=payload)
        count = dataclasses.replace(count, payload=self._allowed(count))
        (seen,) = [event.data async for event in proceed(count)]
        if seen < len(ids):
            raise items_gone(len(ids) - seen, len(ids))

    def _decided(self, call: Call, event: Event, filtered: Query | Requester) -> Event:
        """Return the event after the exact decision on its items; raise PolicyError if one is denied."""
        if call.operation == "count":
            return event
        found: Sequence[Any] = event.data
        items = [hit.item if isinstance(hit, ItemHit) else hit for hit in found]
        decisions = self._exact(call, items)
        if call.operation == "items":
            return event
        if filtered.where is None:
            return Event(data=[hit.plain() for hit in found])
        named = (f"policy {', '.join(decision.policies)}" for decision in decisions)
        hits = (dataclasses.replace(hit.plain(), allowed=why) for hit, why in zip(found, named, strict=True))
        return Event(data=list(hits))

    def _exact(self, call: Call, items: Sequence[Any]) -> list[Decision]:
        """Return the decisions on items; raise PolicyError if one is denied or has no attributes."""
        if not items:
            return []
        request = self._request(call)
        if odd := sum([not isinstance(item, Item) for item in items]):
            raise PolicyError(
                f"the store of {call.target!r} gave {odd} hits without their items: nothing was returned",
                hint="make hits by workbench.memory.rules.hit in the store",
            )
        decisions = self._law.decide_items(request, items)
        decided = zip(items, decisions, strict=True)
        if denied := [(item, decision) for item, decision in decided if not decision.allowed]:
            raise _mismatch(call, request, denied)
        if self._observed is not None:
            _note_observed(call, request, self._observed.decide_items(request, items))
        return decisions


def _narrowed(call: Call, requester: Requester | Query) -> list[ItemFilter]:
    """Return the conditions of a requester that asks for less than its principal's groups and clearance."""
    principal, conditions = call.context.principal, []
    if not set(principal.grants) <= set(requester.groups):
        conditions.append(one_of("acl", filter(principal.grants.__contains__, requester.groups)))
    if requester.clearance < principal.clearance:
        conditions.append(at_most("classification", requester.clearance))
    return conditions


def _check_plain(requester: Requester | Query) -> None:
    """Raise RefusedError for a value whose class could answer comparisons as it likes, and for a `where`."""
    if type(requester) not in {Query, Requester} or type(requester.groups) is not tuple:
        raise RefusedError(
            "a requester is a Query or a Requester with a tuple of groups, not a value of a class of its own",
            hint="Requester.of(ws.context.principal, now=…)",
        )
    texts = (*requester.groups, requester.now or "")
    if any(type(text) is not str for text in texts) or type(requester.clearance) is not int:
        raise RefusedError(
            "the groups, the clearance and the time of a requester must be plain texts and a whole number",
            hint="Requester.of(ws.context.principal, now=…)",
        )
    if requester.where is not None:
        raise RefusedError(
            "a requester names a condition, and the policies alone make those",
            hint="leave `where` out; to narrow a search, pass groups, clearance, sources or kinds",
        )


def _mismatch(call: Call, request: PolicyRequest, denied: Sequence[tuple[Item, Decision]]) -> PolicyError:
    """Return the error of a store that gave items which the exact decision denies, and note the first."""
    item, decision = denied[0]
    asked = about_item(request, dataclasses.replace(item, subject=""))  # a record names no persons
    noted = Noted(asked, decision, observed=False)
    call.span.note(decision=noted.decision, policy_request=noted.request)
    return PolicyError(
        f"the store of {call.target!r} gave {len(denied)} items that the policies deny: nothing was returned",
        hint=f"report this as a fault of the store; workbench audit explain {decision.id}",
        policies=decision.policies,
        decision=decision.id,
    )


def _note_observed(call: Call, request: PolicyRequest, decisions: Sequence[Decision]) -> None:
    """Add to `would_refuse` what a set that is tried out denies of the items that were found."""
    denied = [Noted(request, decision, observed=True) for decision in decisions if not decision.allowed]
    if denied:
        names = dict.fromkeys(f"policy:{noted.name}" for noted in denied)
        call.span.note(would_refuse=[*call.span.facts.get("would_refuse", ()), *names])


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
