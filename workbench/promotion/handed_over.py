"""Read what a judged kernel handed over: its attempts, and the answers that it published."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files, wire
from workbench.errors import ConfigError, CorruptError, RefusedError
from workbench.experiments.batch import ATTEMPTS, QUARANTINE
from workbench.experiments.dataset import Dataset
from workbench.experiments.usage import chat_calls, summed
from workbench.records.keys import Entry
from workbench.types import Usage

#: Return the cost of a model's usage in USD, None when it is unknown.
Price = Callable[[str, Usage], float | None]

#: Values that Parquet does not tell from each other in a mapping.
_EMPTY: tuple[Any, ...] = (None, {}, [])
#: Most bytes of the file in which a kernel hands over its attempts.
_MOST_TOLD = 1 << 30
_HINT = "publish TASK.map(ws.inputs(inputs)) as it is, and write no file of the run by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToldRecord:
    """The record of one call of a task, as the kernel tells it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    port: str
    operation: str
    hits: tuple[dict[str, Any], ...] = ()
    degraded: bool | None = None
    recorded_latency_s: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    fallback: str = ""
    fallback_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One line of the kernel's attempts: an output as JSON text with its sources, or an error."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    task: str
    case: str
    tenant: str
    output: str | None = None
    sources: tuple[str, ...] = ()
    error: str | None = None
    records: tuple[_ToldRecord, ...]
    passages: tuple[dict[str, str], ...]


def attempts(work: Path, cases: Dataset, *, notebook: str) -> dict[str, dict[str, Any]]:
    """Return the attempts by case, as `CaseAttempt.to_json` writes them, from the run's folder `work`.

    Raise ConfigError when `notebook` published nothing, RefusedError for a row that is no case and for a
    published answer that is another than the one told.
    """
    found = _told(work, cases, notebook)
    _check_published(work, found, notebook)
    return found


def _told(work: Path, cases: Dataset, notebook: str) -> dict[str, dict[str, Any]]:
    path = work / ATTEMPTS
    if not path.is_file():
        raise ConfigError(
            f"{notebook}: its cells without `explore` published nothing",
            hint='end it with a cell like ws.publish(answer.map(ws.inputs(inputs)), "answers")',
        )
    tenants = {case.id: case.tenant for case in cases}
    found: dict[str, dict[str, Any]] = {}
    lines = files.read_text(path, limit=_MOST_TOLD).removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else (), start=1):
        where = f"{notebook}: attempt {number}"
        told = files.parse(_Told, _json(line, where), where=where)
        if tenants.get(told.case) != told.tenant or told.case in found:
            raise RefusedError(
                f"{where}: row {files.shortened(told.case)!r} of tenant {files.shortened(told.tenant)!r} "
                "is no case, or is there twice",
                hint=_HINT,
            )
        if (told.output is None) == (told.error is None):
            raise CorruptError(f"{where}: it needs either an output or an error")
        _check_amounts(told, where)
        found[told.case] = dataclasses.asdict(told)
    return found


def _check_amounts(told: _Told, where: str) -> None:
    """Raise CorruptError for an amount of a call below zero."""
    for record in told.records:
        for name in ("recorded_latency_s", "cost_usd", "input_tokens", "output_tokens"):
            if (getattr(record, name) or 0) < 0:
                raise CorruptError(f"{where}: {name} of a call is {getattr(record, name)}", hint="dvc repro")


def _check_published(work: Path, attempts: Mapping[str, Mapping[str, Any]], notebook: str) -> None:
    """Raise RefusedError unless the outputs that are scored are those that were published."""
    published = _published(work, notebook)
    for case, line in attempts.items():
        if line["output"] is None:
            continue
        told, fields = _json(line["output"], case), published.get(case, {})
        if not _alike(told, fields) and not (set(fields) == {"output"} and _alike(told, fields["output"])):
            raise RefusedError(
                f"{notebook} published another answer to case {case} than it gave to be scored",
                hint=_HINT,
            )


def _published(work: Path, notebook: str) -> dict[str, dict[str, Any]]:
    """Return the fields of each published answer, by case."""
    import polars as pl

    found: dict[str, dict[str, Any]] = {}
    for path in sorted((work / "out").iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode) or path.suffix != ".parquet":
            raise RefusedError(
                f"{notebook} published {path.name}, which is no Parquet file",
                hint=_HINT,
            )
        try:
            rows = pl.read_parquet(path).to_dicts() if path.name != QUARANTINE else []
            for row in rows:
                if row["id"] in found:
                    raise RefusedError(
                        f"{notebook} published two answers to case {row['id']}",
                        hint=_HINT,
                    )
                found[row["id"]] = {name: row[name] for name in row if name not in {"id", "tenant"}}
        except (OSError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise CorruptError(
                f"{notebook}: what it published as {path.name} is not readable: {error}",
                hint=_HINT,
            ) from None
    return found


def _alike(told: Any, published: Any) -> bool:
    """Whether a value of JSON and one of Parquet are the same.

    Parquet adds missing fields to a mapping and has instants in UTC.
    """
    if isinstance(published, str):
        return told == published or _is_text_of(told, published)
    if isinstance(told, Mapping) and isinstance(published, Mapping):
        return all(_alike(told.get(name), published.get(name)) for name in {*told, *published})
    if isinstance(told, list) and isinstance(published, list):
        return len(told) == len(published) and all(map(_alike, told, published))
    if isinstance(published, dt.date | dt.time):
        return isinstance(told, str) and _moment(told) == _moment(published.isoformat())
    if isinstance(told, int) and isinstance(published, float):
        return float(told) == published
    return bool(told == published) or (told in _EMPTY and published in _EMPTY)


def _is_text_of(told: Any, published: str) -> bool:
    """Whether a text of a column of mixed types is the JSON text of a value."""
    try:
        return bool(_json(published, "") == told)
    except CorruptError:
        return not isinstance(told, str) and str(told) == published


def _moment(text: str) -> Any:
    """Return an instant as seconds, so that time zones do not count; another text as it is."""
    with contextlib.suppress(ValueError):
        moment = dt.datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else moment.isoformat()
    return text


def check_amounts(
    told: Mapping[str, Mapping[str, Any]], entries: Iterable[Entry], *, price: Price, notebook: str
) -> None:
    """Raise RefusedError when the calls of a case tell less time, tokens or cost than its recordings hold.

    `price` returns the cost of a model's usage in USD. A case may tell more: calls that are not recorded.
    """
    held: dict[str, list[Mapping[str, float | None]]] = {}
    for entry in entries:
        speaks = wire.dialect(entry.question.operation)
        if speaks.generates and "events" in entry.result:
            usage = speaks.usage_of(speaks.fold(entry.events()))
            amounts = {
                "recorded_latency_s": entry.latency_s,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost_usd": price(entry.target, usage),
            }
            held.setdefault(entry.question.case, []).append(amounts)
    for case, line in told.items():
        calls, recordings = chat_calls(line["records"]), held.get(case, [])
        for name in recordings[0] if recordings else ():
            known = [amounts[name] for amounts in recordings]
            least, said = sum(amount for amount in known if amount is not None), summed(calls, name)
            hidden = said is None and None not in known and len(calls) <= len(recordings)
            if hidden or (said is not None and said < least - 1e-6 * (1 + least)):
                raise RefusedError(
                    f"{notebook}: the calls of case {case} tell {name} {said}, its recordings hold {least:g}",
                    hint=_HINT,
                )


def _json(line: str, where: str) -> Any:
    """Return the value of a line that the kernel wrote as canonical JSON."""
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{where} is not JSON: {error}", hint="dvc repro") from None
