"""Read a table strictly: CSV, TSV, JSON lines, a JSON list, Parquet or XLSX, with the place of each row.

CSV has no types: every value is a text. The other formats type their values. A row without any value is
left out, as spreadsheets append them.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.files.decoding import decode
from workbench.files.json_reader import parse_json
from workbench.files.reading import read_bytes, read_text, shortened
from workbench.files.workbooks import Sheet, read_sheet

if TYPE_CHECKING:
    import polars as pl

MOST_BYTES, MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 1 << 28, 1_000_000, 1_000, 10_000_000
#: The endings of the files that `read` takes.
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx")
_JSON = frozenset({".jsonl", ".ndjson", ".json"})
_DELIMITERS = (",", ";", "\t", "|")
#: The records by which delimiters are compared.
_COMPARED = 1_000
#: Some damage ends the process that polars reads it in; a child is bounded to four gigabytes.
_PROBE = """
import contextlib, io, resource, sys
with contextlib.suppress(OSError, ValueError):
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import polars
polars.read_parquet(io.BytesIO(sys.stdin.buffer.read()))
"""
_PROBE_SECONDS = 300
#: What the errors of Python's CSV reader mean.
_CSV_ERRORS = {
    "unexpected end of data": "a value in quotes has no closing quote",
    "field larger than field limit": "a value is longer than the reader takes; is a closing quote missing?",
}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_ONE_KIND = "write the values of a column in one type, for example as text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file. `numbers` has the place of each row: its first line, or its row (`unit`).

    A row of JSON has the keys that its object has; a row of another format has every column. `delimiter`,
    `encoding` and `sheet` are what was found, where the format has it.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)
    numbers: tuple[int, ...] = field(repr=False)
    unit: Literal["line", "row"] = "line"
    delimiter: str = ""
    encoding: str = ""
    sheet: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, position: int) -> str:
        """Return file and place of a row, counted from 0, as errors name it."""
        number = self.numbers[position]
        return f"{self.path}:{number}" if self.unit == "line" else f"{self.path}, row {number}"

    def check_columns(self, names: Iterable[str]) -> None:
        """Raise ConfigError, which names the nearest column, unless the table has all these columns."""
        for name in names:
            if name not in self.columns:
                raise ConfigError(
                    f"{self.path} has no column {shortened(name)!r} ({nearest(name, self.columns)})",
                    hint=f"its columns are {shortened(', '.join(self.columns))}",
                )

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as a new polars frame; ConfigError names a column whose values have several types."""
        import polars as pl

        return pl.DataFrame([self._series(name) for name in self.columns])

    def _series(self, name: str) -> pl.Series:
        import polars as pl

        values = [row.get(name) for row in self.rows]
        kinds: dict[str, int] = {}
        for position, value in enumerate(values):
            if value is not None:
                kinds.setdefault(_kind(value), position)
        if set(kinds) == {"int", "float"}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            (one, first), (other, second), *_ = kinds.items()
            raise ConfigError(
                f"{self.where(second)}: the column {shortened(name)!r} holds {other} here and {one} in "
                f"{self.unit} {self.numbers[first]}",
                hint=_ONE_KIND,
            )
        try:
            return pl.Series(name, values, strict=True)
        except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError):
            raise ConfigError(
                f"{self.path}: the values of the column {shortened(name)!r} have several types",
                hint=_ONE_KIND,
            ) from None


def read(
    path: str | Path, *, sheet: str | None = None, delimiter: str = "", encoding: str = "",
    most_bytes: int = MOST_BYTES, most_rows: int = MOST_ROWS,
) -> Table:  # fmt: skip
    """Return the table in a file, whose ending names its format.

    Delimiter and encoding of CSV are found; `delimiter` and `encoding` state them. `sheet` is by default the
    first. Raises NotFoundError without the file. Raises ConfigError, with line or row and column, for a file
    that is no table, has no rows or exceeds a bound.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    _check_suffix(path, suffix)
    if suffix in _JSON:
        text = read_text(path, hint=_look(path), limit=most_bytes)
        objects = _json_list(text, path) if suffix == ".json" else json_lines(text, where=str(path))
        return _of_objects(path, objects, most_rows, unit="row" if suffix == ".json" else "line")
    data = _bytes(path, most_bytes)
    if suffix == ".parquet":
        _check_readable(data, path)
        frame = read_parquet(data, where=str(path), most_rows=most_rows)
        objects = enumerate(frame.iter_rows(named=True), start=1)
        return _of_objects(path, objects, most_rows, unit="row")
    if suffix == ".xlsx":
        return _of_sheet(path, read_sheet(data, sheet, where=str(path)), most_rows)
    text, encoding = decode(data, where=str(path), encoding=encoding)
    chosen = delimiter or ("\t" if suffix == ".tsv" else _delimiter(text, path))
    return _of_csv(path, _records(text, chosen, path), most_rows, delimiter=chosen, encoding=encoding)


def json_lines(text: str, *, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line that is not blank; ConfigError names the line."""
    # Not `splitlines`: JSON may hold characters that Unicode counts as the end of a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{where}:{number}"
            yield number, _object(parse_json(line, where=place), place)


def read_parquet(data: bytes, *, where: str, most_rows: int | None = None) -> pl.DataFrame:
    """Return the frame in the bytes of a Parquet file; ConfigError for an incomplete file or too many rows.

    The rows are counted before any is read.
    """
    import polars as pl

    try:
        rows = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
        if most_rows is None or rows <= most_rows:
            return pl.read_parquet(io.BytesIO(data))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or ["cannot be read"])[0]
        raise ConfigError(f"{where} is not a complete Parquet file: {reason[:200]}") from None
    raise _too_many(where, f"{rows} rows", most_rows)


def _check_readable(data: bytes, path: Path) -> None:
    """Raise ConfigError for a Parquet file that ends the process that reads it: a child reads it first."""
    if not data.startswith(b"PAR1") or not data.endswith(b"PAR1"):
        return  # `read_parquet` reports it
    command, threads = [sys.executable, "-I", "-c", _PROBE], {"POLARS_MAX_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and a constant
            command, input=data, capture_output=True, check=False, env=threads, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        reason = f"it is not read in {_PROBE_SECONDS} seconds"
    else:
        reason = "" if done.returncode >= 0 else "it is damaged, or larger than 4 GB once unpacked"
    if reason:
        raise ConfigError(
            f"{path} is not a complete Parquet file: {reason}", hint="write it again, or as CSV"
        )


def _look(path: Path) -> str:
    return f"ls -l {path.parent}   # is it the right file?"


def _check_suffix(path: Path, suffix: str) -> None:
    if suffix not in SUFFIXES:
        what = f"the ending {suffix!r}" if suffix else "no ending"
        raise ConfigError(
            f"{shortened(str(path))} has {what}; a table ends in {', '.join(SUFFIXES)}",
            hint="export it as .csv (UTF-8) or .xlsx, or rename it to the ending of its format",
        )


def _bytes(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit=limit)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=_look(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=_look(path)) from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: not a JSON object, but {type(value).__name__}")
    return value


def _json_list(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each item of a JSON list."""
    items = parse_json(text, where=str(path)) if text.strip() else []
    if not isinstance(items, list):
        raise ConfigError(
            f"{path}: not a list of JSON objects, but {type(items).__name__}",
            hint="write [{…}, {…}], or one object a line into a .jsonl file",
        )
    for number, item in enumerate(items, start=1):
        yield number, _object(item, f"{path}, row {number}")


def _of_objects(
    path: Path, objects: Iterable[tuple[int, dict[str, Any]]], most_rows: int, *, unit: Literal["line", "row"]
) -> Table:
    found: list[tuple[int, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for number, row in objects:
        columns.update(dict.fromkeys(row))
        found.append((number, row))
        _check_bounds(path, len(found), len(columns), most_rows)
    return _made(path, tuple(columns), found, unit=unit)


def _of_csv(path: Path, records: Iterator[tuple[int, list[str]]], most_rows: int, **found: str) -> Table:
    """Return the table of CSV records with their lines, whose first is the header."""
    line, header = next(records, (1, []))
    if not header:
        raise ConfigError(f"{path} is empty", hint="write a header and one row or more")
    names = _names(header, f"{path}:{line}")
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, record in records:
        if len(record) != len(header):
            raise ConfigError(
                f"{path}:{number}: the row has {len(record)} of the {len(header)} columns in line {line}"
                if len(record) < len(header)
                else f"{path}:{number}: {len(record)} values, and line {line} has {len(header)} columns",
                hint=f"put a value that holds {found['delimiter']!r} or a line break between double quotes",
            )
        rows.append((number, _row(names, record, f"{path}:{number}")))
        _check_bounds(path, len(rows), len(names), most_rows)
    return _made(path, tuple(filter(None, names)), rows, unit="line", **found)


def _of_sheet(path: Path, sheet: Sheet, most_rows: int) -> Table:
    place = f"{path}, sheet {sheet.name!r}, row"
    names = _names([name or "" for name in sheet.header], f"{place} {sheet.header_row}")
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, values in enumerate(sheet.frame.iter_rows(), start=sheet.header_row + 1):
        if any(value not in (None, "") for value in values):
            rows.append((number, _row(names, values, f"{place} {number}")))
            _check_bounds(path, len(rows), len(names), most_rows)
    return _made(path, tuple(filter(None, names)), rows, unit="row", sheet=sheet.name)


def _made(
    path: Path, columns: tuple[str, ...], found: list[tuple[int, dict[str, Any]]], **rest: Any
) -> Table:
    if not found or not columns:
        what = "has no columns" if found else "has a header and no rows" if columns else "is empty"
        raise ConfigError(f"{path} {what}", hint="name a file with one row or more")
    numbers, rows = zip(*found, strict=True)
    return Table(path=path, columns=columns, rows=rows, numbers=numbers, **rest)


def _names(header: Sequence[str], where: str) -> list[str]:
    """Return the names of a header; "" for a column without one. ConfigError for a name used twice."""
    names = [name.strip() for name in header]
    for number, name in enumerate(names, start=1):
        if name and name in names[: number - 1]:
            first = names.index(name) + 1
            raise ConfigError(
                f"{where}: the columns {first} and {number} are both called {shortened(name)!r}",
                hint="give each column a name of its own",
            )
    if not any(names):
        raise ConfigError(f"{where}: no column has a name", hint="write the names of the columns on top")
    return names


def _row(names: Sequence[str], values: Sequence[Any], where: str) -> dict[str, Any]:
    found = dict(zip(names, values, strict=True))
    if "" not in found:
        return found
    for number, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        if not name and value not in (None, ""):
            raise ConfigError(
                f"{where}: the value of column {number} has no column name",
                hint="name the column in the header, or empty it",
            )
    return {name: value for name, value in found.items() if name}


def _check_bounds(path: Path, rows: int, columns: int, most_rows: int) -> None:
    if rows > most_rows:
        raise _too_many(str(path), f"{rows} rows", most_rows)
    if columns > MOST_COLUMNS:
        raise _too_many(str(path), f"{columns} columns", MOST_COLUMNS)
    if rows * columns > MOST_CELLS:
        raise _too_many(str(path), f"{rows * columns} values", MOST_CELLS)


def _too_many(where: str, what: str, most: int | None) -> ConfigError:
    return ConfigError(f"{where} has {what}: more than {most}", hint="split it into several files")


def _records(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the values of each record that has a value; ConfigError names the line."""
    reader = csv.reader((found[0] for found in _LINE.finditer(text)), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            hint = 'a value with quotes is "…" as a whole, and a quote inside is written twice'
            said = next((text for start, text in _CSV_ERRORS.items() if str(error).startswith(start)), error)
            raise ConfigError(f"{path}:{line}: {said}", hint=hint) from None
        if record is None:
            return
        if any(record):
            yield line, record
        line = reader.line_num + 1


def _delimiter(text: str, path: Path) -> str:
    """Return the one delimiter that gives every record as many values as the header, two or more.

    Without any the table has one column. ConfigError when several delimiters fit.
    """
    splits = {sign: _widths(text, sign, path) for sign in _DELIMITERS}
    possible = {sign: widths for sign, widths in splits.items() if widths[:1] > [1]}
    even = [sign for sign, widths in possible.items() if len(set(widths)) == 1]
    if len(even) > 1:
        raise ConfigError(
            f"{path}: each of {', '.join(map(repr, even))} may be the delimiter",
            hint="put values that hold one of them between double quotes, or save the table as .xlsx",
        )
    return even[0] if even else max(possible, key=lambda sign: possible[sign][0], default=",")


def _widths(text: str, delimiter: str, path: Path) -> list[int]:
    """Return the numbers of values of the first records; an unreadable record ends them with a 0."""
    widths: list[int] = []
    try:
        for _, record in itertools.islice(_records(text, delimiter, path), _COMPARED):
            widths.append(len(record))
    except ConfigError:
        widths.append(0)
    return widths


def _kind(value: Any) -> str:
    return "list" if isinstance(value, tuple) else type(value).__name__
