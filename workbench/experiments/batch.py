"""Apply a task to a job's inputs: the answers, the broken rows with their reasons, the cost."""

from __future__ import annotations

import io
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from workbench import _sync, files
from workbench.context import InvocationScope, invocation_scope
from workbench.display import Card, Shown, degraded_note, number
from workbench.errors import ConfigError, InvalidOutputError, RefusedError, ReplayMissError, WorkbenchError
from workbench.experiments.concurrency import Applicable, Progress, apply, threads
from workbench.experiments.inputs import Broken, InputRow, Inputs
from workbench.experiments.usage import chat_calls, degraded_searches, summed

if TYPE_CHECKING:
    import polars as pl

#: The file of counts that a job's kernel writes for its runner, beside the published files.
COUNTS = "batch.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Shown):
    """The result of `task.map(inputs)`. `answers` has one row for each answered row, sorted by id.

    `broken` holds the rows without an answer, in the order of the input. `held` is true when there are
    too many of them; with too many broken inputs no row is answered.
    """

    task: str
    name: str
    rows: int
    answers: pl.DataFrame = field(repr=False)
    broken: tuple[Broken, ...] = field(repr=False)
    held: bool
    records: tuple[Mapping[str, Any], ...] = field(repr=False)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of rows, calls and tokens, and the cost; None where an endpoint gave none.

        `degraded` counts the searches that a snapshot answered, because the store was unavailable; it is
        left out when there are none.
        """
        calls = chat_calls(self.records)
        kinds = [row.kind for row in self.broken]
        degraded = degraded_searches(self.records)
        return {
            "rows": self.rows,
            "answered": self.answers.height,
            "quarantined": len(self.broken),
            "broken_input": kinds.count("input"),
            "broken_answer": kinds.count("task"),
            "calls": len(calls),
            "cost_usd": summed(calls, "cost_usd") if calls else 0.0,
            "input_tokens": summed(calls, "input_tokens") if calls else 0,
            "output_tokens": summed(calls, "output_tokens") if calls else 0,
            "held": self.held,
            **({"degraded": degraded} if degraded else {}),
        }

    def quarantine(self) -> pl.DataFrame:
        """Return the broken rows: number, id, tenant, kind, reason, and the row as JSON text or its line."""
        import polars as pl

        schema: dict[str, Any] = {
            "row": pl.Int64, "id": pl.String, "tenant": pl.String, "kind": pl.String, "reason": pl.String,
            "columns": pl.String,
        }  # fmt: skip
        rows = [
            (
                b.row.number, b.row.id, b.row.tenant, b.kind, b.reason,
                b.row.text or files.canonical(_plain(b.row.columns)).decode(),
            )
            for b in self.broken
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def hand_over(self, folder: Path, name: str) -> None:
        """Write `<name>.<tenant>.parquet` for each tenant, `quarantine.parquet`, and the counts beside.

        The same rows give the same bytes. The counts are written last and mark the batch as complete.
        """
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} cannot name a file", hint='ws.publish(batch, "answers")')
        if (folder.with_name(COUNTS)).exists():
            raise ConfigError(
                "a job publishes once, and this job has published",
                hint="publish one task that returns all columns",
            )
        for (tenant,), part in sorted(self.answers.partition_by("tenant", as_dict=True).items()):
            files.write_atomic(folder / f"{name}.{tenant}.parquet", _parquet(part))
        files.write_atomic(folder / "quarantine.parquet", _parquet(self.quarantine()))
        files.write_atomic(folder.with_name(COUNTS), files.pretty(self.counts()))

    def card(self) -> Card:
        """The first answers, and the reasons of the first broken rows."""
        shown = [[str(value)[:80] for value in row] for row in self.answers.head(5).rows()]
        reasons = [f"row {broken.row.number}: {broken.reason}" for broken in self.broken[:3]]
        counts = self.counts()
        cost = "cost unknown" if counts["cost_usd"] is None else f"{number(counts['cost_usd'])} USD"
        return Card(
            title=f"{self.task} · {self.name} · {counts['answered']} of {self.rows} rows answered",
            head=self.answers.columns,
            rows=shown,
            notes=[f"{counts['quarantined']} set aside, {cost}", *reasons, *self._said()],
            command="workbench promote job/NAME --to production --dry-run",
        )

    def _said(self) -> list[str]:
        said = degraded_note(degraded_searches(self.records))
        if self.held:
            asked = "" if self.records else ", and nothing was asked"
            return [*said, f"held: too many rows are broken{asked}"]
        if not self.rows:
            return ["no inputs are named: a job gets its own"]
        return [*said, "a preview: nothing is published while exploring"]


class Mappable(Applicable, Protocol):
    """A task as a batch applies it: its name, its two types, and the check of its result."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def takes(self) -> Any:
        """The type of a case."""

    @property
    def gives(self) -> Any:
        """The type of a result."""

    def write(self, value: Any) -> Any:
        """Return the value as the declared type; InvalidOutputError when it does not fit."""


async def mapped(task: Mappable, inputs: Inputs) -> Batch:
    """Apply `task` to every row that fits its type, with bounded concurrency.

    A row is broken when it does not fit, when its answer is refused, or when the answer does not fit the
    task's type. An error that every other row would raise too (no endpoint, no key) ends the batch.
    """
    _check_columns(task)
    good, broken = inputs.fitted(task.takes, task=task.name)
    held = bool(inputs.rows) and len(broken) > inputs.most_broken * len(inputs.rows)
    done: list[tuple[InputRow, Any]] = []
    records: dict[int, list[dict[str, Any]]] = {}
    pending = iter(() if held else good)
    workers = min(inputs.concurrency, max(1, len(good)))
    with Progress(0 if held else len(good), f"{task.name} · {inputs.name}", inputs.progress) as bar:
        async with threads(inputs.concurrency) as pool:

            async def worker() -> None:
                for row, given in pending:
                    with invocation_scope(InvocationScope(case=row.id)) as around:
                        try:
                            value = task.write(await apply(task, inputs.workspace(row), given, pool))
                            done.append((row, value))
                        except (RefusedError, InvalidOutputError) as error:
                            broken.append(_set_aside(row, error))
                    records[row.number] = around.records
                    bar.step()

            await _sync.gather(worker() for _ in range(workers))
    held = held or (bool(inputs.rows) and len(broken) > inputs.most_broken * len(inputs.rows))
    return Batch(
        task=task.name,
        name=inputs.name,
        rows=len(inputs),
        answers=_frame(task, inputs, done),
        broken=tuple(sorted(broken, key=lambda item: item.row.number)),
        held=held,
        # In the order of the rows, because a sum of floats depends on its order.
        records=tuple(record for _, made in sorted(records.items()) for record in made),
    )


def _check_columns(task: Mappable) -> None:
    named = {item.name for item in fields(task.gives)} if is_dataclass(task.gives) else set()
    if clash := {"id", "tenant"} & named:
        raise ConfigError(
            f"task {task.name}: its result may not have a field {min(clash)!r}",
            hint="id and tenant of the row stand beside its answer: rename the field",
        )


def _set_aside(row: InputRow, error: WorkbenchError) -> Broken:
    """Return the row as broken; raise an error that is not of this row."""
    if isinstance(error, ReplayMissError) or (isinstance(error, RefusedError) and error.status in {401, 403}):
        raise error
    return Broken(row=row, reason=f"{type(error).__name__}: {error.message}", kind="task")


def _frame(task: Mappable, inputs: Inputs, done: Sequence[tuple[InputRow, Any]]) -> pl.DataFrame:
    """Return `id`, `tenant` and the fields of the task's result, or `output` for a plain value."""
    import polars as pl

    rows = []
    for row, value in done:
        plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else {"output": value}
        rows.append({"id": row.id, "tenant": inputs.workspace(row).tenant, **plain})
    if not rows:
        return pl.DataFrame(schema={"id": pl.String, "tenant": pl.String})
    frame = pl.DataFrame(rows, infer_schema_length=None).sort("id")
    promised: Mapping[Any, Any] = _promised(task)
    return frame.cast({name: kind for name, kind in promised.items() if _is_vague(frame.schema[name], kind)})


def _is_vague(found: Any, promised: Any) -> bool:
    """Whether the values leave the column's type open: there is none, or all are whole numbers."""
    import polars as pl

    return found in {pl.Null(), pl.List(pl.Null())} or (found, promised) == (pl.Int64(), pl.Float64())


def _promised(task: Mappable) -> dict[str, Any]:
    """Return the types of the columns that the task declares as a plain type, or as a list of it."""
    import polars as pl

    plain: dict[Any, Any] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}
    hints = {"output": task.gives}
    if is_dataclass(task.gives):
        known = typing.get_type_hints(task.gives)
        hints = {item.name: known[item.name] for item in fields(task.gives)}
    found = {}
    for name, hint in hints.items():
        parts = [kind for kind in typing.get_args(hint) if kind not in {type(None), ...}]
        kind = plain.get(parts[0] if len(parts) == 1 else hint)
        if kind is not None:
            found[name] = pl.List(kind) if typing.get_origin(hint) in {list, tuple} else kind
    return found


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd", compression_level=3, statistics=False)
    return buffer.getvalue()


def _plain(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns that JSON holds exactly: decimals, bytes and NaN of Parquet become text."""
    found = {}
    for name, value in columns.items():
        try:
            files.check_exact(value, where=name)
        except ConfigError:
            found[name] = str(value)
        else:
            found[name] = value
    return found
