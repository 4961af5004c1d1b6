"""What this process keeps of a run's attempts: the passages of their prompts, and their calls' trace ids.

No file of a run holds them. They end with the process, as far as they fit into a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.experiments.usage import chat_calls
from workbench.types import Hit

#: Characters of passages that are kept for one run: 10,000 cases with three short pages each.
_MOST = 32_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAttempt:
    """The trace ids of the chat calls of an attempt, and its passages; None where they did not fit."""

    traces: tuple[str, ...] = ()
    passages: tuple[Hit, ...] | None = field(default=(), repr=False)


class KeptAttempts:
    """The kept attempts of a run, by case and repeat."""

    def __init__(self, *, most: int = _MOST) -> None:
        self._left = most
        self._kept: dict[tuple[str, int], KeptAttempt] = {}

    def keep(
        self, case: str, repeat: int, records: Sequence[Mapping[str, Any]], passages: Sequence[Hit]
    ) -> None:
        """Keep the trace ids of an attempt, and its passages while there is room."""
        traces = (record.get("trace_id") for record in chat_calls(records))
        size = sum(len(hit.text) for hit in passages)
        fits = size <= self._left
        self._left -= size if fits else 0
        self._kept[case, repeat] = KeptAttempt(
            traces=tuple(str(trace) for trace in traces if trace), passages=tuple(passages) if fits else None
        )

    def get(self, case: str, repeat: int) -> KeptAttempt | None:
        """Return the kept attempt, or None."""
        return self._kept.get((case, repeat))
