"""Search results as a list that displays each passage with its origin and access."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.display import Card, Row, Shown
from workbench.types import Hit
from workbench.widgets.cutting import shortened

_NONE = "No passage that you may see is valid on that day"
_DEGRADED = "degraded: from the last snapshot, the store is unavailable"


class Hits(list[Hit], Shown):
    """Passages, best first. `degraded` marks an answer from the last snapshot, even an empty one."""

    def __init__(self, hits: Iterable[Hit] = (), *, degraded: bool = False) -> None:
        super().__init__(hits)
        self._degraded = degraded

    @property
    def sources(self) -> tuple[str, ...]:
        """The distinct sources of the passages, best first."""
        return tuple(dict.fromkeys(hit.source for hit in self))

    @property
    def degraded(self) -> bool:
        """Whether any passage comes from the last snapshot because the store was unavailable."""
        return self._degraded or any(hit.degraded for hit in self)

    def __str__(self) -> str:
        if not self:
            return self._none()
        return "\n".join(
            f"{number:>2}. {hit.score:.4f}  {_origin(hit)}\n    {_about(hit)}\n    {_short(hit.text, 160)}"
            for number, hit in enumerate(self, start=1)
        )

    def card(self) -> Card:
        """Return a card with one row for each passage."""
        title = f"{len(self)} {'passage' if len(self) == 1 else 'passages'}" if self else self._none()
        head = ("score", "source", "title", "text", "about it")
        return Card(title=title, head=head, rows=[_row(hit) for hit in self])

    def _none(self) -> str:
        return f"{_NONE} ({_DEGRADED})." if self.degraded else f"{_NONE}."


def _origin(hit: Hit) -> str:
    """Describe a hit's source, its version and digest, and its warnings."""
    marks = ["source changed"] * hit.stale + [_DEGRADED] * hit.degraded
    mark = f" ({'; '.join(marks)})" if marks else ""
    return f"{hit.source}, version {hit.version}, {hit.digest[:12]}{mark}"


def _about(hit: Hit) -> str:
    """Describe a hit's age, memory, trust and access."""
    age = f"{hit.age_days} days old on {hit.as_of}" if hit.age_days is not None else f"as of {hit.as_of}"
    found = f"memory version {hit.memory_version}" if hit.memory_version else hit.kind
    return f"{age}; {hit.memory}, {found}; trust {hit.trust}; allowed: {hit.allowed or 'not said'}"


def _short(text: str, most: int) -> str:
    return shortened(" ".join(text.split()), most)


def _row(hit: Hit) -> Row:
    return (f"{hit.score:.4f}", _origin(hit), hit.title, shortened(hit.text, 240), _about(hit))
