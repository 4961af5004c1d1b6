"""The result of a task on a job's inputs: answers, broken rows with reasons, and the cost."""

from __future__ import annotations

import io
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.display import Card, Shown, degraded_note, fallback_note, number
from workbench.errors import ConfigError
from workbench.experiments.attempts import CaseAttempt, plain_output
from workbench.experiments.inputs import Broken
from workbench.experiments.usage import answered_by_fallback, chat_calls, degraded_searches, summed

if TYPE_CHECKING:
    import polars as pl

#: The file of counts that a job's kernel writes for its runner, beside the published files.
COUNTS = "batch.json"
#: The file of broken rows, among the published ones.
QUARANTINE = "quarantine.parquet"
#: The file of attempts that a job's kernel writes beside it; a job's runner removes it.
ATTEMPTS = "attempts.jsonl"
#: Counts that are left out when they are 0.
_IF_ANY = frozenset({"degraded", "fallback"})


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
    attempts: tuple[CaseAttempt, ...] = field(default=(), repr=False)

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """The records of the batch's calls, in the order of the rows."""
        return [record for made in self.attempts for record in made.records]

    def counts(self) -> dict[str, Any]:
        """Return the numbers of rows, calls and tokens, and the cost; None where an endpoint gave none.

        `degraded` counts the searches that a snapshot answered because the store was unavailable, and
        `fallback` the answers by a fall-back; each key is absent when its count is 0.
        """
        kinds = [row.kind for row in self.broken]
        return {
            "rows": self.rows,
            "answered": self.answers.height,
            "quarantined": len(self.broken),
            "broken_input": kinds.count("input"),
            "broken_answer": kinds.count("task"),
            "held": self.held,
            **without_zeros(usage_counts(self.records)),
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
        """Write `<name>.<tenant>.parquet` for each tenant and `quarantine.parquet` into `folder`.

        The same rows give the same bytes. Beside the folder, `ATTEMPTS` has one JSON line for each attempt
        and broken input, for the judge; the counts are written last and mark the batch as complete.
        Raises ConfigError for a name that cannot name a file, and for a second batch of the same job.
        """
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(
                f"{name!r} cannot name a file: use letters, digits, - and _",
                hint='ws.publish(batch, "answers")',
            )
        if folder.with_name(COUNTS).exists():
            raise ConfigError(
                "a job publishes once, and this job has published",
                hint="publish one task that returns all columns",
            )
        for (tenant,), part in sorted(self.answers.partition_by("tenant", as_dict=True).items()):
            files.write_atomic(folder / f"{name}.{tenant}.parquet", _parquet(part))
        files.write_atomic(folder / QUARANTINE, _parquet(self.quarantine()))
        lines = [made.to_json() for made in self.attempts]
        lines += [_no_input(item) for item in self.broken if item.kind == "input"]
        told = b"".join(files.canonical({"task": self.task, **line}) + b"\n" for line in lines)
        files.write_atomic(folder.with_name(ATTEMPTS), told)
        files.write_atomic(folder.with_name(COUNTS), files.pretty(self.counts()))

    def card(self) -> Card:
        """Return the display card: the first answers, and the reasons of the first broken rows."""
        shown = [[str(value)[:80] for value in row] for row in self.answers.head(5).rows()]
        reasons = [f"row {broken.row.number}: {broken.reason}" for broken in self.broken[:3]]
        counts = self.counts()
        cost = "cost unknown" if counts["cost_usd"] is None else f"{number(counts['cost_usd'])} USD"
        return Card(
            title=f"{self.task} · {self.name} · {counts['answered']} of {self.rows} rows answered",
            head=self.answers.columns,
            rows=shown,
            notes=[f"{counts['quarantined']} set aside, {cost}", *reasons, *self._state_notes()],
            command="workbench promote job/NAME --to production --dry-run",
        )

    def _state_notes(self) -> list[str]:
        notes = [
            *degraded_note(degraded_searches(self.records)),
            *fallback_note(answered_by_fallback(self.records)),
        ]
        if self.held:
            unasked = "" if self.records else "; no row was answered"
            return [*notes, f"held: too many rows are broken{unasked}"]
        if not self.rows:
            return ["no inputs are named; a job names its own"]
        return [*notes, "preview: exploring publishes nothing"]


def usage_counts(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the calls, tokens and cost of records, and how many searches and answers were degraded."""
    calls = chat_calls(records)
    return {
        "calls": len(calls),
        "cost_usd": summed(calls, "cost_usd") if calls else 0.0,
        "input_tokens": summed(calls, "input_tokens") if calls else 0,
        "output_tokens": summed(calls, "output_tokens") if calls else 0,
        "degraded": degraded_searches(records),
        "fallback": answered_by_fallback(records),
    }


def without_zeros(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts without those of degraded searches and fall-backs that are 0."""
    return {name: value for name, value in counts.items() if value or name not in _IF_ANY}


def _no_input(broken: Broken) -> dict[str, Any]:
    """Return the line of a row that does not fit the task, as `CaseAttempt.to_json` writes a failed one."""
    row = broken.row
    answer = {"error": f"unfit_input: {broken.reason}", "records": [], "passages": []}
    return {"case": row.id, "tenant": row.tenant, **answer}


def check_gives(gives: Any, task: str) -> None:
    """Raise ConfigError when the type of a task's result has a field that is a column of its input row."""
    names = {item.name for item in fields(gives)} if is_dataclass(gives) else set()
    if clash := {"id", "tenant"} & names:
        raise ConfigError(
            f"task {task}: its result has a field {min(clash)!r}, which is a column of the input row",
            hint="rename the field",
        )


def answers_frame(gives: Any, attempts: Sequence[CaseAttempt]) -> pl.DataFrame:
    """Return `id`, `tenant` and the fields of the results of type `gives`, or `output` for a plain type."""
    import polars as pl

    rows = []
    for made in attempts:
        if made.failure is None:
            plain = plain_output(made.output)
            fields_of = plain if plain is not made.output else {"output": plain}
            rows.append({"id": made.case, "tenant": made.tenant, **fields_of})
    if not rows:
        return pl.DataFrame(schema={"id": pl.String, "tenant": pl.String})
    frame = _frame(rows).sort("id")
    promised: Mapping[Any, Any] = _promised(gives)
    return frame.cast({name: kind for name, kind in promised.items() if _is_vague(frame.schema[name], kind)})


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return rows as a frame; a column whose values have no common type holds them as JSON texts."""
    import polars as pl

    def column(name: str) -> pl.Series | list[str]:
        values = [row.get(name) for row in rows]
        try:
            made = pl.Series(name, values)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            made = None
        if made is None or made.dtype == pl.Object:
            return [files.canonical(value).decode() for value in values]
        return made

    try:
        frame = pl.DataFrame(rows, infer_schema_length=None)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        frame = None
    if frame is None or pl.Object in frame.dtypes:
        return pl.DataFrame({name: column(name) for name in dict.fromkeys(k for row in rows for k in row)})
    return frame


def _is_vague(found: Any, promised: Any) -> bool:
    """Return whether the values leave the column's type open: all are missing, or all are integers."""
    import polars as pl

    return found in {pl.Null(), pl.List(pl.Null())} or (found, promised) == (pl.Int64(), pl.Float64())


def _promised(gives: Any) -> dict[str, Any]:
    """Return the types of the columns that the task declares as a plain type, or as a list of it."""
    import polars as pl

    plain: dict[Any, Any] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}
    hints = {"output": gives}
    if is_dataclass(gives):
        known = typing.get_type_hints(gives)
        hints = {item.name: known[item.name] for item in fields(gives)}
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
