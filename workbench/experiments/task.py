"""Tasks: typed functions of a workspace and a case, which gates judge and jobs apply."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from workbench import _sync, files
from workbench.errors import ConfigError, InvalidOutputError
from workbench.experiments.batch import Batch, mapped
from workbench.experiments.dataset import Case
from workbench.experiments.inputs import Inputs, check_takes
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

    async def _map(self, inputs: Inputs) -> Batch:
        """Apply the task to a job's inputs and return the batch: `answer.map(ws.inputs(inputs))`.

        The batch holds the answers, the broken rows with their reasons, and the cost. Nothing is published.
        """
        return await mapped(self, inputs)

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
