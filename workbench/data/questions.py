"""Read a table of questions as people have them into the canonical rows of a dataset."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from workbench import config, files
from workbench.errors import ConfigError, nearest
from workbench.experiments.dataset import PROVENANCE
from workbench.experiments.matching import normalise
from workbench.files import tables
from workbench.files.tables import Table

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["answer", "classify", "extract", "write"]
MOST_QUESTIONS = 200_000
_MOST_ID = 200
#: The usual names of each column, the best first; the first of all is the canonical name.
_TEXT = ("text", "question", "query", "input", "ticket", "message", "body", "content", "frage", "prompt")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "case id", "question id", "ticket id", "nr", "number"),
    "tenant": ("tenant", "mandant"),
    "question": ("question", "query", "frage", "questions", "text", "input", "prompt", "q"),
    "text": _TEXT,
    "answers": (
        "answers", "answer", "expected", "expected answer", "accepted answers", "antwort", "antworten",
        "label", "reference", "gold", "response", "output", "target",
    ),
    "label": (
        "label", "category", "class", "kategorie", "expected", "answer", "answers", "topic", "queue",
        "target",
    ),
    "fields": ("fields", "expected", "answers", "answer", "output", "target", "json"),
    "page": ("page", "source", "document", "seite", "quelle", "dokument", "doc", "file"),
}  # fmt: skip
#: Of each kind, its input and what is expected. `page` is optional, and nothing is expected of "write".
_KINDS: Mapping[Kind, tuple[str, ...]] = {
    "answer": ("question", "answers", "page"),
    "classify": ("text", "label"),
    "extract": ("text", "fields"),
    "write": ("text",),
}
_WORDS = re.compile(r"[\s_\-.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Questions that are read and may be wrong: their ids, the place of each, and the reason."""

    reason: str
    ids: tuple[str, ...]
    places: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.ids) - 3} more" * (len(self.ids) > 3)
        return f"{', '.join(self.places[:3])}{more}: {self.reason} ({', '.join(self.ids[:3])})"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRows:
    """Canonical rows: `id`, `tenant`, the input and the expected values of the kind, and provenance.

    `columns` has the table's column of each key that was read, and `unused` the others. `made_ids` says that
    the table has no ids. `suspicious` names rows that may be wrong. `places` has the line of each id.
    """

    kind: Kind
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    columns: Mapping[str, str]
    unused: tuple[str, ...] = ()
    made_ids: bool = False
    suspicious: tuple[Suspicion, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the rows, sorted."""
        return tuple(sorted({row["tenant"] for row in self.rows}))


def to_jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines with their keys in their order, as `Dataset.from_file` reads them."""
    import orjson

    return b"".join(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def read_questions(
    source: str | Path | pl.DataFrame, *, kind: Kind, columns: Mapping[str, str] | None = None,
    tenants: Sequence[str] = (), sheet: str | None = None,
) -> QuestionRows:  # fmt: skip
    """Return the questions of a table file or a frame, each with an id, a tenant and what `kind` needs.

    A column is found by its usual names; `columns` names it by its key: `{"question": "Frage"}`. `tenants`
    are the tenants that may ask; the only one is the tenant of a table without that column. Ids are made from
    tenant and text when there are none. ConfigError names the line of an invalid row, and the nearest column
    of one that is missing.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"there is no kind {kind!r} ({nearest(str(kind), get_args(Kind))})")
    table = _table(source, sheet)
    found = _found(table, kind, dict(columns or {}), tenants)
    reader = _Reader(table=table, kind=kind, columns=found, tenants=tuple(tenants))
    rows = [reader.row(position) for position in range(len(table))]
    if "id" not in found:
        rows = _with_ids(rows, _KINDS[kind][0])
    places = [table.where(position) for position in range(len(table))]
    _check_ids(rows, places)
    used = {*found.values(), *PROVENANCE, *(reader.extracted if kind == "extract" else ())}
    return QuestionRows(
        kind=kind, rows=tuple(rows), columns=found, made_ids="id" not in found,
        unused=tuple(name for name in table.columns if name not in used),
        suspicious=tuple(_suspicious(rows, places, _KINDS[kind])),
        places={row["id"]: place for row, place in zip(rows, places, strict=True)},
    )  # fmt: skip


def _table(source: str | Path | pl.DataFrame, sheet: str | None) -> Table:
    if isinstance(source, str | Path):
        return tables.read(source, sheet=sheet, most_rows=MOST_QUESTIONS)
    rows = tuple(source.iter_rows(named=True))
    if not 0 < len(rows) <= MOST_QUESTIONS:
        raise ConfigError(f"the frame has {len(rows)} rows; 1 to {MOST_QUESTIONS} are read")
    columns, numbers = tuple(source.columns), tuple(range(1, len(rows) + 1))
    return Table(path=Path("frame"), columns=columns, rows=rows, numbers=numbers, unit="row")


def _found(table: Table, kind: Kind, stated: dict[str, str], tenants: Sequence[str]) -> dict[str, str]:
    """Return the table's column of each key of the kind; optional keys without a column are left out."""
    keys = ("id", "tenant", *_KINDS[kind])
    for key in stated:
        if key not in keys:
            raise ConfigError(f"columns: there is no key {key!r} ({nearest(key, keys)})", hint="columns={…}")
    table.check_columns(stated.values())
    found = dict(stated)
    plain = {_plain_name(name): name for name in reversed(table.columns)}
    for key in keys:
        free = (plain[name] for name in _NAMES[key] if name in plain and plain[name] not in found.values())
        column = None if key in found else next(free, None)
        if column is not None:
            found[key] = column
    needed = {_KINDS[kind][0], *({"answers", "label"} & set(keys))}
    if len(tenants) != 1:
        needed.add("tenant")
    for key in keys:
        if key in needed and key not in found:
            raise _missing(table, key, kind)
    return {key: found[key] for key in keys if key in found}


def _plain_name(name: str) -> str:
    return _WORDS.sub(" ", name.casefold()).strip()


def _missing(table: Table, key: str, kind: Kind) -> ConfigError:
    hint = f"call the column {key}, or name it: columns={{{key!r}: …}}"
    if key == "tenant":
        hint = "add the column tenant, or name one tenant: tenants=['NAME']"
    elif kind != "write" and key in {"answers", "label"}:
        hint += "; kind write needs no accepted answers"
    near = nearest(key, table.columns)
    return ConfigError(f"{table.path} has no column {key!r} ({near})", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the rows of a table by their columns; `|` separates answers where a format has no lists."""

    table: Table
    kind: Kind
    columns: Mapping[str, str]
    tenants: tuple[str, ...]

    @property
    def extracted(self) -> tuple[str, ...]:
        """The columns of a table for extraction that are fields: none when one column holds all of them."""
        if "fields" in self.columns:
            return ()
        taken = {*self.columns.values(), *PROVENANCE}
        return tuple(name for name in self.table.columns if name not in taken)

    def row(self, position: int) -> dict[str, Any]:
        """Return one canonical row; ConfigError names its line and the column."""
        where, given = self.table.where(position), self.table.rows[position]
        made: dict[str, Any] = {}
        for key in ("id", "tenant", *_KINDS[self.kind]):
            value = given.get(self.columns.get(key, ""))
            try:
                read = self._value(key, value, given)
            except ValueError as error:
                column = self.columns.get(key, key)
                raise ConfigError(f"{where}: {column!r} {error}", hint="correct the row") from None
            if read is not None:
                made[key] = read
        self._check_tenant(made["tenant"], where)
        made |= _provenance(given, where)
        files.check_exact(made, where=where)
        return made

    def _value(self, key: str, value: Any, given: Mapping[str, Any]) -> Any:
        if key == "fields":
            return self._fields(value, given)
        if key not in self.columns:
            return self.tenants[0] if key == "tenant" else None
        if key == "page":
            pages = self._texts(value)
            return pages if len(pages) > 1 else next(iter(pages), None)
        if key == "answers":
            answers = self._texts(value)
            if not answers:
                raise ValueError("is empty: it names no accepted answer")
            return [_compared(answer) for answer in answers]
        text = _text(value) if key != "label" else _compared(_text(value))
        if key == "id" and (len(text) > _MOST_ID or not text.isprintable()):
            raise ValueError(f"must be an id of at most {_MOST_ID} printable characters")
        return text

    def _texts(self, value: Any) -> list[str]:
        """Return the texts of a list, or of one cell."""
        if isinstance(value, list):
            return list(dict.fromkeys(_text(item) for item in value))
        if isinstance(value, str) and self.table.path.suffix.lower() not in {".json", ".jsonl", ".ndjson"}:
            parts = [part.strip() for part in value.split("|")]
            return list(dict.fromkeys(part for part in parts if part))
        return [] if value is None or value == "" else [_text(value)]

    def _fields(self, value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        if "fields" not in self.columns:
            value = {name: _json(given.get(name)) for name in self.extracted if given.get(name) is not None}
        if isinstance(value, str):
            try:
                value = files.parse_json(value, where="fields")
            except ConfigError as error:
                raise ValueError(f"is not a JSON object: {error.message}") from None
        if not isinstance(value, dict) or not value:
            raise ValueError("must be a JSON object with a field or more")
        return value

    def _check_tenant(self, tenant: str, where: str) -> None:
        config.check_tenant(tenant, where=f"{where}: ")
        if self.tenants and tenant not in self.tenants:
            raise ConfigError(
                f"{where}: there is no tenant {tenant!r} ({nearest(tenant, self.tenants)})",
                hint="correct the row, or add documents of this tenant",
            )


def _text(value: Any) -> str:
    """Return a cell as text, a number as it is written; ValueError, which follows the column's name."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, int | float):
        value = str(value)
    value = _json(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    empty = value is None or isinstance(value, str)
    raise ValueError("is empty" if empty else f"must be a text, found {type(value).__name__}")


def _compared(text: str) -> str:
    """Return an accepted text; ValueError when it has nothing that scorers compare."""
    if not normalise(text):
        raise ValueError(f"accepts {files.shortened(text)!r}, which has no letter or digit")
    return text


def _json(value: Any) -> Any:
    """Return a value of a typed format as JSON has it: a day as text."""
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


def _provenance(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the columns of provenance that have a value; CSV has true, false and numbers as texts."""
    found: dict[str, Any] = {}
    for key in PROVENANCE:
        value = given.get(key)
        if value in (None, ""):
            continue
        if isinstance(value, str) and key == "synthetic":
            plain = value.strip().casefold()
            if plain not in {"true", "false", "yes", "no", "1", "0"}:
                raise ConfigError(f"{where}: 'synthetic' must be true or false", hint="correct the row")
            value = plain in {"true", "yes", "1"}
        elif isinstance(value, str) and key in {"seed", "generator_version"} and value.isdecimal():
            value = int(value) if len(value) < 19 else value
        found[key] = value
    if found.get("synthetic") and not (found.get("author") or found.get("generator")):
        raise ConfigError(
            f"{where}: a synthetic row must name its author or generator", hint="fill the column author"
        )
    return found


def _with_ids(rows: Sequence[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the rows with ids made from tenant and text; equal ones are numbered."""
    seen: Counter[str] = Counter()
    made = []
    for row in rows:
        name = f"{row['tenant']}-{files.digest([row['tenant'], row[text]])[:12]}"
        seen[name] += 1
        made.append({"id": name if seen[name] == 1 else f"{name}-{seen[name]}", **row})
    return made


def _check_ids(rows: Sequence[Mapping[str, Any]], places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for row, place in zip(rows, places, strict=True):
        before = first.setdefault(row["id"], place)
        if before != place:
            raise ConfigError(
                f"{place}: the id {files.shortened(row['id'])!r} is the id of {before} too",
                hint="give each question an id of its own, or leave the column out: ids are made",
            )


def _suspicious(
    rows: Sequence[Mapping[str, Any]], places: Sequence[str], keys: Sequence[str]
) -> Iterator[Suspicion]:
    """Yield the questions that are asked twice, and the labels that differ in case and signs only."""
    text, expected = keys[0], keys[1] if len(keys) > 1 else ""
    asked: dict[tuple[str, str], list[int]] = {}
    spelled: dict[str, dict[str, int]] = {}
    for number, row in enumerate(rows):
        asked.setdefault((row["tenant"], normalise(row[text])), []).append(number)
        if expected == "label":
            spelled.setdefault(normalise(row["label"]), {}).setdefault(row["label"], number)
    for numbers in asked.values():
        if len(numbers) > 1:
            first = rows[numbers[0]].get(expected)
            same = all(rows[number].get(expected) == first for number in numbers)
            reason = "the same text" if same else f"the same text with different {expected}"
            yield _of(numbers, reason, rows, places)
    for labels in spelled.values():
        if len(labels) > 1:
            names = ", ".join(repr(files.shortened(name)) for name in labels)
            yield _of(list(labels.values()), f"one label is written in several ways: {names}", rows, places)


def _of(
    numbers: Sequence[int], reason: str, rows: Sequence[Mapping[str, Any]], places: Sequence[str]
) -> Suspicion:
    ids, where = (rows[number]["id"] for number in numbers), (places[number] for number in numbers)
    return Suspicion(reason=reason, ids=tuple(ids), places=tuple(where))
