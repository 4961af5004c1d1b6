"""The expected decisions of a set: the rows of `tests.yaml`, read strictly and decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.policy.engine import CedarPolicy
from workbench.policy.requests import ACTIONS, CONTEXT, RESOURCES, from_record
from workbench.policy.source import TESTS, PolicySource
from workbench.ports.policy import Decision, PolicyRequest

_HINT = "docs/policy.md shows a row"
#: The types of values in the words of YAML.
_WORDS: Final = {str: "a text", bool: "true or false", int: "a whole number", tuple: "a list of texts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedResource:
    """The resource of a test; its tenant is by default the test's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    type: str
    id: str = "any"
    tenant: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedDecision:
    """A row of `tests.yaml`: a request, and the decision that is expected of the set.

    `by` are the `@id`s of the policies that determine it, in any order; None leaves them open.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    action: str
    resource: ExpectedResource
    expect: Literal["allow", "deny"]
    principal: dict[str, Any] = field(default_factory=dict)
    tenant: str = "acme"
    context: dict[str, Any] = field(default_factory=dict)
    by: tuple[str, ...] | None = None

    def request(self, *, where: str) -> PolicyRequest:
        """Return the request of the row; raise ConfigError for a wrong principal."""
        what = self.resource
        tenant = self.tenant if what.tenant is None else what.tenant
        record = {
            "principal": {"name": "ada", "groups": ["everyone"], **self.principal},
            "tenant": self.tenant,
            "action": self.action,
            "resource": {"type": what.type, "id": what.id, "tenant": tenant, "attributes": what.attributes},
            "context": self.context,
        }
        return from_record(record, where=where)

    def misstated(self) -> str:
        """Return which name or value of the row no request of the workbench has, "" if all are right."""
        kind = self.resource.type
        if self.action not in ACTIONS:
            return f"there is no action {self.action!r} ({nearest(self.action, ACTIONS)})"
        if kind not in RESOURCES:
            return f"there is no type of resource {kind!r} ({nearest(kind, RESOURCES)})"
        return _unlike(
            self.resource.attributes, RESOURCES[kind], f"resource.attributes of a {kind}"
        ) or _unlike(self.context, {**CONTEXT, "assurance": ""}, "context")

    def differs(self, decision: Decision) -> str:
        """Return how a decision differs from the expected one, "" if it does not."""
        found = "allow" if decision.allowed else "deny"
        if decision.errors:
            return f"the engine reports an error: {'; '.join(decision.errors)}"
        if found != self.expect:
            by = f" by {', '.join(decision.policies)}" if decision.policies else ""
            return f"expected {self.expect}, and the policies {found}{by}"
        if self.by is not None and set(self.by) != set(decision.policies):
            named = ", ".join(decision.policies) or "no policy"
            return f"expected {found} by {', '.join(self.by) or 'no policy'}, and it is by {named}"
        return ""


def _unlike(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> str:
    """Return what is wrong with values by those that are known: a name, or the type of a value."""
    for name, value in given.items():
        if name not in known:
            return f"{where} has no {name!r} ({nearest(name, known)})"
        wanted = known[name]
        if isinstance(wanted, tuple):
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        else:
            right = type(value) is type(wanted)
        if not right:
            return f"{where}: {name} must be {_WORDS[type(wanted)]}, found {value!r}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tests:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    tests: tuple[ExpectedDecision, ...]


def read_tests(source: PolicySource) -> tuple[ExpectedDecision, ...]:
    """Return the rows of a set's tests, none without the file; raise ConfigError for a wrong row."""
    if not source.tests:
        return ()
    where = source.name(TESTS)
    rows = files.parse(
        _Tests, files.parse_yaml(source.tests, where=where, hint=_HINT), where=where, hint=_HINT
    )
    seen: set[str] = set()
    for row in rows.tests:
        if row.name in seen:
            raise ConfigError(f"{where}: two tests are called {row.name!r}", hint="rename one of them")
        seen.add(row.name)
        row.request(where=f"{where}: {row.name}")
    return rows.tests


def decisions(policy: CedarPolicy, rows: Iterable[ExpectedDecision]) -> list[Decision]:
    """Return the set's decision on each row."""
    return [policy.decide(row.request(where=row.name)) for row in rows]
