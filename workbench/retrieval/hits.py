"""Passages found, as a list that shows itself: what each says, where it is from, and why it was allowed."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.display import Card, Row, Shown
from workbench.types import Hit

_NONE = "No passage that you may see is valid on that day"
_DEGRADED = "degraded: from the last snapshot, the store is away"


class Hits(list[Hit], Shown):
    """Passages, best first. `degraded` says of none at all, too, that the last snapshot was asked."""

    def __init__(self, hits: Iterable[Hit] = (), *, degraded: bool = False) -> None:
        super().__init__(hits)
        self._degraded = degraded

    @property
    def sources(self) -> tuple[str, ...]:
        """Their sources, best first, each once."""
        return tuple(dict.fromkeys(hit.source for hit in self))

    @property
    def degraded(self) -> bool:
        """Whether they, or any of them, come from the last snapshot, because the store was away."""
        return self._degraded or any(hit.degraded for hit in self)

    def __str__(self) -> str:
        if not self:
            return self._none()
        return "\n".join(
            f"{number:>2}. {hit.score:.4f}  {_origin(hit)}\n    {_about(hit)}\n    {_short(hit.text, 160)}"
            for number, hit in enumerate(self, start=1)
        )

    def card(self) -> Card:
        """One row for each passage."""
        title = f"{len(self)} {'passage' if len(self) == 1 else 'passages'}" if self else self._none()
        head = ("score", "source", "title", "text", "about it")
        return Card(title=title, head=head, rows=[_row(hit) for hit in self])

    def _none(self) -> str:
        return f"{_NONE} ({_DEGRADED})." if self.degraded else f"{_NONE}."


def _origin(hit: Hit) -> str:
    """The source, its version and digest, and what there is to beware of."""
    marks = [
        mark
        for mark, is_so in (
            ("source changed", hit.stale),
            (_DEGRADED, hit.degraded),
        )
        if is_so
    ]
    mark = f" ({'; '.join(marks)})" if marks else ""
    return f"{hit.source}, version {hit.version}, {hit.digest[:12]}{mark}"


def _about(hit: Hit) -> str:
    """Age, where it was found, how far it is trusted, and why it may be seen."""
    age = f"{hit.age_days} days old on {hit.as_of}" if hit.age_days is not None else f"as of {hit.as_of}"
    found = f"memory version {hit.memory_version}" if hit.memory_version else hit.kind
    return f"{age}; {hit.memory}, {found}; trust {hit.trust}; allowed: {hit.allowed or 'not said'}"


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _row(hit: Hit) -> Row:
    text = hit.text if len(hit.text) <= 240 else hit.text[:239] + "…"
    return (f"{hit.score:.4f}", _origin(hit), hit.title, text, _about(hit))
