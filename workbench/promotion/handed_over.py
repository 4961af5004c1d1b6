"""Take and read what a kernel hands over: its attempts, its counts, and the answers that it published.

The gateway's records say what the calls of a case found, cost and took. What the kernel says of them is not
read: it could say less.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError, CorruptError, RefusedError
from workbench.experiments.attempts import told_record
from workbench.experiments.batch import ATTEMPTS, COUNTS, QUARANTINE, usage_counts, without_zeros
from workbench.experiments.dataset import Dataset

#: Values that Parquet does not tell from each other in a mapping.
_EMPTY: tuple[Any, ...] = (None, {}, [])
#: Most bytes of a file that a kernel hands over, and of all; most files that it publishes. A file with holes
#: takes no room in the kernel's folder, and all of it in its copy.
_MOST_TOLD, _MOST_IN_ALL, _MOST_FILES = 1 << 30, 4 << 30, 10_000
#: The records of the calls of each case, as the gateway kept them.
Records = Mapping[str, Sequence[Mapping[str, Any]]]
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


def take(kernel: Path, work: Path, records: Records, *, notebook: str) -> None:
    """Copy what a kernel handed over from its own folder into the folder `work` of the run.

    The attempts and the counts get the gateway's `records` of each case in place of the kernel's. Raise
    RefusedError for a link or another file that is not regular, which could lead out of the kernel's folder.
    Nothing is copied from a kernel that published nothing.
    """
    with _folder(kernel) as top:
        told = None if top is None else _bytes(top, ATTEMPTS, notebook)
        if top is None or told is None:
            return
        lines = [_with_records(line, records) for line in told.split(b"\n") if line]
        files.write_atomic(work / ATTEMPTS, b"".join(line + b"\n" for line, _ in lines))
        with _folder("out", top) as out:
            if out is not None:
                _take_published(out, work / "out", notebook)
        counts = _bytes(top, COUNTS, notebook)
        if counts is not None:  # last: it marks the handover as complete
            used = usage_counts([record for _, found in lines for record in found])
            files.write_atomic(work / COUNTS, files.pretty(_recounted(counts, used, notebook)))


def _take_published(out: int, target: Path, notebook: str) -> None:
    """Copy the published files, which are Parquet files of a bounded size."""
    room = _MOST_IN_ALL
    for name in _names(out, notebook):
        data = _bytes(out, name, notebook) or b""
        room -= len(data)
        if room < 0:
            raise RefusedError(
                f"{notebook} published more than {_MOST_IN_ALL:,} bytes in all", hint="publish fewer columns"
            )
        files.write_atomic(target / name, data)


def check_counts(work: Path, told: Mapping[str, Any], *, notebook: str, broken: float) -> None:
    """Raise RefusedError unless the counts of a kernel are those of what it published.

    `broken` is the share of broken rows above which nothing may be published.
    """
    import polars as pl

    counts = {name: told.get(name) for name in ("rows", "answered", "quarantined")}
    if any(type(count) is not int or count < 0 for count in counts.values()):
        raise RefusedError(f"{notebook}: its counts are no whole numbers: {counts}"[:500], hint=_HINT)
    found = {"answered": 0, "quarantined": 0}
    for path in sorted((work / "out").iterdir()):
        if path.suffix != ".parquet":
            raise RefusedError(f"{notebook} published {path.name}, which is no Parquet file", hint=_HINT)
        kind = "quarantined" if path.name == QUARANTINE else "answered"
        try:
            found[kind] += pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CorruptError(f"{notebook}: {path.name} is not readable: {error}", hint=_HINT) from None
    for name, count in found.items():
        if count != told[name]:
            raise RefusedError(
                f"{notebook} counts {told[name]} rows as {name}, and published {count}", hint=_HINT
            )
    if not told.get("held") and found["quarantined"] > broken * told["rows"]:
        raise RefusedError(
            f"{notebook}: {found['quarantined']} of {told['rows']} rows are broken, and it is not held back",
            hint=_HINT,
        )


def _with_records(line: bytes, records: Records) -> tuple[bytes, Sequence[Mapping[str, Any]]]:
    """Return a line of attempts with the gateway's records, and these; a line that is none stays as it is."""
    import orjson

    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line, ()
    if not isinstance(told, dict) or not isinstance(told.get("case"), str):
        return line, ()
    found = [told_record(record) for record in records.get(told["case"], ())]
    return files.canonical({**told, "records": found}), found


def _recounted(counts: bytes, used: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """Return the counts of a kernel with those of its calls as the gateway's records give them."""
    told = _json(counts.decode(errors="replace"), f"{notebook}: {COUNTS}")
    if not isinstance(told, dict):
        raise CorruptError(f"{notebook}: its counts are {type(told).__name__}, not an object", hint=_HINT)
    return {**{name: value for name, value in told.items() if name not in used}, **without_zeros(used)}


@contextlib.contextmanager
def _folder(path: Path | str, parent: int | None = None) -> Iterator[int | None]:
    """Yield the descriptor of a folder that is no link, None when there is none."""
    found: int | None = None
    with contextlib.suppress(OSError):
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield found
    finally:
        if found is not None:
            os.close(found)


def _names(folder: int, notebook: str) -> list[str]:
    """Return the names of the published files; RefusedError for too many."""
    found = sorted(os.listdir(folder))
    if len(found) > _MOST_FILES:
        raise RefusedError(f"{notebook} published {len(found)} files, above {_MOST_FILES}", hint=_HINT)
    for name in found:
        if not name.isprintable():  # a terminal would obey it
            raise RefusedError(f"{notebook} published a file named {name!a}", hint=_HINT)
    return found


def _bytes(folder: int, name: str, notebook: str) -> bytes | None:
    """Return a regular file in a folder of the kernel; None when it is missing, RefusedError for another."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=folder), "rb") as file:  # noqa: PTH123  of a descriptor
            status = os.fstat(file.fileno())
            own = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            data = file.read(_MOST_TOLD + 1) if own else b""
    except FileNotFoundError:
        return None
    except OSError:  # a link, a socket
        own, data = False, b""
    if not own or len(data) > _MOST_TOLD:
        why = f"is larger than {_MOST_TOLD} bytes" if own else "is no regular file of its own"
        raise RefusedError(f"{notebook} published {name}, which {why}", hint=_HINT)
    return data


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
        found[told.case] = dataclasses.asdict(told)
    return found


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


def _json(line: str, where: str) -> Any:
    """Return the value of a line that the kernel wrote as canonical JSON."""
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{where} is not JSON: {error}", hint="dvc repro") from None
