"""Compare two versions of a tenant's knowledge, or its sources with the active version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.display import Card, Shown
from workbench.types import KNOWLEDGE, Item

if TYPE_CHECKING:
    import polars as pl

Change = Literal["added", "removed", "changed", "same"]
_ORDER: tuple[Change, ...] = ("added", "removed", "changed", "same")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDifference:
    """One source: its change, its numbers of chunks and its page digests before and after."""

    source: str
    change: Change
    before: int
    after: int
    digest_before: str | None
    digest_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences(Shown):
    """The sources of a tenant on either side, and the number `withheld` from the principal."""

    title: str
    rows: tuple[ItemDifference, ...]
    withheld: int = 0

    def of(self, *changes: Change) -> tuple[str, ...]:
        """Return the sources with one of these changes."""
        return tuple(row.source for row in self.rows if row.change in changes)

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(self.of("added", "removed", "changed"))

    def frame(self) -> pl.DataFrame:
        """Return a frame with one row for each source."""
        import polars as pl

        text, number = pl.String, pl.Int64
        schema = {
            "source": text, "change": text, "before": number, "after": number, "digest_before": text,
            "digest_after": text,
        }  # fmt: skip
        return pl.DataFrame([asdict(row) for row in self.rows], schema=schema, orient="row")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `--json` prints."""
        return {"title": self.title, "withheld": self.withheld, "sources": [asdict(row) for row in self.rows]}

    def _counts(self) -> str:
        counts = [f"{number} {change}" for change in _ORDER if (number := len(self.of(change)))]
        hidden = [f"{self.withheld} hidden from you"] if self.withheld else []
        return ", ".join([*counts, *hidden]) or "no source"

    def __str__(self) -> str:
        shown = [row for row in self.rows if row.change != "same"]
        width = max((len(row.source) for row in shown), default=0)
        lines = [
            f"  {row.change:<7}  {row.source:<{width}}  {row.before} -> {row.after} chunks  "
            f"{(row.digest_before or 'none')[:12]} -> {(row.digest_after or 'none')[:12]}"
            for row in shown
        ]
        return "\n".join([f"{self.title}: {self._counts()}", *lines])

    def card(self) -> Card:
        """Return a card with one row for each source that differs."""
        rows = [
            (
                row.change,
                row.source,
                f"{row.before} → {row.after}",
                " → ".join((digest or "none")[:12] for digest in (row.digest_before, row.digest_after)),
            )
            for row in self.rows
            if row.change != "same"
        ]
        head = ("change", "source", "chunks", "digest")
        return Card(title=f"{self.title}: {self._counts()}", head=head, rows=rows)


Sources = Mapping[str, tuple[str, frozenset[str]]]


def sources_of(items: Iterable[Item]) -> dict[str, tuple[str, frozenset[str]]]:
    """Map each source of documents to its digest and the ids of its chunks."""
    found: dict[str, tuple[str, set[str]]] = {}
    for item in items:
        if item.kind == KNOWLEDGE:
            found.setdefault(item.source, (item.source_digest, set()))[1].add(item.id)
    return {source: (digest, frozenset(ids)) for source, (digest, ids) in found.items()}


def compared(title: str, before: Sources, after: Sources, *, hidden: Iterable[str] = ()) -> Differences:
    """Compare source by source, sorted; `hidden` sources are only counted."""
    withheld = frozenset(hidden) & (set(before) | set(after))
    shown = sorted((set(before) | set(after)) - withheld)
    rows = tuple(_difference(source, before.get(source), after.get(source)) for source in shown)
    return Differences(title=title, rows=rows, withheld=len(withheld))


def _difference(
    source: str, one: tuple[str, frozenset[str]] | None, two: tuple[str, frozenset[str]] | None
) -> ItemDifference:
    change: Change = "same" if one == two else "changed" if one and two else "removed" if one else "added"
    (digest_before, ids_before), (digest_after, ids_after) = one or (None, ()), two or (None, ())
    return ItemDifference(
        source=source, change=change, before=len(ids_before), after=len(ids_after),
        digest_before=digest_before, digest_after=digest_after,
    )  # fmt: skip
