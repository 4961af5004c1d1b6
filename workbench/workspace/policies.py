"""The controls `policy` and `access` of a workspace: its policies, and what each call is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from workbench.controls.access import Access
from workbench.controls.policy import PolicyControl, memory_of
from workbench.models import ModelCard
from workbench.policy.current import CurrentPolicy
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Call, Control
from workbench.ports.policy import Resource

#: The providers whose models run on this machine.
_EMBEDDED: Final = frozenset({"local", "wordllama"})


def controls_of(
    current: CurrentPolicy,
    card: Callable[[str], ModelCard],
    *,
    observe: bool = False,
    timeless: bool = False,
) -> dict[str, Control]:
    """Return the controls that ask the repository's policies, by their names: of calls, and of items.

    With `observe`, the built-in policies decide, and what the repository's would refuse is noted. `timeless`
    is as for `Access`.
    """
    floor = CedarPolicy.builtin() if observe else None
    law = MemoryLaw(current.active)
    about = functools.partial(_resource, card=card)
    return {
        "policy": PolicyControl(current, resource=about, observe=observe, floor=floor),
        "access": Access(law, timeless=timeless)
        if floor is None
        else Access(MemoryLaw(lambda: floor), timeless=timeless, observed=law),
    }


def _resource(call: Call, card: Callable[[str], ModelCard]) -> Resource:
    """Return what a call is about: a model by its card, or a memory, for the tenant of the call."""
    tenant = call.context.tenant
    if call.port == "memory":
        return memory_of(call)
    return model_resource(card(call.target), tenant)


def model_resource(card: ModelCard, tenant: str) -> Resource:
    """Return a model as a resource; one that is asked at an address is external, also on this machine."""
    return Resource(
        type="Model",
        id=card.reference,
        tenant=tenant,
        attributes={
            "name": card.name,
            "provider": card.provider,
            "external": card.provider not in _EMBEDDED,
            "region": card.region,
        },
    )
