"""One attempt of a task on one case: its output or its fault, its calls, and the row of its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.errors import (
    ConfigError,
    LimitExceededError,
    NotFoundError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
    WorkbenchError,
)
from workbench.experiments.dataset import Case
from workbench.experiments.progress import Finished
from workbench.experiments.runs import DEGRADED, TRUNCATED
from workbench.experiments.scorers import Outcome, Scorer
from workbench.experiments.usage import (
    FALLBACK,
    FALLBACK_REASONS,
    answered_by_fallback,
    chat_calls,
    degraded_searches,
    fallback_reasons,
    has_stated_answer,
    spent,
    summed,
)
from workbench.types import Hit

if TYPE_CHECKING:
    import polars as pl

#: Fields of a call's record that scores and usage are computed from.
_TOLD = (
    "port", "operation", "hits", "degraded", "recorded_latency_s", "cost_usd", "input_tokens",
    "output_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAttempt:
    """One invocation of a task: the output, or the failure that took its place.

    `records` are the call records, without content; `passages` are those of the prompts.
    """

    case: str
    tenant: str
    repeat: int = 0
    output: Any = field(default=None, repr=False)
    failure: Exception | None = None
    records: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    passages: Sequence[Hit] = field(default=(), repr=False)

    def answer(self) -> dict[str, Any]:
        """Return the columns of the output; raise the failure, or that of an output that cannot be stored."""
        if self.failure is not None:
            raise self.failure
        return stored(self.output)

    def to_json(self) -> dict[str, Any]:
        """Return what a scorer needs in another process: either `output` and `sources`, or `error`."""
        try:
            answer = self.answer()
        except Exception as failure:  # noqa: BLE001  any failure of the task is told, none is lost
            answer = {"error": error_text(failure)}
        return {
            "case": self.case,
            "tenant": self.tenant,
            **answer,
            "records": [told_record(record) for record in self.records],
            "passages": [{"id": p.id, "source": p.source, "text": p.text} for p in self.passages],
        }


def told_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a call's record that a scorer needs; those of a fall-back only for one."""
    told = {name: record.get(name) for name in _TOLD}
    if not record.get("fallback"):
        return told
    return {**told, "fallback": record["fallback"], "fallback_reason": record.get("fallback_reason") or ""}


def stops_run(error: Exception) -> bool:
    """Return whether the error stops the run: it affects every case, or a rerun can fix it.

    Recorded answers are kept, so a rerun calls the model only for the remaining cases. An unscored case
    would make the result depend on a temporary outage.
    """
    if isinstance(error, RefusedError):
        return isinstance(error, ReplayMissError | LimitExceededError) or error.status in {401, 403}
    return isinstance(error, ConfigError | NotFoundError | UnavailableError)


def scored_row(case: Case, done: CaseAttempt, scorers: Sequence[Scorer]) -> dict[str, Any]:
    """Return the row of an attempt in this process: scored, or unscored with its error."""

    def answer() -> dict[str, Any]:
        columns = done.answer()
        outcome = Outcome(case=case, output=done.output, records=done.records, passages=done.passages)
        return {**columns, **_scores(scorers, outcome)}

    return _row(case, done.repeat, done.records, answer)


def finished_row(
    row: Mapping[str, Any], records: Sequence[Mapping[str, Any]], scorers: Sequence[Scorer]
) -> Finished:
    """Return what the progress counts of a scored or unscored row: the first scorer's score is shown."""
    return Finished(
        case=row["case"],
        error=row["error"].partition(":")[0] if row["status"] == "unscored" else "",
        spent_usd=spent(records) if row["cost_usd"] != 0 else 0.0,
        score=row.get(f"score.{scorers[0].name}"),
    )


def told_row(
    case: Case, told: Mapping[str, Any], outcome: Outcome | None, scorers: Sequence[Scorer]
) -> dict[str, Any]:
    """Return the row of an attempt in another process, which told it as `CaseAttempt.to_json` does.

    `outcome` is None for an attempt without an output; the row is then unscored with the told error.
    """

    def answer() -> dict[str, Any]:
        if outcome is None:
            reason, _, message = told["error"].partition(": ")
            raise _UnscoredError(reason, message)
        columns = {"output": told["output"], "sources": told["sources"]}
        return {**columns, **_scores(scorers, outcome)}

    return _row(case, 0, told["records"], answer)


def _row(
    case: Case, repeat: int, records: Sequence[Mapping[str, Any]], answer: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    try:
        _check_asked(records)
        result = {"status": "scored", **answer()}
    except Exception as failure:
        if stops_run(failure):
            raise
        result = {"status": "unscored", "error": error_text(failure), "sources": []}
    return {"case": case.id, "repeat": repeat, "tenant": case.tenant, **result, **_usage(records)}


def _check_asked(records: Sequence[Mapping[str, Any]]) -> None:
    """Raise _UnscoredError when a stated answer took the place of a model's."""
    if has_stated_answer(records):
        raise _UnscoredError("stated_answer", "params.yaml states the answer; no model gave it")


class _UnscoredError(WorkbenchError):
    """The output or a score has no exact value; `reason` is the word under which the case is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def error_text(failure: Exception) -> str:
    """Return `reason: message` for reports; without a reason, the class counts as one.

    The message of an error that is not the workbench's is left out, because it may hold data.
    """
    name = type(failure).__name__
    if not isinstance(failure, WorkbenchError):
        return name
    text = f"{failure.reason or name}: {failure.message}".removesuffix(": ")
    return text.encode("utf-8", "backslashreplace").decode()


def _scores(scorers: Sequence[Scorer], outcome: Outcome) -> dict[str, float | None]:
    """Return the score columns; raise _UnscoredError for NaN and infinity."""
    scores = {}
    for item in scorers:
        score = item(outcome)
        if score is not None and not math.isfinite(score):
            raise _UnscoredError(_kind_of(score), f"scorer {item.name} returned {score}")
        scores[f"score.{item.name}"] = score
    return scores


def _kind_of(number: float) -> str:
    return "not_a_number" if math.isnan(number) else "infinite"


def stored(output: Any) -> dict[str, Any]:
    """Return the columns `output`, as canonical JSON, and `sources`.

    Raises a WorkbenchError with a reason when JSON has no exact form of the output: NaN, infinity, an
    integer of more than 64 bits, half of a surrogate pair, or a value of another type.
    """
    sources = getattr(output, "sources", ())
    sources = [sources] if isinstance(sources, str) else sources
    texts = isinstance(sources, list | tuple) and all(isinstance(source, str) for source in sources)
    try:
        plain = plain_output(output)
        data, kept = files.canonical(plain).decode(), list(sources) if texts else []
        files.canonical(kept)
    except (TypeError, ValueError, RecursionError) as error:
        raise _UnscoredError("not_storable", f"the output cannot be stored as JSON: {error}") from None
    for number in _not_finite(plain) if "null" in data else ():
        raise _UnscoredError(_kind_of(number), f"the output holds {number}, which JSON cannot store")
    return {"output": data, "sources": kept}


def plain_output(output: Any) -> Any:
    """Return a dataclass or a pydantic model as a dictionary, another output as it is."""
    if is_dataclass(output) and not isinstance(output, type):
        return asdict(output)
    dump = getattr(type(output), "model_dump", None)
    return dump(output) if callable(dump) else output


def _not_finite(value: Any) -> Iterator[float]:
    """Yield the numbers in a value that are NaN or infinite; JSON would store them as null."""
    if isinstance(value, float) and not math.isfinite(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _not_finite(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _not_finite(item)


def _usage(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    calls = chat_calls(records)
    return {
        "latency_s": summed(calls, "recorded_latency_s"),
        "cost_usd": summed(calls, "cost_usd"),
        "input_tokens": summed(calls, "input_tokens"),
        "output_tokens": summed(calls, "output_tokens"),
        "calls": len(calls),
        DEGRADED: degraded_searches(records),
        FALLBACK: answered_by_fallback(records),
        FALLBACK_REASONS: fallback_reasons(records),
    }


def frame_of(rows: list[dict[str, Any]], scorers: Sequence[Scorer]) -> pl.DataFrame:
    """Return rows as the frame of a run, sorted by case and repeat."""
    import polars as pl

    text, count, real = pl.String, pl.Int64, pl.Float64
    schema: dict[str, Any] = {
        "case": text, "repeat": count, "tenant": text, "status": text, "error": text, "output": text,
        "sources": pl.List(text), **{f"score.{item.name}": real for item in scorers}, "latency_s": real,
        "cost_usd": real, "input_tokens": count, "output_tokens": count, "calls": count, DEGRADED: count,
        TRUNCATED: count, FALLBACK: count, FALLBACK_REASONS: text,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema).sort("case", "repeat")
    counts = (DEGRADED, TRUNCATED, FALLBACK)
    unused = [name for name in counts if not frame[name].sum()]
    return frame.drop([*unused, *([FALLBACK_REASONS] if frame[FALLBACK_REASONS].is_null().all() else [])])
