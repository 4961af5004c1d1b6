"""The policy port: who asks to do what with which resource, and the decision with the policies behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from workbench.errors import PolicyError
from workbench.identity import Principal
from workbench.ports.item_filter import ItemFilter, attributes_of
from workbench.types import JSON, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an action is about: its type (such as `Model`, `Memory` or `Job`), id, tenant and attributes."""

    type: str
    id: str
    tenant: str
    attributes: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRequest:
    """One question to the policies: may the principal, for a tenant, take the action on the resource?

    `action` is an operation such as `model.chat`, or a verb such as `promote`. `context` has the purpose, the
    use case, the phase, the assurance, the class of data and whether the resource is outside of this machine.
    """

    principal: Principal
    tenant: str
    action: str
    resource: Resource
    context: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the request as records hold it, from which it can be decided again."""
        who, what = self.principal, self.resource
        return {
            "principal": {
                "name": who.name,
                "kind": who.kind,
                "groups": list(who.groups),
                "clearance": who.clearance,
                "assurance": who.assurance,
                "admin": who.admin,
            },
            "tenant": self.tenant,
            "action": self.action,
            "resource": {
                "type": what.type,
                "id": what.id,
                "tenant": what.tenant,
                "attributes": dict(what.attributes),
            },
            "context": dict(self.context),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to a request. It can be explained and made again.

    `policies` are the `@id`s of the policies that determined it, none for the default deny, and `reasons`
    their `@reason`s. `permits` are, for the default deny, the `@reason`s of those that could permit the
    action. `errors` are what the engine reported; a decision with errors is never an allow. `policy_set` and
    `schema` are the SHA-256 digests of what it was made by.
    """

    id: str
    allowed: bool
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    permits: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    policy_set: str = ""
    schema: str = ""

    @property
    def why(self) -> str:
        """The reasons as one text; for the default deny, that no policy permits it, and what would."""
        if found := self.errors or self.reasons or self.policies:
            return "; ".join(found)
        return "no policy permits it" + (f" ({' '.join(self.permits)})" if self.permits else "")

    def to_json(self) -> dict[str, Any]:
        """Return the decision as records hold it, without the action, which its request has."""
        return {
            "id": self.id,
            "allowed": self.allowed,
            "policies": list(self.policies),
            "policy_set": self.policy_set[:12],
        }

    def refusal(self, request: PolicyRequest) -> PolicyError:
        """Return the error for a request that this decision denies."""
        about = f"{request.resource.type} {request.resource.id!r}"
        by = f" [{', '.join(self.policies)}]" if self.policies else ""
        return PolicyError(
            f"{request.principal} may not {request.action} on {about}{by}: {self.why}",
            hint=f"workbench audit explain {self.id}",
            policies=self.policies,
            decision=self.id,
        )


@runtime_checkable
class Policy(Protocol):
    """A set of policies. It never raises for a request: what it cannot decide is denied, with errors."""

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the set."""

    def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision on a request; the same request gets the same decision while the set stays."""


@runtime_checkable
class ItemPolicy(Protocol):
    """The policies as the law of memories. `request.resource` of its verbs is a memory."""

    def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision on the memory as a whole."""

    def permitted(self, request: PolicyRequest) -> ItemFilter:
        """Return the condition under which the action on an item of the memory is permitted.

        Raise PolicyError when it cannot be told.
        """

    def decide_items(self, request: PolicyRequest, items: Sequence[Item]) -> list[Decision]:
        """Return the exact decision on each item of the memory."""


def about_item(request: PolicyRequest, item: Item) -> PolicyRequest:
    """Return a request about a memory as one about an item of it."""
    attributes = {**attributes_of(item), "acl": list(item.access), "memory": request.resource.id}
    resource = Resource(type="Item", id=item.id, tenant=request.resource.tenant, attributes=attributes)
    return replace(request, resource=resource)
