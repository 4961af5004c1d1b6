"""Sum what policies, checks, data rules and budgets would have refused while they only observe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def would_refuse_of(calls: pl.LazyFrame) -> pl.DataFrame:
    """Return a row for each use case and rule: its calls, their share, the tenants, first, last and one call.

    A rule is such as `moderation:exfiltration`, `policy:no-external-personal` or the name of a budget.
    `share` is the part of the calls of the use case, of any kind, that the rule would have refused.
    """
    import polars as pl

    kept = calls.select("use_case", "tenant", "at", "trace_id", "would_refuse")
    total = kept.group_by("use_case").agg(pl.len().alias("of"))
    named = kept.explode("would_refuse").filter(pl.col("would_refuse").is_not_null())
    rows = named.group_by("use_case", pl.col("would_refuse").alias("rule")).agg(
        pl.col("trace_id").n_unique().alias("calls"),
        pl.col("tenant").n_unique().alias("tenants"),
        pl.col("at").min().alias("first"),
        pl.col("at").max().alias("last"),
        pl.col("trace_id").sort_by("at").last().alias("last_trace"),
    )
    joined = rows.join(total, on="use_case").with_columns((pl.col("calls") / pl.col("of")).alias("share"))
    names = ("use_case", "rule", "calls", "of", "share", "tenants", "first", "last", "last_trace")
    return joined.select(names).sort("calls", "use_case", "rule", descending=[True, False, False]).collect()
