"""Count what the controls decided, found and refused, from the record of calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.records.calls import Chosen, intact, scan_calls

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """What the controls did in a number of recorded calls.

    `replayed` is the number of calls whose answers came from a tape or a journal. `decisions` counts those of
    the policies. `findings` maps the kinds of identifiers and secrets to their numbers, and `checks` those of
    moderation that fired. `refused` maps the types of errors to the refused calls, and `would_refuse` is the
    number of calls that something refuses once it is enforced. `fallbacks` maps the reasons to the calls that
    a fall-back answered. `unpriced` is the number of paid calls whose price is unknown.
    """

    calls: int = 0
    replayed: int = 0
    decisions: int = 0
    findings: Mapping[str, int] = field(default_factory=dict)
    checks: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    would_refuse: int = 0
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    unpriced: int = 0

    def __str__(self) -> str:
        if not self.calls:
            return "governance: no call was made, so nothing was decided"
        parts = [
            f"{_counted(self.calls, 'call')} ({self.replayed} replayed)",
            _counted(self.decisions, "decision"),
            _listed(self.findings, "finding"),
            *([_listed(self.checks, "check")] if self.checks else []),
            _listed(self.refused, "refusal"),
            *([f"{self.would_refuse} would be refused"] if self.would_refuse else []),
            *([_listed(self.fallbacks, "fall-back")] if self.fallbacks else []),
            f"{self.cost_usd:.4f} USD" + (f" and {self.unpriced} without a price" if self.unpriced else ""),
        ]
        return f"governance: {', '.join(parts)}"


def governance_of(log: Path, chosen: Chosen = Chosen.ALL) -> Governance:
    """Return what the controls did in the chosen calls of a log; an empty log has zeros."""
    with intact(log):
        return counted(scan_calls(log, chosen))


def counted(calls: pl.LazyFrame) -> Governance:
    """Return what the controls did in a frame of calls."""
    import polars as pl

    replayed = pl.col("replayed").fill_null(value=False)
    free = replayed | pl.col("source").fill_null("").is_in(["exact", "stated"])
    sums = [
        pl.len().alias("calls"),
        replayed.sum().alias("replayed"),
        pl.col("decision").is_not_null().sum().alias("decisions"),
        (pl.col("would_refuse").list.len().fill_null(0) > 0).sum().alias("would_refuse"),
        # An answer of the cache costs what the candidates before it were paid.
        pl.col("cost_usd").filter(~replayed).sum().alias("cost_usd"),
        (~free & (pl.col("port") == "model") & pl.col("cost_usd").is_null()
         & pl.col("input_tokens").is_not_null()).sum().alias("unpriced"),
    ]  # fmt: skip
    totals, *groups = pl.collect_all(
        [
            calls.select(sums),
            _grouped(
                calls.select("findings").explode("findings").unnest("findings"), "kind", pl.col("count").sum()
            ),
            _grouped(calls.select("checks").explode("checks").unnest("checks"), "check", pl.len()),
            _grouped(calls.filter(pl.col("outcome") == "refused"), "error", pl.len()),
            _grouped(calls, "fallback_reason", pl.len()),
        ]
    )
    names = ("findings", "checks", "refused", "fallbacks")
    found: dict[str, Any] = {name: dict(group.iter_rows()) for name, group in zip(names, groups, strict=True)}
    return Governance(**totals.row(0, named=True), **found)


def _grouped(calls: pl.LazyFrame, name: str, number: pl.Expr) -> pl.LazyFrame:
    """Return the number of each value of a column that is not null, the most frequent first."""
    import polars as pl

    some = calls.filter(pl.col(name).is_not_null())
    return some.group_by(name).agg(number.alias("number")).sort(["number", name], descending=[True, False])


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def _listed(numbers: Mapping[str, int], word: str) -> str:
    """Return the total, and the numbers of the kinds in brackets."""
    text = _counted(sum(numbers.values()), word)
    return (
        f"{text} ({', '.join(f'{kind} {number}' for kind, number in numbers.items())})" if numbers else text
    )
