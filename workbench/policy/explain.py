"""Explain a recorded decision: who asked for what, which policies decided, and what today's set decides."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.policy.engine import CedarPolicy
from workbench.policy.recorded import RecordedDecision
from workbench.policy.requests import from_record
from workbench.ports.policy import Decision, PolicyRequest

#: Attributes of a request that are shown first; the others follow.
_CONTEXT = (
    "use_case",
    "purpose",
    "phase",
    "assurance",
    "data_class",
    "external",
    "environment",
    "api_key_kind",
    "confinement",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedDecision(Shown):
    """A recorded decision, the texts of its policies, and the decision of today's set on the same request.

    `texts` are pairs of a policy's `@id` and where it stands with its `@reason`; a policy that today's set
    lacks has none. `today` is None for a request that cannot be read.
    """

    decision: RecordedDecision
    texts: tuple[tuple[str, str], ...]
    today: Decision | None

    @property
    def title(self) -> str:
        """What was decided, in one line."""
        found = self.decision
        word = "allowed" if found.allowed else "denied, and not enforced" if found.observed else "denied"
        return f"decision {found.id}: {found.action} {word}"

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {
            "decision": dataclasses.asdict(self.decision),
            "policies": dict(self.texts),
            "today": dataclasses.asdict(self.today) if self.today else None,
        }

    def card(self) -> Card:
        """Return who, what and why as rows."""
        found, asked = self.decision, self.decision.request if self.today else {}  # {}: it cannot be read
        who, what = asked.get("principal", {}), asked.get("resource", {})
        context = asked.get("context", {})
        rights = f"groups {', '.join(who.get('groups', ())) or 'none'}; clearance {who.get('clearance')}; "
        rows = [
            ("principal", f"{who.get('name', 'unknown')} ({who.get('kind')}, {who.get('assurance')})"),
            ("", rights + ("an admin" if who.get("admin") else "no admin")),
            ("for tenant", asked.get("tenant", "")),
            ("resource", f"{what.get('type')} {what.get('id')} of tenant {what.get('tenant') or 'none'}"),
            *((name, _shown(value)) for name, value in sorted(what.get("attributes", {}).items())),
            *((name, _shown(context[name])) for name in _CONTEXT if context.get(name) not in {None, ""}),
            *(("by", f"{name}: {text}") for name, text in self.texts),
            *(() if self.texts else (("by", "no policy permits it"),)),
            ("calls", f"{found.calls:,}, the last at {found.at}"),
        ]
        return Card(title=self.title, head=("what", "value"), rows=rows, notes=self._notes())

    def _notes(self) -> list[str]:
        found, today = self.decision, self.today
        if today is None:
            return ["the recorded request cannot be read, so today's policies were not asked"]
        word = "allow" if today.allowed else "deny"
        same = "the same policies" if today.policy_set.startswith(found.policy_set) else "other policies"
        by = ", ".join(today.policies) or "no policy permits it"
        permits = [f"what could permit it: {reason}" for reason in today.permits]
        return [f"today, by {same}: {word} ({by})", *today.errors, *permits]


def explain(policy: CedarPolicy, decision: RecordedDecision) -> ExplainedDecision:
    """Return the explanation of a recorded decision, beside what a set decides on it now."""
    texts = tuple((name, _text(policy, name)) for name in decision.policies)
    try:
        request: PolicyRequest | None = from_record(decision.request, where=f"decision {decision.id}")
    except ConfigError:
        request = None
    return ExplainedDecision(
        decision=decision, texts=texts, today=policy.decide(request) if request is not None else None
    )


def _text(policy: CedarPolicy, name: str) -> str:
    found = policy.policies.get(name)
    return f"{found.reason} ({found.file})" if found else "not in today's policies"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value).lower()
