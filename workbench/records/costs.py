"""Sum money, tokens and calls by tenant, prompt, day and the like, and by session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import ConfigError, nearest

if TYPE_CHECKING:
    import polars as pl

#: What costs may be summed by: columns of a call, and the UTC day of its beginning.
BY = (
    "day", "use_case", "tenant", "principal", "purpose", "job", "run", "session", "operation", "target",
    "model", "prompt", "outcome", "source", "fallback",
)  # fmt: skip


def costs_of(calls: pl.LazyFrame, by: Sequence[str]) -> pl.DataFrame:
    """Return the costs of calls to models, one row for each combination of `by`, sorted by it.

    `cost_usd` is what was paid: a replayed or cached answer costs nothing. `saved_usd` is the price of the
    answers that the cache of answers gave. `unknown` counts calls without a price that were paid, or were
    interrupted by a kill, which `cost_usd` leaves out. Raise ConfigError for a name that is not in `BY`, or
    is there twice.
    """
    import polars as pl

    names = checked_by(by)
    model = calls.filter(pl.col("port") == "model").with_columns(pl.col("at").dt.date().alias("day"))
    interrupted = pl.col("outcome") == "interrupted"
    sums = [
        pl.len().alias("calls"),
        (_replayed() & ~_cached()).sum().alias("replayed"),
        _cached().sum().alias("cached"),
        (~pl.col("outcome").is_in(["ok", "abandoned"])).sum().alias("failed"),
        pl.col("input_tokens").filter(_paid()).sum(),
        pl.col("output_tokens").filter(_paid()).sum(),
        # An answer of the cache costs what the candidates before it were paid.
        pl.col("cost_usd").filter(~_replayed() | _cached()).sum(),
        pl.col("saved_usd").sum(),
        (_paid() & pl.col("cost_usd").is_null() & (pl.col("input_tokens").is_not_null() | interrupted))
        .sum()
        .alias("unknown"),
    ]
    if not names:
        return model.select(sums).collect()
    return model.group_by(names).agg(sums).sort(names, nulls_last=True).collect()


def checked_by(by: Sequence[str]) -> list[str]:
    """Return the names that costs are summed by; raise ConfigError for one that is unknown or repeated."""
    names = [by] if isinstance(by, str) else list(by)
    for name in names:
        if name not in BY:
            raise ConfigError(
                f"by={name!r} is not a column that calls are summed by ({nearest(str(name), BY)})",
                hint=f"one or more of {', '.join(BY)}",
            )
        if names.count(name) > 1:
            raise ConfigError(f"by names {name!r} twice", hint="name each once")
    return names


def sessions_of(calls: pl.LazyFrame) -> pl.DataFrame:
    """Return one row for each session of a tenant: when, how many calls, which failed, tokens and money."""
    import polars as pl

    key = ["use_case", "tenant", "session"]
    sums = [
        pl.col("at").min().alias("first"),
        pl.col("at").max().alias("last"),
        pl.len().alias("calls"),
        (pl.col("port") == "model").sum().alias("model_calls"),
        (~pl.col("outcome").is_in(["ok", "abandoned"])).sum().alias("failed"),
        pl.col("duration_s").sum(),
        pl.col("input_tokens").filter(_paid()).sum(),
        pl.col("output_tokens").filter(_paid()).sum(),
        pl.col("cost_usd").filter(_paid()).sum(),
    ]
    bound = calls.filter(pl.col("session").is_not_null() & (pl.col("session") != ""))
    return bound.group_by(key).agg(sums).sort("first", *key, nulls_last=True).collect()


def _cached() -> pl.Expr:
    """Return whether the cache of answers gave an answer."""
    import polars as pl

    return pl.col("source").fill_null("") == "exact"


def _paid() -> pl.Expr:
    """Return whether an endpoint was asked, and so may ask for money."""
    import polars as pl

    free = pl.col("source").fill_null("").is_in(["exact", "stated"])
    return ~_replayed() & ~free


def _replayed() -> pl.Expr:
    import polars as pl

    return pl.col("replayed").fill_null(value=False)
