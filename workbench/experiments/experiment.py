"""Experiments: a task applied to a dataset under one or more settings, with bounded concurrency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import _sync, files
from workbench.context import InvocationScope, invocation_scope
from workbench.errors import (
    ConfigError,
    NotFoundError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
    WorkbenchError,
    nearest,
)
from workbench.experiments.compare import ComparisonSet, compare_all
from workbench.experiments.concurrency import for_each
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import DEGRADED, Run
from workbench.experiments.scorers import Outcome, Scorer
from workbench.experiments.task import Task
from workbench.experiments.usage import chat_calls, degraded_searches, summed

if TYPE_CHECKING:
    import polars as pl

#: Return a task's workspace, bound to a tenant and an arm's settings.
Bind = Callable[[str, Mapping[str, Any]], Any]
#: Return the resolved settings of an arm, with digests.
Describe = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRuns(Mapping[str, Run]):
    """Runs by arm, with the comparison of each arm with the baseline."""

    runs: Mapping[str, Run]
    comparison: ComparisonSet | None

    def __getitem__(self, arm: str) -> Run:
        return self.runs[arm]

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __str__(self) -> str:
        return str(self.comparison) if self.comparison else "\n".join(map(str, self.runs.values()))

    def _repr_html_(self) -> str:
        cards = [self.comparison] if self.comparison else list(self.runs.values())
        return "".join(card._repr_html_() for card in cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named experiment of one use case. `keep` receives every finished run.

    `gate_digest` applies to runs over any version of `gated_memory`, or to all runs when it is None.
    """

    name: str
    use_case: str
    bind: Bind = field(repr=False)
    describe: Describe = field(repr=False)
    keep: Callable[[Run], None] = field(repr=False)
    task_digest: str | None = None
    gate_digest: str | None = None
    gated_memory: str | None = None
    concurrency: int = 4
    progress: Path | None = None

    async def _run(
        self,
        task: Task,
        cases: Dataset,
        *,
        scorers: Sequence[Scorer],
        arm: str = "run",
        settings: Mapping[str, Any] | None = None,
        repeats: int = 1,
    ) -> Run:
        """Apply `task` to every case `repeats` times and score the outputs.

        A failed case is unscored, counted and shown with its error. Raises ConfigError before the first
        call when the task, cases, scorers or repeats are invalid.
        """
        _check_set_up(task, cases, scorers, repeats)
        chosen = settings or {}
        described = {**self.describe(chosen), "task": task.name}
        rows: list[dict[str, Any]] = []

        async def answer(item: tuple[Case, int], pool: ThreadPoolExecutor) -> None:
            ws = self.bind(item[0].tenant, chosen)
            rows.append(await _run_case(task, ws, *item, scorers, pool))

        await for_each(
            [(case, repeat) for case in cases for repeat in range(repeats)],
            answer,
            workers=self.concurrency,
            title=f"{self.name} · {arm}",
            progress=self.progress,
        )
        run = Run(
            use_case=self.use_case,
            experiment=self.name,
            arm=arm,
            task_digest=self.task_digest or "",
            gate_digest=self._gate_of(described),
            settings=described,
            dataset_digest=cases.digest,
            cases=_frame(rows, [s.name for s in scorers]),
        )
        self.keep(run)
        return run

    run, run_async = _sync.twins(_run)

    async def _compare(
        self,
        task: Task,
        cases: Dataset,
        *,
        scorers: Sequence[Scorer],
        arms: Mapping[str, Mapping[str, Any]],
        baseline: str | None = None,
        repeats: int = 1,
    ) -> ComparedRuns:
        """Run each arm over the same cases and compare it with `baseline`, by default the first arm.

        An arm is a mapping of settings that override params.yaml: `prompt`, `model`, or `task` for another
        task function. The task reads other settings with `ws.setting(name)`. Raises ConfigError without
        arms and for a baseline that is not an arm.
        """
        if not arms:
            raise ConfigError(
                "compare needs at least one arm", hint='arms={"today": {}, "new": {"prompt": draft}}'
            )
        base = baseline or next(iter(arms))
        if base not in arms:
            raise ConfigError(
                f"the baseline {base!r} is not among the arms ({nearest(base, arms)})",
                hint=f"baseline={next(iter(arms))!r}",
            )
        runs: dict[str, Run] = {}
        for name, settings in arms.items():
            rest = {key: value for key, value in settings.items() if key != "task"}
            runs[name] = await self._run(
                settings.get("task", task), cases, scorers=scorers, arm=name, settings=rest, repeats=repeats
            )
        others = [run for name, run in runs.items() if name != base]
        return ComparedRuns(
            runs=runs, comparison=compare_all(others, baseline=runs[base]) if others else None
        )

    compare, compare_async = _sync.twins(_compare)

    def _gate_of(self, described: Mapping[str, Any]) -> str | None:
        memory = str(described.get("memory", "")).partition("@")[0]
        return self.gate_digest if self.gated_memory in {None, memory} else None


def _stops_run(error: Exception) -> bool:
    """Return whether the error stops the run: it affects every case, or a rerun can fix it.

    Recorded answers are kept, so a rerun calls the model only for the remaining cases. An unscored case
    would make the result depend on a temporary outage.
    """
    if isinstance(error, RefusedError):
        return isinstance(error, ReplayMissError) or error.status in {401, 403}
    return isinstance(error, ConfigError | NotFoundError | UnavailableError)


def _check_set_up(task: Task, cases: Dataset, scorers: Sequence[Scorer], repeats: int) -> None:
    if not isinstance(task, Task):
        raise ConfigError(f"{task!r} is not a task", hint="put @wb.task above the function")
    if not len(cases):
        raise ConfigError("the dataset has no cases", hint="ws.cases() returns the memory's questions")
    if repeats < 1:
        raise ConfigError(f"repeats must be 1 or more, got {repeats}", hint="repeats=1")
    names = [s.name for s in scorers]
    if not names or len(set(names)) != len(names):
        raise ConfigError(
            f"an experiment needs scorers with different names, got {names}",
            hint='scorers=[wb.contains(name="accuracy"), wb.recall_at(5)]',
        )
    for check in [item.check for item in scorers if item.check]:
        for case in cases:
            check(case)


async def _run_case(
    task: Task, ws: Any, case: Case, repeat: int, scorers: Sequence[Scorer], pool: ThreadPoolExecutor
) -> dict[str, Any]:
    """Run one case once and return its row: scored, or unscored with its error."""
    with invocation_scope(InvocationScope(case=case.id, repeat=repeat)) as scope:
        try:
            value = await task.apply(ws, task.read(case), pool)
            output = task.write(value)
            outcome = Outcome(case=case, output=output, records=scope.records, passages=scope.passages)
            result = {"status": "scored", **_stored(output), **_scores(scorers, outcome)}
        except Exception as failure:
            if _stops_run(failure):
                raise
            result = {"status": "unscored", "error": _error_text(failure), "sources": []}
    return {"case": case.id, "repeat": repeat, "tenant": case.tenant, **result, **_usage(scope.records)}


class _UnscoredError(WorkbenchError):
    """The output or a score has no exact value; `reason` is the word under which the case is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _error_text(failure: Exception) -> str:
    """Return `reason: message` for reports; without a reason, the class counts as one.

    The message of an error that is not the workbench's is left out, because it may hold data.
    """
    name = type(failure).__name__
    if not isinstance(failure, WorkbenchError):
        return name
    text = f"{failure.reason or name}: {failure.message}"
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


def _stored(output: Any) -> dict[str, Any]:
    """Return the columns `output`, as canonical JSON, and `sources`.

    Raises _UnscoredError when JSON has no exact form of the output: NaN, infinity, an integer of more than
    64 bits, half of a surrogate pair, or a value of another type.
    """
    sources = getattr(output, "sources", ())
    sources = [sources] if isinstance(sources, str) else sources
    texts = isinstance(sources, list | tuple) and all(isinstance(source, str) for source in sources)
    try:
        plain = asdict(output) if is_dataclass(output) and not isinstance(output, type) else output
        data, kept = files.canonical(plain).decode(), list(sources) if texts else []
        files.canonical(kept)
    except (TypeError, ValueError, RecursionError) as error:
        raise _UnscoredError("not_storable", f"the output cannot be stored as JSON: {error}") from None
    for number in _not_finite(plain) if "null" in data else ():
        raise _UnscoredError(_kind_of(number), f"the output holds {number}, which JSON cannot store")
    return {"output": data, "sources": kept}


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
    }


def _frame(rows: list[dict[str, Any]], scorers: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    text, count, real = pl.String, pl.Int64, pl.Float64
    schema: dict[str, Any] = {
        "case": text, "repeat": count, "tenant": text, "status": text, "error": text, "output": text,
        "sources": pl.List(text), **{f"score.{name}": real for name in scorers}, "latency_s": real,
        "cost_usd": real, "input_tokens": count, "output_tokens": count, "calls": count, DEGRADED: count,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema).sort("case", "repeat")
    return frame if frame[DEGRADED].sum() else frame.drop(DEGRADED)
