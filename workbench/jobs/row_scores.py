"""Score the answer of one row without an expected answer: whether its passages carry it, and its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from workbench.experiments.dataset import Case
from workbench.types import Hit

#: The reason of an attempt whose row does not fit the task: the model was not asked.
UNFIT: Final = "unfit_input"
#: The reasons of attempts whose answer does not have the promised type.
WRONG_TYPE: Final = frozenset({"InvalidOutputError", "invalid_output"})


def reason_of(attempt: Mapping[str, Any]) -> str:
    """Return the reason of an attempt's error, "" for an attempt with an output."""
    return str(attempt.get("error") or "").partition(":")[0]


def grounded_in(attempt: Mapping[str, Any]) -> float | None:
    """Return the share of the words of an attempt's output that are in its passages; None without passages.

    Raise KeyError, TypeError or ValueError for an attempt of another form than the worker's.
    """
    from workbench.experiments.scorers import Outcome, grounded

    passages = [
        Hit(
            id=passage["id"], text=passage["text"], source=passage["source"], title="", version=0, score=0.0,
            tenant=attempt["tenant"], as_of="", stale=False, digest="", memory="",
        )
        for passage in attempt["passages"]
    ]  # fmt: skip
    case = Case(id=attempt["case"], tenant=attempt["tenant"], inputs={}, expected={})
    return grounded()(Outcome(case=case, output=orjson.loads(attempt["output"]), passages=passages))


def scores_of(attempt: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores `grounded` and `schema` of an attempt, from 0 to 1, each where it has a meaning."""
    found: dict[str, float] = {}
    reason = reason_of(attempt)
    if reason != UNFIT and ("output" in attempt or reason):
        found["schema"] = float(reason not in WRONG_TYPE)
    if attempt.get("output") is not None and attempt.get("passages"):
        score = grounded_in(attempt)
        if score is not None:
            found["grounded"] = score
    return found
