"""Requests to policies: as the engine reads them, as records hold them, and the actions that there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.policy import cedar
from workbench.ports.policy import PolicyRequest, Resource
from workbench.types import JSON

#: Every action by its group, as the schema has them.
ACTION_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "ask": ("model.chat", "model.respond", "model.embed", "model.moderate", "model.count"),
    "read": ("memory.search", "memory.items", "memory.count", "memory.versions"),
    "write": ("memory.remember",),
    "administer": (
        "memory.add", "memory.stage", "memory.publish", "memory.forget", "memory.hold", "memory.release",
        "memory.purge", "memory.missing", "memory.stats",
    ),
    "release": ("promote", "rollback", "approve"),
    "": ("publish", "open_content", "manage_keys"),
}  # fmt: skip
#: The actions in alphabetical order.
ACTIONS: Final = tuple(sorted(action for group in ACTION_GROUPS.values() for action in group))
#: The context of a request where nothing else is known.
CONTEXT: Final[Mapping[str, Any]] = {
    "purpose": "", "use_case": "", "phase": "mvp", "assurance": "asserted", "data_class": "",
    "external": False, "environment": "explore", "unfiltered": False, "api_key_kind": "", "confinement": "",
    "label": "", "approvals": 0, "independent": 0,
}  # fmt: skip
#: Attributes of the context that schemas of earlier sets lack, each with the word that shows its presence.
NEW_CONTEXT: Final[Mapping[str, str]] = {
    "api_key_kind": "api_key_kind", "confinement": "confinement",
    "label": "approvals", "approvals": "approvals", "independent": "independent",
}  # fmt: skip
#: The attributes of each type of resource, beside `tenant`, with values for where nothing is known.
RESOURCES: Final[Mapping[str, Mapping[str, Any]]] = {
    "Model": {"name": "", "provider": "", "external": False, "region": ""},
    "Memory": {"name": ""},
    "Item": {
        "memory": "", "acl": (), "classification": 0, "owner": "", "kind": "", "source": "", "subject": "",
        "trust": 0, "valid_from": 0, "valid_to": 0, "expires": 0,
    },
    "Asset": {"kind": "", "name": "", "version": 0, "label": ""},
    "Output": {"name": ""},
    "Content": {"use_case": "", "data_class": "", "principal": ""},
    "ApiKey": {"principal": ""},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Who:
    __pydantic_config__ = files.STRICT
    name: str
    kind: str = "user"
    groups: tuple[str, ...] = ()
    clearance: int = 0
    assurance: str = "asserted"
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _What:
    __pydantic_config__ = files.STRICT
    type: str
    id: str
    tenant: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    __pydantic_config__ = files.STRICT
    principal: _Who
    tenant: str
    action: str
    resource: _What
    context: dict[str, Any] = field(default_factory=dict)


def from_record(value: Any, *, where: str) -> PolicyRequest:
    """Return the request that `to_json` recorded; raise ConfigError, with `where`, for another value."""
    found = files.parse(_Recorded, value, where=where)
    who, what = found.principal, found.resource
    if who.kind not in {"user", "job"} or who.assurance not in {"asserted", "authenticated"}:
        raise ConfigError(
            f"{where}: a principal is a 'user' or a 'job', and 'asserted' or 'authenticated'",
            hint="correct kind and assurance of the principal",
        )
    return PolicyRequest(
        principal=Principal(
            name=who.name,
            kind=who.kind,  # type: ignore[arg-type]  # one of the two, as checked
            groups=who.groups,
            clearance=who.clearance,
            assurance=who.assurance,  # type: ignore[arg-type]
            admin=who.admin,
        ),
        tenant=found.tenant,
        action=found.action,
        resource=Resource(type=what.type, id=what.id, tenant=what.tenant, attributes=what.attributes),
        context=found.context,
    )


def principal_kind(principal: Principal) -> str:
    """Return the type of a principal in the schema."""
    return "Job" if principal.kind == "job" else "User"


def principal_entity(principal: Principal, tenant: str) -> dict[str, Any]:
    """Return a principal who acts for a tenant as an entity, in its groups."""
    return {
        "uid": cedar.uid(principal_kind(principal), principal.name),
        "attrs": {
            "name": principal.name,
            "tenant": tenant,
            "groups": list(principal.groups),
            "grants": list(principal.grants),
            "clearance": principal.clearance,
            "assurance": principal.assurance,
            "admin": principal.admin,
        },
        "parents": [cedar.uid("Group", name) for name in principal.groups],
    }


def resource_entity(resource: Resource) -> dict[str, Any]:
    """Return a resource as an entity, with all attributes of its type."""
    given = {**RESOURCES.get(resource.type, {}), **resource.attributes, "tenant": resource.tenant}
    return {"uid": cedar.uid(resource.type, resource.id), "attrs": given, "parents": []}


def context_of(request: PolicyRequest) -> JSON:
    """Return the whole context of a request; the assurance is the principal's."""
    return {**CONTEXT, "assurance": request.principal.assurance, **request.context}


def cedar_request(request: PolicyRequest, *, without: Collection[str] = ()) -> JSON:
    """Return a request as the engine reads it, `without` attributes of the context that its schema lacks."""
    context = {name: value for name, value in context_of(request).items() if name not in without}
    return {
        "principal": cedar.uid(principal_kind(request.principal), request.principal.name),
        "action": cedar.uid("Action", request.action),
        "resource": cedar.uid(request.resource.type, request.resource.id),
        "context": context,
    }
