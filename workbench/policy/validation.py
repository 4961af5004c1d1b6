"""Validate a set of policies: by its schema, by its tests, and by what the workbench asks of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError, nearest
from workbench.identity import Principal
from workbench.policy import cedar
from workbench.policy.engine import CedarPolicy
from workbench.policy.expected import ExpectedDecision, decisions, read_tests
from workbench.policy.memory_law import untranslatable_policies
from workbench.policy.requests import ACTION_GROUPS, ACTIONS, RESOURCES
from workbench.policy.source import SCHEMA, TESTS, PolicySource
from workbench.ports.policy import Decision, PolicyRequest, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """One problem of a set: the file and the policy or the test, what is wrong, and the fix."""

    where: str
    what: str
    fix: str
    warning: bool = False


def validate(source: PolicySource, *, groups: Collection[str] = ()) -> list[PolicyFinding]:
    """Return the problems of a set, none for a good one.

    `groups` are those of the use cases; a policy about another group is reached by no request.
    """
    try:
        policy = CedarPolicy(source)
    except WorkbenchError as error:
        file, colon, what = error.message.partition(": ")
        if colon and file.startswith(source.folder):
            return [PolicyFinding(where=file, what=what, fix=error.hint)]
        return [PolicyFinding(where=source.folder, what=error.message, fix=error.hint)]
    found = [*_schema(policy), *_annotations(policy), *_asked(policy)]
    if found and not all(finding.warning for finding in found):
        return found  # what a set decides that does not fit its schema says nothing
    found += _unknown_groups(policy, groups) if groups else []
    return [*found, *_for_no_store(policy), *_tests(policy)]


def _place(policy: CedarPolicy, file: str, number: int) -> str:
    named = [p.id for p in policy.policies.values() if p.file == file and p.number == number]
    return f"{file}: {named[0]}" if named else file


def _schema(policy: CedarPolicy) -> Iterator[PolicyFinding]:
    """Yield the places where a policy contradicts the schema: an unknown action, a missing attribute."""
    source, seen = policy.source, set()
    for name, text in source.policies.items():
        file = source.name(name)
        for number, message in cedar.validation_errors(text, source.schema):
            unknown = re.search(r'unrecognized action `[^"]*"(.*)"`', message)
            if (file, number) in seen:
                continue  # the others follow from the first
            seen.add((file, number))
            if unknown:
                actions = [*ACTIONS, *filter(None, ACTION_GROUPS)]
                what = f"there is no action {unknown[1]!r} ({nearest(unknown[1], actions)})"
            else:
                what = re.sub(r"^for policy `policy\d+`, ", "", message)
            yield PolicyFinding(
                where=_place(policy, file, number),
                what=what,
                fix=f"correct the policy by {source.name(SCHEMA)}",
            )


def _annotations(policy: CedarPolicy) -> Iterator[PolicyFinding]:
    for item in policy.policies.values():
        where = _place(policy, item.file, item.number)
        if not item.annotated:
            yield PolicyFinding(
                where=where, what="the policy has no @id, which records and errors name", fix='add @id("…")'
            )
        if not item.reason:
            what = "the policy has no @reason, which the person who is refused reads"
            yield PolicyFinding(where=where, what=what, fix='add @reason("…")', warning=True)


def _asked(policy: CedarPolicy) -> Iterator[PolicyFinding]:
    """Yield the actions that the workbench asks and the set's schema does not take."""
    builtin = CedarPolicy.builtin()
    if policy.source.schema == builtin.source.schema:
        return
    for action in ACTIONS:
        for kind in RESOURCES:
            request = _bare_request(action, kind)
            if builtin.decide(request).errors:
                continue  # the workbench asks no such thing
            if errors := policy.decide(request).errors:
                yield PolicyFinding(
                    where=policy.source.name(SCHEMA),
                    what=f"the workbench asks for {action} on {kind}, and the schema does not take it: "
                    f"{_differences(policy, builtin, kind) or errors[0]}",
                    fix="take over what the schema of `workbench new` has (docs/policy.md)",
                )
                break


def _differences(policy: CedarPolicy, builtin: CedarPolicy, kind: str) -> str:
    """Return which attributes of a type the set's schema lacks and adds, "" for none."""
    own, needed = (_attributes(str(found.cedar.schema), kind) for found in (policy, builtin))
    changed = (
        [f"{kind} lacks `{line}`" for line in needed if line not in own],
        [f"{kind} has `{line}`, which no request has" for line in own if line not in needed],
    )
    return ", and ".join("; ".join(texts) for texts in changed if texts)


def _attributes(schema: str, kind: str) -> list[str]:
    """Return the attributes of a type as lines of a schema that the engine printed."""
    found = re.search(rf"^  entity {kind}\b[^{{;]*\{{\n(.*?)^  \}}", schema, re.DOTALL | re.MULTILINE)
    return [line.strip().rstrip(",") for line in found[1].splitlines()] if found else []


def _bare_request(action: str, kind: str) -> PolicyRequest:
    return PolicyRequest(
        principal=Principal(name="ada"),
        tenant="acme",
        action=action,
        resource=Resource(type=kind, id="any", tenant="acme"),
    )


def _unknown_groups(policy: CedarPolicy, groups: Collection[str]) -> Iterator[PolicyFinding]:
    known = {*groups, *cedar.groups_of(policy.source.entities)}
    for item in policy.policies.values():
        for name in sorted(cedar.groups_named(item) - known):
            yield PolicyFinding(
                where=_place(policy, item.file, item.number),
                what=f"no principal is in the group {name!r}, so no request reaches it "
                f"({nearest(name, known)})",
                fix="correct the group, or add it to groups: of a use case in params.yaml",
                warning=True,
            )


def _for_no_store(policy: CedarPolicy) -> Iterator[PolicyFinding]:
    """Yield the policies on items whose condition no memory can apply as the filter of a search."""
    for name in sorted(untranslatable_policies(policy)):
        item = policy.policies[name]
        effect = "permits no item" if item.tree["effect"] == "permit" else "forbids every item"
        yield PolicyFinding(
            where=_place(policy, item.file, item.number),
            what=f"a memory cannot search by this condition, so the policy {effect}",
            fix="compare attributes of the item with constants or with the principal, by ==, <, in a set, "
            "contains, containsAny or containsAll (docs/policy.md)",
        )


def _tests(policy: CedarPolicy) -> Iterator[PolicyFinding]:
    """Yield tests that are decided otherwise, and policies that no test needs."""
    where = policy.source.name(TESTS)
    try:
        rows = read_tests(policy.source)
    except WorkbenchError as error:
        yield PolicyFinding(where=where, what=error.message.removeprefix(f"{where}: "), fix=error.hint)
        return
    found = decisions(policy, rows)
    for row, decision in zip(rows, found, strict=True):
        place = f"{where}: {row.name}"
        if wrong := _misstated(row, decision):
            yield PolicyFinding(where=place, what=wrong, fix="correct the test (docs/policy.md shows a row)")
        elif differs := row.differs(decision):
            yield PolicyFinding(where=place, what=differs, fix="correct the policy, or what is expected")
    yield from _useless(policy, rows, found, where)


def _misstated(row: ExpectedDecision, decision: Decision) -> str:
    """Return why no request of the workbench is like a test, "" if one may be."""
    if wrong := row.misstated():
        return wrong
    kind = row.resource.type
    if decision.errors and CedarPolicy.builtin().decide(_bare_request(row.action, kind)).errors:
        return f"{row.action} is never asked about a {kind}"
    return ""


def _useless(
    policy: CedarPolicy, rows: Sequence[ExpectedDecision], found: Sequence[Decision], where: str
) -> Iterator[PolicyFinding]:
    """Yield the policies that decide no test, and those without which every test is decided the same."""
    used = {name for decision in found for name in decision.policies}
    for item in policy.policies.values():
        place = _place(policy, item.file, item.number)
        if item.id not in used:
            yield PolicyFinding(
                where=place,
                what="the policy is unused: it decides no test",
                fix=f"add a test to {where} that it decides, or remove the policy",
                warning=True,
            )
        elif not _needed(policy, item.id, list(zip(rows, found, strict=True))):
            yield PolicyFinding(
                where=place,
                what="the policy is shadowed: without it every test is decided the same",
                fix=f"add a test to {where} that it alone decides, or remove the policy",
                warning=True,
            )


def _needed(policy: CedarPolicy, name: str, decided: Sequence[tuple[ExpectedDecision, Decision]]) -> bool:
    """Return whether a test is decided otherwise without a policy: one of those that it determines."""
    rest = [item for item in policy.policies.values() if item.id != name]
    other = policy.over(cedar.CedarSet(rest, schema=policy.source.schema, entities=policy.source.entities))
    return any(
        other.decide(row.request(where=row.name)).allowed != decision.allowed
        for row, decision in decided
        if name in decision.policies
    )
