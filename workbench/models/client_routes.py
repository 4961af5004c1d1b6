"""The routes of an `openai` client: the operation of each governed one, and advice for every other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from workbench.errors import NotFoundError

#: The operation of each governed route, by method and path.
GOVERNED: Final[Mapping[tuple[str, str], str]] = {
    ("POST", "/chat/completions"): "chat",
    ("POST", "/responses"): "respond",
    ("POST", "/responses/input_tokens"): "count",
    ("POST", "/embeddings"): "embed",
    ("POST", "/moderations"): "moderate",
}
#: The route of the model cards, which needs no call.
MODELS: Final = "/models"
_CONVERSATION: Final = "send the whole conversation: client.responses.create(input=[…])"
_KEPT: Final = "keep the answer of the call that made it; ws.calls() lists the calls"
#: What to do instead of a route that is not governed: the first pattern that begins the path applies.
ADVICE: Final[tuple[tuple[str, str], ...]] = (
    ("/models", "list with client.models.list(); change cards in pipelines/models, then workbench save"),
    ("/completions", "call client.chat.completions.create(…)"),
    ("/chat/completions", _KEPT),
    ("/responses/compact", "shorten the conversation with ws.window(…)"),
    ("/responses", _KEPT),
    ("/conversations", _CONVERSATION),
    ("/assistants", _CONVERSATION),
    ("/threads", _CONVERSATION),
    ("/realtime", "call client.responses.create(stream=True)"),
    ("/batches", "answer many rows in a job: task.map(ws.inputs(…))"),
    ("/files", "add documents to a memory: ws.memory(…).add(wb.load(…))"),
    ("/uploads", "add documents to a memory: ws.memory(…).add(wb.load(…))"),
    ("/vector_stores", "search a memory: ws.memory(…).search(…)"),
    ("/evals", "judge with ws.experiment(…) and ws.gate(…)"),
    ("/fine_tuning", "train outside of the workbench, then write a card of the new model"),
    ("/images", "no control reads images; only chat and responses take them as input"),
    ("/audio", "no control hears sound; write it as text first"),
    ("/videos", "no control sees videos"),
    ("/containers", "run code in the notebook"),
    ("/organization", "read costs in ws.calls(); administer the account outside of the workbench"),
)
_ELSE: Final = "call chat.completions, responses, embeddings, moderations or models of this client"


def operation_of(method: str, path: str) -> str:
    """Return the operation of a route; raise NotFoundError that names the nearest governed way."""
    operation = GOVERNED.get((method, path))
    if operation is None:
        advice = next((text for beginning, text in ADVICE if begins(path, beginning)), _ELSE)
        raise NotFoundError(f"{method} {path} does not cross the boundary, so it is refused", hint=advice)
    return operation


def begins(path: str, beginning: str) -> bool:
    """Return whether a path is this route or below it."""
    return path == beginning or path.startswith(f"{beginning}/")
