"""The cards that an `openai` client of a workspace may name, and the one that it means without a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from workbench import registry
from workbench.errors import ConfigError
from workbench.models import ModelCard
from workbench.ports import ModelCandidate
from workbench.types import JSON
from workbench.workspace.boundary import Boundary


def usable_cards(
    boundary: Boundary, first: str, candidates: Callable[[ModelCard], Iterable[ModelCandidate]]
) -> list[ModelCard]:
    """Return the card `first`, those of its fall-backs, and the other saved cards by name."""
    card = boundary.card(first)
    fallbacks = [item.target for item in candidates(card) if item.answer is None]
    found = [card, *map(boundary.card, (*fallbacks, *registry.names(boundary.root, "model")))]
    return list({item.name: item for item in reversed(found)}.values())[::-1]


def model_of(boundary: Boundary, operation: str, payload: JSON) -> str:
    """Return the model that a client's request names; for a moderation without a name, the only card of it.

    Raise ConfigError when there is no such card, or more than one.
    """
    asked = str(payload.get("model") or "")
    if asked or operation != "moderate":
        return asked
    names = registry.names(boundary.root, "model")
    found = [name for name in names if boundary.card(name).kind == "moderation"]
    if len(found) != 1:
        raise ConfigError(
            f"the moderation names no model, and {len(found)} cards are of kind moderation",
            hint=f"pass model={found[0]!r}" if found else "save a card of kind moderation: docs/models.md",
        )
    return found[0]
