"""The policy engine: decides requests by a set that is parsed once, and keeps its decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.policy import cedar
from workbench.policy.cedar import CedarSet, Evaluated, ParsedPolicy
from workbench.policy.requests import (
    ACTION_GROUPS,
    CONTEXT,
    NEW_CONTEXT,
    cedar_request,
    principal_entity,
    principal_kind,
    resource_entity,
)
from workbench.policy.source import PolicySource, read_builtin, read_source
from workbench.ports.policy import Decision, PolicyRequest
from workbench.types import JSON

#: Decisions that are kept; a process that asks for more begins anew.
_MOST_KEPT: Final = 20_000


class CedarPolicy:
    """A set of Cedar policies, as the policy port.

    It never allows what the engine could not decide. The same request gets an equal decision, with the same
    id, from every process that has the same set.
    """

    def __init__(self, source: PolicySource) -> None:
        """Parse the set; raise ConfigError, which names the file, for one that cannot be parsed."""
        self.source = source
        parsed = _parsed_policies(source)
        self.policies: Mapping[str, ParsedPolicy] = {policy.id: policy for policy in parsed}
        self.cedar = _parsed_set(source, parsed)
        self._digest = source.digest
        self._schema = files.digest(source.schema.encode())
        self._lacking = tuple(name for name, word in NEW_CONTEXT.items() if word not in source.schema)
        self._kept: dict[bytes, Decision] = {}
        self._residuals: dict[bytes, JSON] = {}
        self._asked: dict[str, bool] = {}

    @classmethod
    def of(cls, root: Path) -> CedarPolicy:
        """Return the repository's set, or the built-in one; raise ConfigError for a broken one."""
        return cls(read_source(root))

    @classmethod
    def builtin(cls) -> CedarPolicy:
        """Return the built-in set."""
        return cls(read_builtin())

    def over(self, other: CedarSet) -> CedarPolicy:
        """Return this policy over another set, which keeps no decision of this one; for what-if questions."""
        made = CedarPolicy.__new__(CedarPolicy)
        made.source, made.policies, made.cedar = self.source, self.policies, other
        made._digest, made._schema = self._digest, self._schema  # noqa: SLF001 - of its own class
        made._lacking = self._lacking  # noqa: SLF001
        made._kept, made._residuals, made._asked = {}, {}, {}  # noqa: SLF001
        return made

    @property
    def digest(self) -> str:
        """The SHA-256 digest of policies, schema and entities."""
        return self._digest

    def reason(self, policy: str) -> str:
        """Return the `@reason` of a policy, "" without one."""
        found = self.policies.get(policy)
        return found.reason if found else ""

    def asks_for(self, name: str) -> bool:
        """Return whether a policy may depend on an attribute of this name."""
        known = self._asked.get(name)
        if known is None:
            known = self._asked[name] = any(name in text for text in self.source.policies.values())
        return known

    def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision on a request; a decision with errors is a denial and is not kept."""
        try:
            key = files.canonical(request.to_json())
        except Exception as error:  # noqa: BLE001 - a value that is not JSON is no request
            return self._decision(b"", _unreadable(error), request)
        kept = self._kept.get(key)
        if kept is None:
            entities = [
                principal_entity(request.principal, request.tenant),
                resource_entity(request.resource),
            ]
            answer = self.cedar.evaluate(cedar_request(request, without=self._lacking), entities)
            kept = self._decision(key, answer, request)
            if not kept.errors:
                self._keep(key, kept)
        return kept

    def decide_all(self, requests: Sequence[PolicyRequest]) -> list[Decision]:
        """Return the decisions on requests of one principal and tenant, such as the items of a search.

        The engine is asked once for all that are not kept. Raise ValueError for several principals.
        """
        if not requests:
            return []
        first = requests[0]
        if any((r.principal, r.tenant) != (first.principal, first.tenant) for r in requests):
            raise ValueError("decide_all: the requests have several principals or tenants")
        keys = [files.canonical(request.to_json()) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._kept}
        resources = {(r.resource.type, r.resource.id): resource_entity(r.resource) for r in new.values()}
        if len(resources) < len({files.canonical(r.to_json()["resource"]) for r in new.values()}):
            return [self.decide(request) for request in requests]  # one id with several attributes
        entities = [principal_entity(first.principal, first.tenant), *resources.values()]
        asked = [cedar_request(request, without=self._lacking) for request in new.values()]
        found = self.cedar.evaluate_all(asked, entities) if asked else []
        made = {key: self._decision(key, answer, new[key]) for key, answer in zip(new, found, strict=True)}
        for key, decision in made.items():
            if not decision.errors:
                self._keep(key, decision)
        return [made[key] if key in made else self._kept[key] for key in keys]

    def residual(
        self, principal: Principal, tenant: str, action: str, *, context: Mapping[str, Any] | None = None
    ) -> JSON:
        """Return the engine's answer to a request with an unknown resource, as `CedarSet.residual` does.

        Its `residuals` are by `@id`. It is kept by principal, tenant, action and context; do not change it.
        """
        given = {**CONTEXT, "assurance": principal.assurance, **(context or {})}
        given = {name: value for name, value in given.items() if name not in self._lacking}
        entity = principal_entity(principal, tenant)
        key = files.canonical([entity, action, given])
        if key not in self._residuals:
            request = {
                "principal": cedar.uid_text(principal_kind(principal), principal.name),
                "action": cedar.uid_text("Action", action),
                "resource": None,
                "context": given,
            }
            if len(self._residuals) >= _MOST_KEPT:
                self._residuals.clear()
            self._residuals[key] = self.cedar.residual(request, [entity])
        return self._residuals[key]

    def _keep(self, key: bytes, decision: Decision) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[key] = decision

    def permits(self, action: str, resource_type: str) -> list[ParsedPolicy]:
        """Return the policies that could permit an action on a type of resource."""
        return [
            policy
            for policy in self.policies.values()
            if policy.tree["effect"] == "permit"
            and action in cedar.actions_of(policy, ACTION_GROUPS)
            and cedar.type_of(policy) in {None, resource_type}
        ]

    def _decision(self, key: bytes, answer: Evaluated, request: PolicyRequest) -> Decision:
        denied = not (answer.allowed or answer.policies or answer.errors)
        permits = self.permits(request.action, request.resource.type) if denied else []
        return Decision(
            id=files.digest([self._digest, key.decode()])[:16],
            allowed=answer.allowed,
            policies=answer.policies,
            reasons=tuple(filter(None, map(self.reason, answer.policies))),
            permits=tuple(policy.reason or policy.id for policy in permits),
            errors=answer.errors,
            policy_set=self._digest,
            schema=self._schema,
        )


def _unreadable(error: Exception) -> Evaluated:
    return Evaluated(allowed=False, errors=(f"the request is not plain JSON ({type(error).__name__})",))


def _parsed_policies(source: PolicySource) -> list[ParsedPolicy]:
    """Return the policies of every file, in the order of the files' names; raise as `parse_policies`."""
    return [
        policy
        for file, text in source.policies.items()
        for policy in cedar.parse_policies(text, file=source.name(file))
    ]


def _parsed_set(source: PolicySource, parsed: Sequence[ParsedPolicy]) -> CedarSet:
    try:
        return CedarSet(parsed, schema=source.schema, entities=source.entities)
    except ConfigError as error:
        raise ConfigError(f"{source.folder}: {error.message}", hint=error.hint) from None
