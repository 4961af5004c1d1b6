"""What the calls of one case took: its chat calls, degraded searches and sums over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def chat_calls(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The observations among `records` that are of chats: what costs and takes time."""
    return [r for r in records if r.get("port") == "model" and r.get("operation") == "chat"]


def degraded_searches(records: Sequence[Mapping[str, Any]]) -> int:
    """How many of the observations among `records` are of searches that the last snapshot answered."""
    return sum(bool(record.get("degraded")) for record in records)


def summed(records: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The sum over the calls; None when any of them did not say."""
    values = [record.get(name) for record in records]
    return None if not values or None in values else sum(values)
