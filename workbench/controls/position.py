"""The operations of the ports, and a control's position among the other controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Model operations.
MODEL: Final = frozenset({"model.chat", "model.respond", "model.embed", "model.moderate", "model.count"})
#: Memory operations that change nothing.
READS: Final = frozenset(
    {"memory.search", "memory.items", "memory.count", "memory.missing", "memory.versions", "memory.stats"}
)
#: Memory operations that change a memory.
WRITES: Final = frozenset(
    {
        "memory.add", "memory.stage", "memory.publish", "memory.remember",
        "memory.forget", "memory.hold", "memory.release", "memory.purge",
    }
)  # fmt: skip
#: All operations that may cross the boundary. Others are refused.
OPERATIONS: Final = MODEL | READS | WRITES


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A control's name, the operations it applies to, and its neighbours.

    `after` names the controls outside this one, which see a call earlier; `before` names the controls
    inside it.
    """

    name: str
    operations: frozenset[str]
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
