"""The log of outcomes: what became of an answer or a session, as its users or their systems say."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from workbench import files
from workbench.arguments import text
from workbench.errors import ConfigError
from workbench.records.log import Lines, read_records

if TYPE_CHECKING:
    import polars as pl

#: The largest value of an outcome: sums and squares of many such values are still numbers.
MOST_VALUE: Final = 1e100
#: The name of the outcome that `ws.feedback` records: 1.0 for good, 0.0 for bad.
FEEDBACK: Final = "feedback"
#: Characters of a note.
MOST_NOTE: Final = 2_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
#: An id of a session: no spaces and no control characters, so that it holds no text.
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/-]{0,127}")
#: An address of a person: an id with one would be in every record and span.
_ADDRESS = re.compile(r"[^@]+@[^@/:]+\.[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOutcome:
    """One outcome of a call, or of a session when `trace_id` is empty.

    A later outcome with the same subject and name replaces an earlier one; of `FEEDBACK`, each person has
    one. `note` is what a person wrote, masked as texts of records are.
    """

    at: str
    use_case: str
    tenant: str
    principal: str
    trace_id: str
    session: str
    name: str
    value: float
    note: str = ""


#: The fields that each line has; a note came later.
_REQUIRED: Final = frozenset(RecordedOutcome.__slots__) - {"note"}


def check_note(note: str) -> str:
    """Return a note; raise ConfigError for what is no text and for one that is too long."""
    if len(text(note, "note")) > MOST_NOTE:
        raise ConfigError(
            f"the note has {len(note):,} characters; at most {MOST_NOTE:,} are kept",
            hint="shorten it, or keep it in a ticket and write its id here",
        )
    return note


def check_session(session: str) -> str:
    """Return an id of a session; raise ConfigError for a text that cannot be one."""
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        raise ConfigError(
            f"{str(session)[:40]!r} cannot be the id of a session",
            hint='up to 128 of A-Z, a-z, 0-9 and _ . : @ / -, for example ws.session("chat-4711"); '
            "choose an id that names no person",
        )
    if _ADDRESS.search(session):
        raise ConfigError(
            "the id of the session holds an e-mail address, which every record and span would name",
            hint='an id that stands for the session: ws.session("chat-4711")',
        )
    return session


def check_outcome(name: str, value: float) -> tuple[str, float]:
    """Return the name and the value of an outcome; raise ConfigError for one that is neither."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{str(name)[:40]!r} cannot name an outcome",
            hint='for example ws.outcome(reply, "resolved", value=1.0)',
        )
    if isinstance(value, bool | int | float) and -MOST_VALUE <= value <= MOST_VALUE:
        return name, float(value)
    raise ConfigError(
        f"the value of the outcome {name!r} is {str(value)[:40]!r}, not a finite number",
        hint="1.0 for yes, 0.0 for no, or an amount",
    )


def keep_outcome(path: Path, outcome: RecordedOutcome) -> RecordedOutcome:
    """Append an outcome to the log, on the disk when this returns; the same again changes nothing."""
    Lines(path, durable=True).append(orjson.dumps(asdict(outcome), option=orjson.OPT_SORT_KEYS))
    return outcome


def outcomes_of(path: Path) -> pl.DataFrame:
    """Return one row for each outcome, the latest of each subject and name, oldest first."""
    import polars as pl

    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in read_records(path):
        if set(record) >= _REQUIRED and _fits(record):
            outcome = {name: record.get(name, "") for name in RecordedOutcome.__slots__}
            key = tuple(outcome[name] for name in ("use_case", "tenant", "trace_id", "session", "name"))
            key += (outcome["principal"],) if outcome["name"] == FEEDBACK else ()
            latest.pop(key, None)
            latest[key] = outcome
    kinds = {name: pl.Float64() if name == "value" else pl.String() for name in RecordedOutcome.__slots__}
    frame = pl.DataFrame(list(latest.values()), schema=kinds, orient="row")
    return frame.with_columns(pl.col("at").str.to_datetime(time_zone="UTC", time_unit="us", strict=False))


def feedback_of(path: Path) -> dict[str, tuple[float, ...]]:
    """Return what people said of each call, from 0.0 to 1.0, by trace id, the first call spoken of first.

    Each person's latest counts. The place of a call does not change when somebody says it again.
    """
    found: dict[str, dict[str, float]] = {}
    for record in read_records(path):
        if not (set(record) >= _REQUIRED and _fits(record)):
            continue
        if record["name"] == FEEDBACK and record["trace_id"] and 0.0 <= record["value"] <= 1.0:
            found.setdefault(record["trace_id"], {})[record["principal"]] = float(record["value"])
    return {trace: tuple(said.values()) for trace, said in found.items()}


def _fits(record: dict[str, Any]) -> bool:
    """Return whether the values of a record have the types of an outcome."""
    texts = all(
        isinstance(record.get(name, ""), str) for name in RecordedOutcome.__slots__ if name != "value"
    )
    return texts and isinstance(record["value"], int | float) and not isinstance(record["value"], bool)


def purge_outcomes(path: Path, before: dt.date) -> int:
    """Remove the outcomes of days before `before`, and return their number; odd lines go too."""
    if not path.exists():
        return 0
    log = Lines(path, durable=True)
    with log.writing():  # a writer that waits opens the file that replaces this one
        records = [record for record in read_records(path) if set(record) >= _REQUIRED]
        kept = [record for record in records if str(record["at"])[:10] >= before.isoformat()]
        if len(kept) < len(records):
            lines = (orjson.dumps(record, option=orjson.OPT_SORT_KEYS) + b"\n" for record in kept)
            files.write_atomic(path, b"".join(lines))
    return len(records) - len(kept)
