"""Tasks: typed functions of a workspace and a case, which gates judge and jobs apply."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from workbench import _sync, files
from workbench.context import InvocationScope, invocation_scope
from workbench.errors import ConfigError, InvalidOutputError, WorkbenchError
from workbench.experiments.attempts import CaseAttempt, error_text, stops_run, stored
from workbench.experiments.batch import Batch, answers_frame, check_gives
from workbench.experiments.concurrency import for_each
from workbench.experiments.dataset import Case
from workbench.experiments.inputs import Broken, InputRow, Inputs, check_takes
from workbench.experiments.progress import Finished, Progress
from workbench.experiments.usage import spent
from workbench.types import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The usual output of a question-answering task: the text and its sources."""

    text: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A typed function `(ws, case) -> output`; a call of the task calls the function."""

    name: str
    function: Callable[..., Any]
    takes: Any
    gives: Any

    def __call__(self, ws: Any, case: Any) -> Any:
        """Call the function."""
        return self.function(ws, case)

    @property
    def is_async(self) -> bool:
        """Whether the function is `async def`."""
        return inspect.iscoroutinefunction(self.function)

    async def apply(self, ws: Any, case: Any, pool: ThreadPoolExecutor) -> Any:
        """Await an async function on the loop, or run a sync one in `pool`, where sync verbs may wait."""
        if self.is_async:
            return await self(ws, case)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(pool, context.run, self, ws, case)

    async def attempt(
        self,
        ws: Any,
        given: Callable[[], Any],
        pool: ThreadPoolExecutor,
        *,
        columns: Mapping[str, Any],
        case: str,
        repeat: int = 0,
    ) -> CaseAttempt:
        """Apply the task to what `given` returns; raise an error that every case would meet.

        `columns` are the inputs of the case by their names, whose classes of data params.yaml may declare.
        Any other error becomes the attempt's failure, so that one case does not end the others.
        """
        output: Any = None
        failure: Exception | None = None
        made = InvocationScope(case=case, repeat=repeat, task=self.name, columns=columns)
        with invocation_scope(made) as scope:
            try:
                output = self.write(await self.apply(ws, given(), pool))
                stored(output)  # what has no exact form is no answer, in a job as in a judged run
            except SystemExit:  # it would end the loop, and whoever waits for the answer would wait for ever
                failure = InvalidOutputError(f"task {self.name} called sys.exit", hint="return an answer")
            except Exception as error:
                if stops_run(error):
                    raise
                failure = error
            scope.error = type(failure).__name__ if failure else None
        return CaseAttempt(
            case=case,
            tenant=getattr(ws, "tenant", ""),
            repeat=repeat,
            output=output,
            failure=failure,
            records=scope.records,
            passages=scope.passages,
        )

    async def _map(self, inputs: Inputs) -> Batch:
        """Apply the task to a job's inputs and return the batch: `answer.map(ws.inputs(inputs))`.

        The batch holds the answers, the broken rows with their reasons, and the cost. Nothing is published.
        A row is broken when it does not fit, when the task fails on it, or when the answer does not fit the
        task's type. An error that affects every row, such as a missing endpoint, ends the batch; so does an
        error of Python on every row.
        """
        check_gives(self.gives, self.name)
        good, broken = inputs.fitted(self.takes, task=self.name)
        done: dict[int, CaseAttempt] = {}

        async def answer(item: tuple[InputRow, Any], pool: ThreadPoolExecutor) -> Finished:
            row, given = item
            ws = inputs.workspace(row)
            made = await self.attempt(ws, lambda: given, pool, columns=row.columns, case=row.id)
            done[row.number] = made
            if made.failure is not None:
                broken.append(Broken(row=row, reason=_reason(made.failure), kind="task"))
            error = error_text(made.failure).partition(":")[0] if made.failure is not None else ""
            return Finished(case=row.id, error=error, spent_usd=spent(made.records))

        rows = [] if inputs.exceeded_by(broken) else good
        progress = Progress(len(rows), f"{self.name} · {inputs.name}", path=inputs.progress)
        await for_each(rows, answer, workers=inputs.concurrency, progress=progress)
        # In the order of the rows, because a sum of floats depends on its order.
        attempts = tuple(made for _, made in sorted(done.items()))
        _raise_if_all_failed(attempts)
        return Batch(
            task=self.name,
            name=inputs.name,
            rows=len(inputs),
            answers=answers_frame(self.gives, attempts),
            broken=tuple(sorted(broken, key=lambda item: item.row.number)),
            held=inputs.exceeded_by(broken),
            attempts=attempts,
        )

    map, map_async = _sync.twins(_map)

    def read(self, case: Case) -> Any:
        """Return the case as the type `takes`; raise ConfigError when a field is missing or does not fit."""
        check_takes(self.takes, self.name)
        given = {"id": case.id, "tenant": case.tenant, **case.inputs}
        wanted = {field.name for field in fields(self.takes)}
        raw = {key: value for key, value in given.items() if key in wanted}
        return files.parse(self.takes, raw, where=f"case {case.id}")

    def write(self, value: Any) -> Any:
        """Return the function's result, or a model's `Reply`, as the type `gives`.

        Raises InvalidOutputError when the result does not fit the type.
        """
        if self.gives is Any and not isinstance(value, Reply):
            return value
        with contextlib.suppress(TypeError):  # a type of annotations only, such as a TypedDict
            if isinstance(self.gives, type) and isinstance(value, self.gives):
                return value
        if isinstance(value, Reply):
            if self.gives is Answer:
                return Answer(text=value.text.strip(), sources=value.sources)
            if self.gives is str:
                return value.text
            value = value.data
        try:
            return files.parse(self.gives, value, where=f"task {self.name}")
        except (ConfigError, TypeError) as error:
            raise InvalidOutputError(
                f"task {self.name} declares {getattr(self.gives, '__name__', self.gives)} and returned "
                f"{type(value).__name__}",
                hint=error.message if isinstance(error, ConfigError) else str(error),
            ) from None


def _reason(failure: Exception) -> str:
    """Return the reason of a broken row; an error that is not the workbench's may quote data."""
    name = type(failure).__name__
    return f"{name}: {failure.message}" if isinstance(failure, WorkbenchError) else name


def _raise_if_all_failed(attempts: Sequence[CaseAttempt]) -> None:
    """Raise the first failure when every attempt failed by an error of Python: a fault of the task's code."""
    failures = [made.failure for made in attempts]
    first = failures[0] if failures else None
    if first is not None and all(f and not isinstance(f, WorkbenchError) for f in failures):
        raise first


def task(function: Callable[..., Any]) -> Task:
    """Return the function as a task; the annotations of its case and its result are the task's types.

    Raises ConfigError unless the function has two parameters, an annotated case and a return type.
    """
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise ConfigError(f"task {function.__name__}: {error}") from None
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2 or parameters[1] not in hints or "return" not in hints:
        raise ConfigError(
            f"task {function.__name__} needs the parameters (ws, case: Type) and a return type",
            hint="@wb.task\n     def answer(ws, case: wb.Question) -> wb.Answer: …",
        )
    return Task(name=function.__name__, function=function, takes=hints[parameters[1]], gives=hints["return"])
