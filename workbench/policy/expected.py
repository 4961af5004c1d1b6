"""The expected decisions of a set: the rows of `tests.yaml`, read strictly and decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError
from workbench.policy.engine import CedarPolicy
from workbench.policy.requests import from_record
from workbench.policy.source import TESTS, PolicySource
from workbench.ports.policy import Decision, PolicyRequest

_HINT = "docs/policy.md shows a row"


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
