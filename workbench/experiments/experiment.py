"""Experiments: a task applied to a dataset under one or more settings, with bounded concurrency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import _sync
from workbench.display import Card
from workbench.errors import ConfigError, nearest
from workbench.experiments import run_plots
from workbench.experiments.attempts import finished_row, frame_of, scored_row
from workbench.experiments.case_context import CaseContext, CaseVerbs
from workbench.experiments.compare import ComparisonSet, compare_all
from workbench.experiments.concurrency import for_each
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.explorable import ExplorablePair
from workbench.experiments.kept_attempts import KeptAttempts
from workbench.experiments.progress import BudgetRoom, Finished, Progress
from workbench.experiments.runs import Run
from workbench.experiments.scorers import Scorer
from workbench.experiments.slices import Slicing
from workbench.experiments.task import Task
from workbench.experiments.usage import ENDED_BY

if TYPE_CHECKING:
    import polars as pl

    from workbench.plots import Plot

#: The level of the intervals of plots, which is that of comparisons.
_LEVEL = 0.95
#: Return a task's workspace, bound to a tenant and an arm's settings.
Bind = Callable[[str, Mapping[str, Any]], Any]
#: Return the resolved settings of an arm, with digests.
Describe = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRuns(ExplorablePair, Mapping[str, Run]):
    """Runs by arm, with the comparison of each arm with the baseline."""

    runs: Mapping[str, Run]
    comparison: ComparisonSet | None

    def __getitem__(self, arm: str) -> Run:
        return self.runs[arm]

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def _arms(self) -> Mapping[str, Run]:
        base = self.comparison.comparisons[0].baseline.arm if self.comparison else next(iter(self.runs))
        controls_last = sorted(self.runs, key=lambda arm: self.runs[arm].is_control)
        return {base: self.runs[base], **{arm: self.runs[arm] for arm in controls_last}}

    def _cards(self) -> tuple[Card, ...]:
        if self.comparison:
            compared = sorted(self.comparison, key=lambda comparison: comparison.run.is_control)
            return tuple(comparison.card() for comparison in compared)
        return tuple(run.card() for run in self.runs.values())

    def plot(self, kind: str = "arms", *, metric: str | None = None, by: str | None = None) -> Plot:
        """Return a plot of all arms: arms, slices, cost, latency or calibration.

        `slices` shows each arm's effect on the primary metric in each declared slice, or its metric by tenant
        where none is declared. `metric` is by default the first score, and `by` the score that forecasts it
        in a calibration. Raises ConfigError, which lists the plots, for another kind.
        """
        run_plots.check_kind(kind, run_plots.KINDS)
        arms = [run.plotted() for run in self.runs.values()]
        name = metric or next(iter(self.runs.values())).score_names[0]
        if kind != "slices":
            return run_plots.plot_of(kind, arms, name, _LEVEL, by)
        effects = [effect for compared in self.comparison or () for effect in compared.sliced()]
        if not effects or metric is not None:
            return run_plots.tenants_plot(arms, name, _LEVEL)
        return run_plots.effects_plot(name, effects, _LEVEL)

    def __str__(self) -> str:
        return str(self.comparison) if self.comparison else "\n".join(map(str, self.runs.values()))

    def _repr_html_(self) -> str:
        cards = [self.comparison] if self.comparison else list(self.runs.values())
        return "".join(card._repr_html_() for card in cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named experiment of one use case. `keep` receives every finished run.

    `clean` masks what the answers and errors of a run may not hold, and `room` asks for the budget that
    applies. `verbs` are those of the workspace for a case.

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
    slices: tuple[str, ...] = ()
    clean: Callable[[pl.DataFrame], pl.DataFrame] | None = field(default=None, repr=False)
    room: Callable[[], Awaitable[BudgetRoom | None]] | None = field(default=None, repr=False)
    verbs: CaseVerbs | None = field(default=None, repr=False)

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
        call when the task, cases, scorers or repeats are invalid. LimitExceededError ends the run at one of
        its limits, and RunStoppedError when a person stops it. After both, and after an interrupt, the
        finished cases are kept as a run with the setting `ended_by`, which no gate passes.
        """
        _check_set_up(task, cases, scorers, repeats)
        chosen = settings or {}
        described = {**self.describe(chosen), "task": task.name}
        rows: list[dict[str, Any]] = []
        attempts = KeptAttempts()

        async def answer(item: tuple[Case, int], pool: ThreadPoolExecutor) -> Finished:
            case, repeat = item
            ws = self.bind(case.tenant, chosen)
            given = partial(task.read, case)
            done = await task.attempt(ws, given, pool, columns=case.inputs, case=case.id, repeat=repeat)
            row = scored_row(case, done, scorers)
            rows.append(row)
            attempts.keep(case.id, repeat, done.records, done.passages)
            return finished_row(row, done.records, scorers)

        def keep(why: str) -> str:
            if not rows:
                return ""
            ended = {**described, ENDED_BY: why}
            return f"kept as run {self._kept(arm, cases, frame_of(rows, scorers), ended, attempts).id}"

        items = [(case, repeat) for case in cases for repeat in range(repeats)]
        progress = Progress(
            len(items), f"{self.name} · {arm}", metric=scorers[0].name, path=self.progress, room=self.room
        )
        await for_each(items, answer, workers=self.concurrency, progress=progress, keep=keep)
        return self._kept(arm, cases, frame_of(rows, scorers), described, attempts)

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
        task function. `control: True` marks an arm that should be worse, because it lacks what the task adds.
        The task reads other settings with `ws.setting(name)`. Raises ConfigError without
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
        compared = compare_all(others, baseline=runs[base]) if others else None
        slicing = self._slicing(cases)
        return ComparedRuns(
            runs=runs, comparison=compared.by_slice(slicing) if compared and slicing else compared
        )

    def _kept(
        self, arm: str, cases: Dataset, rows: pl.DataFrame, settings: dict[str, Any], attempts: KeptAttempts
    ) -> Run:
        """Keep and return a run; one that ended early has no digest that a gate or a promotion knows."""
        ended = ENDED_BY in settings
        run = Run(
            use_case=self.use_case,
            experiment=self.name,
            arm=arm,
            task_digest="" if ended else self.task_digest or "",
            gate_digest=None if ended else self._gate_of(settings),
            settings=settings,
            dataset_digest=cases.digest,
            cases=self.clean(rows) if self.clean is not None else rows,
            context=CaseContext(dataset=cases, kept=attempts, verbs=self.verbs, slices=self.slices),
        )
        self.keep(run)
        return run

    compare, compare_async = _sync.twins(_compare)

    def _slicing(self, cases: Dataset) -> Slicing | None:
        """Return the declared slices of these cases; None when they do not have the columns."""
        try:
            return Slicing.of(cases, self.slices) if self.slices else None
        except ConfigError:  # another dataset than the gate's; `workbench check` reads the declaration
            return None

    def _gate_of(self, described: Mapping[str, Any]) -> str | None:
        memory = str(described.get("memory", "")).partition("@")[0]
        return self.gate_digest if self.gated_memory in {None, memory} else None


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
    check_cases(cases, scorers)


def check_cases(cases: Dataset, scorers: Sequence[Scorer]) -> None:
    """Raise ConfigError for a case that one of the scorers cannot score."""
    for check in [item.check for item in scorers if item.check]:
        for case in cases:
            check(case)
