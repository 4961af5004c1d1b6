"""The ports: what a model and a memory do, and the types of the boundary that every call crosses."""

from workbench.ports.boundary import (
    Call,
    Control,
    Handler,
    HeldPlace,
    Model,
    ModelCandidate,
    PromptInputs,
    Span,
)
from workbench.ports.item_filter import ItemFilter
from workbench.ports.memory import (
    Memory,
    MemoryStore,
    MemoryVerbs,
)
from workbench.ports.memory_values import (
    Added,
    Budget,
    Forgotten,
    MemoryStats,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    SearchMode,
    Selector,
    written_id,
)

__all__ = [
    "Added",
    "Budget",
    "Call",
    "Control",
    "Forgotten",
    "Handler",
    "HeldPlace",
    "ItemFilter",
    "Memory",
    "MemoryStats",
    "MemoryStore",
    "MemoryVerbs",
    "MemoryVersion",
    "Model",
    "ModelCandidate",
    "PromptInputs",
    "Purged",
    "Query",
    "Remembered",
    "Requester",
    "SearchMode",
    "Selector",
    "Span",
    "written_id",
]
