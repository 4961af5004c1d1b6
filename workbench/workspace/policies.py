"""The controls `policy` and `access` of a workspace: its policies, and what each call is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from workbench.controls.access import Access
from workbench.controls.policy import ClassOf, PolicyControl, memory_of, stated_class
from workbench.models import ModelCard
from workbench.policy.current import CurrentPolicy
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Call
from workbench.ports.policy import Resource

#: The providers whose models run on this machine.
_EMBEDDED: Final = frozenset({"local", "wordllama"})


def control_of(
    current: CurrentPolicy,
    card: Callable[[str], ModelCard],
    *,
    class_of: ClassOf = stated_class,
    observe: bool = False,
) -> PolicyControl:
    """Return the control over a repository's policies.

    `class_of` finds the highest class of data in a model's call, where the policies depend on it.
    """

    def data_class(call: Call) -> str:
        asked = call.port == "model" and current.active().asks_for("data_class")
        return (class_of(call) if asked else "") or stated_class(call)  # a label lowers no class

    return PolicyControl(
        current,
        resource=lambda call: _resource(call, card),
        class_of=data_class,
        observe=observe,
        floor=CedarPolicy.builtin() if observe else None,
    )


def access_to_items(current: CurrentPolicy, *, observe: bool = False, timeless: bool = False) -> Access:
    """Return the control of memories' items by a repository's policies.

    With `observe`, the built-in policies decide, and what the repository's would deny is noted.
    """
    law = MemoryLaw(current.active)
    if observe:
        return Access(MemoryLaw.builtin(), timeless=timeless, observed=law)
    return Access(law, timeless=timeless)


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
