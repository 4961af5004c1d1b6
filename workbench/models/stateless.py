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
        "its answer has to be fetched after the call, where nothing records it or counts its cost",
        "call without background and with a longer timeout; with stateful: true also with stream=True",
    ),
}


def check_state(payload: JSON, *, stateful: bool = False) -> JSON:
    """Return the request as the endpoint may get it: with `store: false` unless it is `stateful`.

    Raise RefusedError if the request refers to what an endpoint keeps, and is not stateful, or if its answer
    would have to be fetched later.
    """
    for name, (reason, advice) in STATEFUL.items():
        streamed = name == "background" and payload.get("stream")
        if payload.get(name) and (not stateful or (name == "background" and not streamed)):
            raise _refused(name, reason, advice if stateful else f"{advice}, {_CARD}")
    if stateful:
        return payload
    asked = payload.get("input")
    if isinstance(asked, list) and any(map(_is_reference, asked)):
        reason, advice = STATEFUL["previous_response_id"]
        raise _refused("an item_reference in input", reason, f"{advice}, {_CARD}")
    return {**payload, "store": False}


def check_stored(payload: JSON, *, stateful: bool = False) -> None:
    """Raise RefusedError if a request of chat asks the endpoint to keep a copy, and is not `stateful`."""
    if payload.get("store") and not stateful:
        reason, advice = STATEFUL["store"]
        raise _refused("store", reason, f"{advice}, {_CARD}")


def _is_reference(item: Any) -> bool:
    """Return whether an item names one that the endpoint keeps; the type may be left out, the role is not."""
    if not isinstance(item, Mapping):
        return False
    untyped = not item.get("type") and "id" in item and not item.get("role")
    return item.get("type") == "item_reference" or untyped


def _refused(what: str, reason: str, hint: str) -> RefusedError:
    return RefusedError(f"{what} is refused: {reason}", hint=hint)
