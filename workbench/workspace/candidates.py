"""The candidates of a use case's calls: its model and the fall-backs, their checks and their prices."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workbench import files
from workbench.config import StatedAnswer
from workbench.errors import ConfigError
from workbench.models import ModelCard
from workbench.ports import ModelCandidate
from workbench.types import STATED

#: A fall-back as params.yaml and `ws.model(…, fallback=[…])` state it.
Fallbacks = Iterable[str | StatedAnswer | Mapping[str, Any]]
CardOf = Callable[[str], ModelCard]
#: The models of unknown price that this process has warned of.
_warned: set[str] = set()


def candidates(primary: ModelCard, fallbacks: Fallbacks, *, card_of: CardOf) -> tuple[ModelCandidate, ...]:
    """Return the candidates after `primary`, in order; `card_of` returns the card of a name.

    Raise ConfigError for a model that is the primary or another fall-back, for a model that is not for chat,
    and for a stated answer that is not the last one; NotFoundError for a model without a card.
    """
    if isinstance(fallbacks, str | Mapping | StatedAnswer):
        raise ConfigError(
            f"fallback is a list, found {files.shortened(repr(fallbacks))}",
            hint='fallback=["NAME", {"answer": "…"}]',
        )
    found: list[ModelCandidate] = []
    seen = {primary.name}
    for fallback in fallbacks:
        if found and found[-1].answer is not None:
            raise ConfigError(
                f"the fall-backs of {primary.name!r}: a stated answer always answers, so nothing after it is "
                "asked",
                hint='move {answer: "…"} to the end of the list',
            )
        item = _of_model(primary, card_of(fallback)) if isinstance(fallback, str) else _of_text(fallback)
        name = item.target.partition("@")[0]
        if name in seen:
            raise ConfigError(
                f"the fall-backs of {primary.name!r} name {name!r}, which was asked before",
                hint="name each model once",
            )
        seen.add(name)
        found.append(item)
    return tuple(found)


def warn_of_unknown_price(card: ModelCard) -> None:
    """Write one warning in a process for a model whose price is unknown: its calls cost money unseen."""
    if card.reference in _warned or card.price_source or card.kind == "moderation":
        return
    _warned.add(card.reference)
    sys.stderr.write(
        f"warning: the price of the model {card.name!r} is unknown, so its calls have no cost, and no budget "
        f"of money counts them\n  -> {card.price_hint}\n"
    )


def _of_model(primary: ModelCard, card: ModelCard) -> ModelCandidate:
    if card.kind != primary.kind:
        raise ConfigError(
            f"the fall-back {card.name!r} of {primary.name!r} is for {card.kind}, not for {primary.kind}",
            hint=f"name a model of kind {primary.kind}: workbench check lists the cards",
        )
    if card.dialect != primary.dialect:
        raise ConfigError(
            f"the fall-back {card.name!r} of {primary.name!r} speaks {card.dialect}, not {primary.dialect}",
            hint=f"name a model whose card has dialect: {primary.dialect}; nothing is translated",
        )
    return ModelCandidate(
        target=card.reference,
        model=card.model,
        identity=card.identity(),
        defaults=card.wire_defaults(),
        operation="respond" if card.dialect == "responses" else "chat",
        recorded=card.recorded,
    )


def _of_text(stated: object) -> ModelCandidate:
    """Return the candidate of a stated answer, `{answer: …}`."""
    if isinstance(stated, Mapping) and set(stated) == {"answer"} and isinstance(stated["answer"], str | dict):
        stated = StatedAnswer(answer=stated["answer"])
    if not isinstance(stated, StatedAnswer):
        raise ConfigError(
            f"a fall-back is the name of a model or a stated answer, found {files.shortened(repr(stated))}",
            hint='fallback=["NAME", {"answer": "…"}]',
        )
    return ModelCandidate(target=STATED, answer=stated.text)


def price_sources(
    primary: ModelCard, fallbacks: Iterable[ModelCandidate], *, card_of: CardOf
) -> dict[str, str]:
    """Return the source of each price that no card states, by reference; an unknown one is empty.

    The source of a price in params.yaml has the price too: no version of a card names it.
    """
    models = [primary, *(card_of(item.target) for item in fallbacks if item.answer is None)]
    return {
        card.reference: _stated_price(card) if card.moved else card.price_source
        for card in models
        if card.price_source != "card"
    }


def _stated_price(card: ModelCard) -> str:
    if card.price_per_million is None:
        return card.price_source
    return f"{card.price_source} {files.canonical(dataclasses.asdict(card.price_per_million)).decode()}"


def described(fallbacks: Iterable[ModelCandidate]) -> list[Any]:
    """Return the fall-backs as a run's settings name them: references, and stated answers as they are."""
    return [item.target if item.answer is None else {"answer": item.answer} for item in fallbacks]
