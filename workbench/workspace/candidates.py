"""The fall-backs of a use case's model: the candidates of its calls, and their checks."""

from __future__ import annotations

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


def candidates(
    primary: ModelCard, fallbacks: Fallbacks, *, card_of: Callable[[str], ModelCard]
) -> tuple[ModelCandidate, ...]:
    """Return the candidates after `primary`, in order; `card_of` returns the card of a name.

    Raise ConfigError for a model that is the primary or another fall-back, for a model that is not for chat,
    and for a stated answer that is not the last one; NotFoundError for a model without a card.
    """
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


def described(fallbacks: Iterable[ModelCandidate]) -> list[Any]:
    """Return the fall-backs as a run's settings name them: references, and stated answers as they are."""
    return [item.target if item.answer is None else {"answer": item.answer} for item in fallbacks]
