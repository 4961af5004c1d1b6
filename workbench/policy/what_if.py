"""What a draft of the policies would change: the recorded requests, decided again by the draft."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.policy.recorded import RecordedDecision
from workbench.policy.requests import from_record
from workbench.ports.policy import Policy

#: Rows of a card; --json has all.
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A recorded decision that the draft would make otherwise: `would_allow`, by these policies.

    `calls` is how many recorded calls had it, and `trace_id` the last of them.
    """

    id: str
    action: str
    principal: str
    tenant: str
    resource: str
    would_allow: bool
    policies: tuple[str, ...]
    calls: int
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf(Shown):
    """The flips of a draft, sorted by id, among `decisions` different ones of `calls` calls.

    `unreadable` are the ids whose recorded request cannot be read, which were not decided.
    """

    draft: str
    decisions: int
    calls: int
    flips: tuple[Flip, ...]
    unreadable: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """The flipped calls by direction, action and determining policies, the most first."""
        found: Counter[str] = Counter()
        for flip in self.flips:
            word = "allowed" if flip.would_allow else "denied"
            found[f"{flip.action} would be {word} by {', '.join(flip.policies) or 'no policy'}"] += flip.calls
        return dict(found.most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {**dataclasses.asdict(self), "counts": self.counts}

    def card(self) -> Card:
        """Return the flips as a table, and their counts."""
        rows = [
            (
                f.id, f.action, f.principal, f.tenant, f.resource, "allow" if f.would_allow else "deny",
                ", ".join(f.policies) or "no policy", f"{f.calls:,}",
            )
            for f in self.flips[:_SHOWN]
        ]  # fmt: skip
        notes = [f"{count:,} calls: {what}" for what, count in self.counts.items()]
        if len(self.flips) > _SHOWN:
            notes.append(f"{len(self.flips) - _SHOWN:,} more decisions change; --json lists them all")
        if self.unreadable:
            notes.append(f"{len(self.unreadable):,} recorded requests cannot be read and were left out")
        return Card(
            title=f"{self.draft}: changes {len(self.flips):,} of {self.decisions:,} decisions "
            f"({self.calls:,} calls)",
            head=("decision", "action", "principal", "tenant", "resource", "would", "by", "calls"),
            rows=rows,
            notes=notes,
            command=f"workbench audit explain {self.flips[0].id}" if self.flips else "",
        )


def what_if(draft: Policy, decisions: Iterable[RecordedDecision], *, name: str) -> WhatIf:
    """Return which recorded decisions a draft of the policies would make otherwise, by id."""
    flips: list[Flip] = []
    unreadable: list[str] = []
    number = calls = 0
    for item in decisions:
        number, calls = number + 1, calls + item.calls
        try:
            request = from_record(item.request, where=f"decision {item.id}")
        except ConfigError:
            unreadable.append(item.id)
            continue
        made = draft.decide(request)
        if made.allowed != item.allowed:
            flips.append(
                Flip(
                    id=item.id,
                    action=item.action,
                    principal=request.principal.name,
                    tenant=request.tenant,
                    resource=f"{request.resource.type} {request.resource.id}",
                    would_allow=made.allowed,
                    policies=made.policies,
                    calls=item.calls,
                    trace_id=item.trace_id,
                )
            )
    return WhatIf(draft=name, decisions=number, calls=calls, flips=tuple(flips), unreadable=tuple(unreadable))
