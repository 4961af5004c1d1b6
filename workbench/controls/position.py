"""The operations of the ports, and the form in which a control states where it stands among the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What a model is asked.
MODEL: Final = frozenset({"model.chat", "model.embed", "model.count"})
#: What reads a memory and changes nothing.
READS: Final = frozenset(
    {"memory.search", "memory.items", "memory.count", "memory.missing", "memory.versions", "memory.stats"}
)
#: What changes a memory.
WRITES: Final = frozenset(
    {
        "memory.add", "memory.stage", "memory.publish", "memory.remember",
        "memory.forget", "memory.hold", "memory.release", "memory.purge",
    }
)  # fmt: skip
#: Every operation that may cross the boundary. Any other is refused.
OPERATIONS: Final = MODEL | READS | WRITES


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A control's name, the operations it applies to, and its neighbours.

    `after` names controls that see a call earlier (further out), `before` controls that see it later
    (further in). A neighbour may be a control that is planned and not built.
    """

    name: str
    operations: frozenset[str]
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
