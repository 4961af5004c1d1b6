"""Passages found, as a list that shows itself in a notebook."""

from __future__ import annotations

from html import escape

from workbench.types import Hit


class Hits(list[Hit]):
    """Passages, best first."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Their sources, best first, each once."""
        return tuple(dict.fromkeys(hit.source for hit in self))

    def _repr_html_(self) -> str:
        if not self:
            return "<p>No passage that you may see is valid on that day.</p>"
        rows = "".join(_row(hit) for hit in self)
        head = "".join(f"<th>{name}</th>" for name in ("score", "source", "title", "text"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(hit: Hit) -> str:
    text = hit.text if len(hit.text) <= 240 else hit.text[:239] + "…"
    mark = " (source changed)" if hit.stale else ""
    cells = (f"{hit.score:.4f}", f"{hit.source}, version {hit.version}{mark}", hit.title, text)
    styled = "".join(f'<td style="text-align:left;vertical-align:top">{escape(c)}</td>' for c in cells)
    return f"<tr>{styled}</tr>"
