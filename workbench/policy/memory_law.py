"""The policies as the law of memories: the condition of a search, and the exact decision on each hit."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from workbench import files
from workbench.errors import PolicyError
from workbench.identity import Principal
from workbench.policy.cedar import groups_named, type_of
from workbench.policy.engine import CedarPolicy
from workbench.policy.requests import CONTEXT, principal_entity
from workbench.policy.residuals import condition_of
from workbench.ports import ItemFilter
from workbench.ports.item_filter import NUMBERS, TEXTS, readers_of
from workbench.ports.policy import Decision, PolicyRequest, Resource, about_item
from workbench.types import Item

#: Conditions and decisions that are kept; a process that asks for more begins anew.
_MOST_KEPT: Final = 20_000
_MOST_REQUESTS: Final = 500
_RESOURCE: Final = {"Var": "resource"}
#: The actions on the items of a memory.
ITEM_ACTIONS: Final = ("memory.search", "memory.items", "memory.count")


class MemoryLaw:
    """One set of policies as `ports.ItemPolicy`: what it permits of a memory, and of each item.

    Conditions and decisions are kept while `active` returns the same set.
    """

    def __init__(self, active: Callable[[], CedarPolicy]) -> None:
        self._active = active
        self._set: CedarPolicy | None = None
        self._readers: tuple[Callable[[Item], object], ...] = ()
        self._conditions: dict[bytes, tuple[ItemFilter, tuple[str, ...]]] = {}
        self._decisions: dict[bytes, dict[tuple[Any, ...], Decision]] = {}
        self._number = 0
        self._keys: dict[int, tuple[PolicyRequest, bytes]] = {}

    @classmethod
    def builtin(cls) -> MemoryLaw:
        """Return the law of the built-in policies."""
        policies = CedarPolicy.builtin()
        return cls(lambda: policies)

    def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision on a request."""
        return self._active().decide(request)

    def permitted(self, request: PolicyRequest) -> ItemFilter:
        """Return the condition under which an action on items of the memory `request.resource` is permitted.

        Raise PolicyError when the engine reports an error: then nothing is permitted.
        """
        return self._condition(request)[0]

    def untranslatable(self, request: PolicyRequest) -> tuple[str, ...]:
        """Return the ids of policies that no store can apply; raise PolicyError as `permitted` does.

        Such a `permit` permits no item, and such a `forbid` forbids all.
        """
        return self._condition(request)[1]

    def decide_items(self, request: PolicyRequest, items: Sequence[Item]) -> list[Decision]:
        """Return the exact decision on each item of the memory `request.resource`.

        Items that are equal in all that the policies compare share a decision, with the id of the first.
        """
        policies = self._policies()
        kept = self._decisions.setdefault(self._key(request), {})
        keys = [tuple([read(item) for read in self._readers]) for item in items]
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in kept}
        if not new:
            return [kept[key] for key in keys]
        found = policies.decide_all([about_item(request, item) for item in new.values()])
        made = dict(zip(new, found, strict=True))
        decisions = [made[key] if key in made else kept[key] for key in keys]
        self._keep(kept, {key: decision for key, decision in made.items() if not decision.errors})
        return decisions

    def _policies(self) -> CedarPolicy:
        """Return the active set; forget what another set decided."""
        policies = self._active()
        if policies is not self._set:
            self._conditions, self._decisions, self._number = {}, {}, 0
            self._set, self._readers = policies, readers_of(_compared(policies))
        return policies

    def _condition(self, request: PolicyRequest) -> tuple[ItemFilter, tuple[str, ...]]:
        policies, key = self._policies(), self._key(request)
        kept = self._conditions.get(key)
        if kept is None:
            kept = _translated(policies, request)
            if len(self._conditions) >= _MOST_KEPT:
                self._conditions.clear()
            self._conditions[key] = kept
        return kept

    def _keep(self, kept: dict[tuple[Any, ...], Decision], made: Mapping[tuple[Any, ...], Decision]) -> None:
        self._number += len(made)
        if self._number > _MOST_KEPT:
            self._decisions, self._number = {}, 0
        else:
            kept.update(made)

    def _key(self, request: PolicyRequest) -> bytes:
        """Return what decisions depend on, as bytes: a group's own class cannot make two of them equal.

        It is kept for requests that are the same value in memory, as those of one context are.
        """
        kept = self._keys.get(id(request))
        if kept is None or kept[0] is not request:
            asked = [
                principal_entity(request.principal, request.tenant), request.action,
                request.resource.tenant, request.resource.id, {**CONTEXT, **request.context},
            ]  # fmt: skip
            kept = (request, files.canonical(asked))
            if len(self._keys) >= _MOST_REQUESTS:
                self._keys.clear()
            self._keys[id(request)] = kept
        return kept[1]


def untranslatable_policies(policies: CedarPolicy) -> frozenset[str]:
    """Return the ids of the policies on items that no store can apply, for one of some typical principals."""
    law = MemoryLaw(lambda: policies)
    groups = sorted({"everyone"}.union(*map(groups_named, policies.policies.values())))
    found: set[str] = set()
    for kind, named, unfiltered in itertools.product(("user", "job"), ((), tuple(groups)), (False, True)):
        who = Principal(name="any", kind=kind, groups=named, admin=unfiltered)  # type: ignore[arg-type]
        for action in ITEM_ACTIONS:
            about = Resource(type="Memory", id="any", tenant="any", attributes={"name": "any"})
            asked = PolicyRequest(
                principal=who, tenant="any", action=action, resource=about, context={"unfiltered": unfiltered}
            )
            with contextlib.suppress(PolicyError):  # what the engine cannot evaluate is another finding
                found.update(law.untranslatable(asked))
    return frozenset(found)


def _translated(policies: CedarPolicy, request: PolicyRequest) -> tuple[ItemFilter, tuple[str, ...]]:
    """Return the condition of a request, and the ids of untranslatable policies."""
    try:
        answer = policies.residual(request.principal, request.tenant, request.action, context=request.context)
        errors = answer["diagnostics"]["errors"]
        known = {"tenant": request.resource.tenant, "memory": request.resource.id}
        if not errors:
            return condition_of(answer["residuals"], known)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the engine is no Exception
        raise _failed(request) from (error if isinstance(error, Exception) else None)
    raise _failed(request)


def _failed(request: PolicyRequest) -> PolicyError:
    return PolicyError(
        f"the policies could not be evaluated for {request.action!r} on {request.resource.id!r}, "
        "so nothing is permitted",
        hint="workbench check",
    )


def _compared(policies: CedarPolicy) -> tuple[str, ...] | None:
    """Return the attributes of items that the policies read; None if one reads more than attributes."""
    found: set[str] = set()
    for policy in policies.policies.values():
        if type_of(policy) not in {None, "Item"}:
            continue  # it decides about no item
        scope = policy.tree["resource"]
        if scope["op"] not in {"All", "is"} or "in" in scope:
            return None
        for attribute in _reads(policy.tree.get("conditions", ())):
            if attribute is None:
                return None
            found.add(attribute)
    return tuple(sorted(found & (TEXTS | NUMBERS)))


def _reads(node: Any) -> Iterator[str | None]:
    """Yield each attribute of the resource that an expression reads; None for another use of the resource."""
    if isinstance(node, list | tuple):
        for member in node:
            yield from _reads(member)
    elif node == _RESOURCE:
        yield None
    elif isinstance(node, Mapping):
        for operator, operands in node.items():
            left = operands.get("left") if isinstance(operands, Mapping) else None
            if operator in {".", "has"} and left == _RESOURCE:
                yield operands["attr"]
            elif operator != "is" or left != _RESOURCE or "in" in operands:
                yield from _reads(operands)
