"""Which scores are better when they are lower, and whether a score is wrong."""

from __future__ import annotations

#: Scores of which 0 is best; `lower_is_better=` of a comparison replaces this set.
LOWER_IS_BETTER = frozenset({"cross_tenant_hits"})


def is_wrong(metric: str, score: float | None, below: float = 1.0) -> bool:
    """Return whether a score is below `below`, or above 0 where 0 is best; of no score False."""
    if score is None:
        return False
    return score > 0 if metric in LOWER_IS_BETTER else score < below
