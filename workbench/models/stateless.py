"""Keep responses without state at the endpoint: what a request may not refer to, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from workbench.errors import RefusedError
from workbench.types import JSON

_CARD: Final = "or write stateful: true on the model's card, if answers may depend on what the endpoint keeps"
#: Fields of a request that refer to what the endpoint keeps: the reason, and what to do instead.
STATEFUL: Final[Mapping[str, tuple[str, str]]] = {
    "previous_response_id": (
        "the answer depends on a response that the endpoint keeps, and no recording holds that",
        "send the whole conversation as input",
    ),
    "conversation": (
        "the answer depends on a conversation that the endpoint keeps, and no recording holds that",
        "send the whole conversation as input",
    ),
    "prompt": (
        "the text of the prompt is at the endpoint, where no version of it is reviewed",
        "send ws.prompt(…).render(…) as input",
    ),
    "store": ("the endpoint would keep a copy of request and answer", "leave store out"),
    "background": (
        "the answer arrives outside of the call, where nothing records it or counts its cost",
        "call without background, with a longer timeout",
    ),
}


def check_stateless(payload: JSON) -> JSON:
    """Return the request with `store: false`; raise RefusedError if it refers to what the endpoint keeps."""
    for name, (reason, advice) in STATEFUL.items():
        if payload.get(name):
            raise _refused(name, reason, advice)
    asked = payload.get("input")
    if isinstance(asked, list) and any(map(_is_reference, asked)):
        raise _refused("an item_reference in input", *STATEFUL["previous_response_id"])
    return {**payload, "store": False}


def _is_reference(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "item_reference"


def _refused(what: str, reason: str, advice: str) -> RefusedError:
    return RefusedError(f"{what} is refused: {reason}", hint=f"{advice}, {_CARD}")
