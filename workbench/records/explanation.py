"""Explain an answer by the record of its call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError
from workbench.records.calls import Chosen, find_call
from workbench.types import JSON, Reply

_SOURCES = {
    "tape": "replayed from the tape",
    "cache": "replayed from the cache",
    "exact": "the cache of answers",
    "slot": "an earlier run of the slot",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Shown):
    """The origin of an answer. `record` is the call's record in the log."""

    reply: Reply = field(repr=False)
    record: JSON

    def rows(self) -> list[tuple[str, str]]:
        """Return the facts of the call as pairs of name and value."""
        record, reply = self.record, self.reply
        usage = f"{record.get('input_tokens')} in, {record.get('output_tokens')} out"
        passages = [
            f"{hit.source} v{hit.version} ({hit.score:.4f}, as of {hit.as_of})" for hit in reply.passages
        ]
        return [
            ("answer", reply.text.strip()),
            ("prompt", reply.prompt or "none"),
            ("passages", "; ".join(passages) or "none"),
            ("model", str(record["target"])),
            *self._fallback(),
            ("asked for", f"{record['use_case']}, tenant {record['tenant']}, {record['purpose']}"),
            ("asked by", f"{record['principal']} ({record['assurance']})"),
            *(("session", str(name)) for name in [record.get("session")] if name),
            ("came from", _SOURCES.get(str(record["source"]), "asked now")),
            ("tokens", usage),
            ("cost", _cost(record["cost_usd"]) + self._unpaid()),
            *((("saved", _cost(saved)),) if (saved := record.get("saved_usd")) else ()),
            ("attempts", "; ".join(map(_attempt, record["attempts"])) or "none: replayed"),
            ("trace", str(record["trace_id"])),
            *(("content", str(content)) for content in [record.get("content")] if content),
        ]

    def _unpaid(self) -> str:
        """Return a note for the price of a recording, which nobody paid again."""
        recorded = self.record["source"] in {"tape", "cache"} and self.record["cost_usd"]
        return ", not paid again: it is a recording" if recorded else ""

    def _fallback(self) -> list[tuple[str, str]]:
        candidate, reason = self.record.get("fallback"), self.record.get("fallback_reason")
        if not candidate:
            return []
        return [("fallback", f"{candidate} answered: {reason}" if reason else f"{candidate} answered")]

    def __str__(self) -> str:
        return "\n".join(f"{name:>10}  {value}" for name, value in self.rows())

    def card(self) -> Card:
        """Return the rows as a card."""
        return Card(title=f"call {self.reply.trace_id}", head=("", ""), rows=self.rows())


def _cost(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.6f} USD"


def _attempt(attempt: Mapping[str, Any]) -> str:
    """Return an attempt as `2: small@1 failed (UnavailableError), 0.75 s, 0.000100 USD`."""
    name = f"{attempt['candidate']} " if attempt.get("candidate") else ""
    error = f" ({attempt['error']})" if attempt.get("error") else ""
    took = "" if attempt.get("duration_s") is None else f", {attempt['duration_s']:.2f} s"
    cost = "" if attempt.get("cost_usd") is None else f", {_cost(attempt['cost_usd'])}"
    return f"{attempt['n']}: {name}{attempt.get('outcome')}{error}{took}{cost}"


def explain(path: Path, reply: Reply, chosen: Chosen) -> Explanation:
    """Return the explanation of a reply; raise NotFoundError unless a chosen call of the log has its id.

    Raise ConfigError for a value that is no reply, such as its text.
    """
    if not isinstance(reply, Reply):
        raise ConfigError(
            f"why is asked of a reply, not of a {type(reply).__name__}", hint="ws.why(ws.model().chat(…))"
        )
    record = find_call(path, reply.trace_id, chosen)
    if record is None:
        raise NotFoundError(
            f"no call with trace {reply.trace_id or '(none)'} is in the log",
            hint="call why() in the repository that made the call",
        )
    return Explanation(reply=reply, record=record)
