"""Authorisation requests of every kind, and Cedar asked without any of the workbench's code."""

import dataclasses

import cedarpy

from workbench.identity import Principal
from workbench.policy import requests
from workbench.policy.source import read_builtin
from workbench.ports.policy import PolicyRequest, Resource

#: Policies beside the built-in ones: a forbid by group, by name, by phase, and one that can fail.
MORE = """
@id("no-external-personal") @reason("Personal data stays on this machine.")
forbid (principal, action in Workbench::Action::"ask", resource is Workbench::Model)
when { resource.external && context.data_class == "personal" };

@id("no-contractors")
forbid (principal in Workbench::Group::"contractors", action in Workbench::Action::"release", resource);

@id("bob-reads-none")
forbid (principal == Workbench::User::"bob", action in Workbench::Action::"read", resource is Workbench::Item)
when { resource.owner == "eve" };

@id("overflows") @reason("Adds beyond what Cedar can count.")
forbid (principal, action, resource is Workbench::Item)
when { resource.classification + 9223372036854775807 < 0 };
"""
ENTITIES = (
    '[{"uid": {"type": "Workbench::Group", "id": "temps"}, "attrs": {}, '
    '"parents": [{"type": "Workbench::Group", "id": "contractors"}]}]'
)
NAMES = ["alice", "bob", 'ha"c\nk\\er', "principal:bob", "job:answers", "", "日本", "' || true || '"]
GROUPS = ["everyone", "people", "contractors", "temps", "principal:bob"]


def source(more=MORE):
    builtin = read_builtin()
    return dataclasses.replace(
        builtin, policies={**builtin.policies, "z.cedar": more}, entities=ENTITIES, builtin=False
    )


def generated(chance):
    """One request of any kind, valid and not."""
    kind = chance.choice([*requests.RESOURCES, "Item", "Item", "Model"])
    attributes = {}
    if kind == "Item":
        attributes = {
            "acl": chance.sample([*GROUPS, "principal:alice"], chance.randint(0, 3)),
            "classification": chance.choice([0, 0, 1, 2]),
            "owner": chance.choice(["", "eve", "bob"]),
        }
    if kind == "Model":
        attributes = {"external": chance.random() < 0.5}
    return PolicyRequest(
        principal=Principal(
            name=chance.choice(NAMES),
            kind=chance.choice(["user", "user", "job"]),
            groups=tuple(chance.sample(GROUPS, chance.randint(0, 3))),
            clearance=chance.randint(0, 2),
            assurance=chance.choice(["asserted", "authenticated"]),
            admin=chance.random() < 0.3,
        ),
        tenant=chance.choice(["acme", "globex"]),
        action=chance.choice([*requests.ACTIONS, *requests.ACTION_GROUPS["read"], "nothing"]),
        resource=Resource(
            type=kind,
            id=chance.choice(NAMES),
            tenant=chance.choice(["acme", "globex"]),
            attributes=attributes,
        ),
        context={
            "data_class": chance.choice(["", "personal"]),
            "unfiltered": chance.random() < 0.2,
            "purpose": chance.choice(["explore", "job"]),
            **({"api_key_kind": "key", "confinement": "full"} if chance.random() < 0.2 else {}),
            **(
                {"phase": "mlvp", "label": "production", "approvals": chance.randint(0, 1)}
                if chance.random() < 0.2
                else {}
            ),
        },
    )


class Direct:
    """Cedar asked without any of the workbench's code: one text of policies, entities written by hand."""

    def __init__(self, texts, schema, entities):
        self.policies = cedarpy.PolicySet.from_str("\n".join(texts))
        self.schema, self.groups = cedarpy.Schema.from_str(schema), entities

    def allows(self, r):
        who = {"type": f"Workbench::{r.principal.kind.title()}", "id": r.principal.name}
        what = {"type": f"Workbench::{r.resource.type}", "id": r.resource.id}
        empty = {
            "Model": {"name": "", "provider": "", "external": False, "region": ""},
            "Memory": {"name": ""},
            "Item": {
                "memory": "",
                "kind": "",
                "source": "",
                "subject": "",
                "trust": 0,
                "owner": "",
                "acl": [],
                "valid_from": 0,
                "valid_to": 0,
                "expires": 0,
            },
            "Asset": {"kind": "", "name": "", "version": 0, "label": ""},
            "Output": {"name": ""},
            "Content": {"use_case": "", "data_class": "", "principal": ""},
            "ApiKey": {"principal": ""},
        }[r.resource.type]
        rights = {
            "name": r.principal.name, "tenant": r.tenant, "groups": list(r.principal.groups),
            "grants": [*r.principal.groups, f"principal:{r.principal.name}"],
            "clearance": r.principal.clearance, "assurance": r.principal.assurance,
            "admin": r.principal.admin,
        }  # fmt: skip
        entities = [
            {
                "uid": who,
                "attrs": rights,
                "parents": [{"type": "Workbench::Group", "id": name} for name in r.principal.groups],
            },
            {
                "uid": what,
                "attrs": {**empty, **r.resource.attributes, "tenant": r.resource.tenant},
                "parents": [],
            },
            *self.groups,
        ]
        context = {
            "use_case": "", "phase": "mvp", "assurance": r.principal.assurance, "external": False,
            "environment": "explore", "api_key_kind": "", "confinement": "",
            "label": "", "approvals": 0, "independent": 0, **r.context,
        }  # fmt: skip
        action = {"type": "Workbench::Action", "id": r.action}
        answer = cedarpy.is_authorized(
            {"principal": who, "action": action, "resource": what, "context": context},
            self.policies,
            entities,
            self.schema,
        )
        errors = answer.diagnostics.errors
        names = answer.diagnostics.id_annotations_by_reason
        return answer.allowed and not errors, sorted(names[reason] for reason in answer.diagnostics.reasons)
