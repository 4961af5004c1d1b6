"""Read one sheet of an XLSX workbook, after a look at its size and its error cells."""

from __future__ import annotations

import io
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from workbench.errors import ConfigError, nearest

if TYPE_CHECKING:
    import polars as pl

#: Bytes of a workbook once unpacked. The reader allocates the rectangle around all cells of a sheet.
MOST_UNPACKED, MOST_CELLS = 1 << 29, 10_000_000
#: Bytes of all cells that refer to shared texts, each of which the reader copies.
MOST_SHARED = 1 << 27
_CHUNK = 1 << 20
_TAG = re.compile(rb"<(?:\w+:)?(c|row|sheet|Relationship)\b([^>]*)>")
_SHARED_TEXT = re.compile(rb"<(?:\w+:)?si\b")
_REFERENCE = re.compile(rb"<(?:\w+:)?c\b([^>]*)>|(\d{1,9})\s*</(?:\w+:)?v\s*>")
_ATTRIBUTE = re.compile(rb"""([\w:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_PLACE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError,
    ValueError,
)  # fmt: skip
#: Bytes without the end of an element: a cell has at most 32,767 characters.
_MOST_BETWEEN = 1 << 23
_BROKEN = "save it again in a spreadsheet as .xlsx, or export the sheet as CSV UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One sheet: its name, its header row as texts, the row's number, and the typed rows below it."""

    name: str
    header: tuple[str | None, ...]
    header_row: int
    frame: pl.DataFrame


def read_sheet(data: bytes, name: str | None, *, where: str) -> Sheet:
    """Return the named sheet of a workbook, by default the first.

    The header is the first row with a value. ConfigError for a workbook that cannot be read, that is too
    large once unpacked, or whose sheet is missing, empty or has an error cell.
    """
    path, chosen = _sheet_file(data, name, where)
    place = f"{where}, sheet {chosen!r}"
    _check_cells(data, path, place)
    _check_shared(data, path, place)
    texts = _load(data, chosen, where, header=None)
    rows = (number for number, row in enumerate(texts.iter_rows()) if any(map(_is_filled, row)))
    header = next(rows, None)
    if header is None:
        raise ConfigError(f"{place} is empty", hint="name another sheet")
    frame = _load(data, chosen, where, header=header)
    if frame.shape != (texts.height - header - 1, texts.width):
        raise ConfigError(f"{place}: the rows below its header cannot be told apart", hint=_BROKEN)
    return Sheet(name=chosen, header=texts.row(header), header_row=header + 1, frame=frame)


def _is_filled(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _load(data: bytes, name: str, where: str, *, header: int | None) -> pl.DataFrame:
    """Return a sheet: all rows as texts, or with the row of its `header` the typed rows below it."""
    import polars as pl

    for library in ("calamine", "fastexcel"):  # they warn of empty columns, on every read
        logging.getLogger(library).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"header_row": header}
    if header is None:
        options |= {"skip_rows": 0, "dtypes": "string"}
    try:
        return pl.read_excel(
            io.BytesIO(data), sheet_name=name, engine="calamine", drop_empty_rows=False,
            drop_empty_cols=False, has_header=header is not None, infer_schema_length=None,
            raise_if_empty=False, read_options=options,
        )  # fmt: skip
    except BaseException as error:  # a panic of the reader is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: BaseException) -> ConfigError:
    reason = (str(error).splitlines() or ["it is damaged"])[0][:200]
    return ConfigError(f"{where} is not a complete XLSX workbook: {reason}", hint=_BROKEN)


def _sheet_file(data: bytes, name: str | None, where: str) -> tuple[str, str]:
    """Return the path in the archive of the named or first sheet, and its name."""
    folder = "xl"
    sheets = {
        _text(found["name"]): found[key]
        for found in _tags(data, f"{folder}/workbook.xml", b"sheet", where)
        for key in found
        if "name" in found and key.endswith(":id")
    }
    if not sheets:
        raise ConfigError(f"{where} has no sheet", hint=_BROKEN)
    chosen = next(iter(sheets)) if name is None else name
    if chosen not in sheets:
        raise ConfigError(
            f"{where} has no sheet {chosen!r} ({nearest(chosen, sheets)})", hint="name one of its sheets"
        )
    for found in _tags(data, f"{folder}/_rels/workbook.xml.rels", b"Relationship", where):
        if found.get("Id") == sheets[chosen] and "Target" in found:
            target = found["Target"].decode(errors="replace")
            return target.lstrip("/") if target.startswith("/") else f"{folder}/{target}", chosen
    raise ConfigError(f"{where}: the sheet {chosen!r} has no content", hint=_BROKEN)


def _text(raw: bytes) -> str:
    import html

    return html.unescape(raw.decode(errors="replace"))


def _tags(data: bytes, path: str, kind: bytes, where: str) -> Iterator[dict[str, bytes]]:
    """Yield the attributes of every element of a kind in one file of the archive."""
    for tag, attributes in _elements(data, path, where):
        if tag == kind:
            yield {key.decode(): one or two for key, one, two in _ATTRIBUTE.findall(attributes)}


def _elements(data: bytes, path: str, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield tag and attributes of the elements that `_TAG` names, without holding the file whole."""
    for part in _parts(data, path, where):
        yield from ((found[1], found[2]) for found in _TAG.finditer(part))


def _parts(data: bytes, path: str, where: str) -> Iterator[bytes]:
    """Yield one file of the archive in parts, each of which ends behind an element's tag."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size <= MOST_UNPACKED:
                with archive.open(path) as file:
                    yield from _in_chunks(file, where)
                return
    except _DAMAGED as error:
        raise _unreadable(where, error) from None
    raise ConfigError(f"{where} has {size} bytes unpacked: more than {MOST_UNPACKED}", hint=_BROKEN)


def _in_chunks(file: IO[bytes], where: str) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(_CHUNK):
        rest += chunk
        end = rest.rfind(b">") + 1
        yield rest[:end]
        rest = rest[end:]
        if len(rest) > _MOST_BETWEEN:
            raise ConfigError(f"{where} has a value of more than {_MOST_BETWEEN} bytes", hint=_BROKEN)


def _check_cells(data: bytes, path: str, where: str) -> None:
    """Raise ConfigError for a sheet with an error cell, or whose cells lie too far apart to be read."""
    wide = deep = column = 1
    for tag, attributes in _elements(data, path, where):
        place = _PLACE.search(attributes)
        letters, digits = place.groups() if place else (b"", b"")
        column = 0 if tag == b"row" else _column(letters) or column + 1  # a cell without a place is the next
        wide, deep = max(wide, column), max(deep, int(digits or 0))
        if wide * deep > MOST_CELLS:
            raise ConfigError(
                f"{where} reaches to row {deep} and column {wide}: more than {MOST_CELLS} cells",
                hint="delete the empty rows and columns behind the table",
            )
        if tag == b"c" and b't="e"' in attributes:
            raise ConfigError(
                f"{where}, cell {(letters + digits).decode()} holds an error, such as #N/A",
                hint="correct the cell, or empty it",
            )


def _check_shared(data: bytes, path: str, where: str) -> None:
    """Raise ConfigError when the shared texts of a sheet's cells are too long together."""
    lengths = _shared_lengths(data, where)
    total, refers = 0, False
    for part in _parts(data, path, where) if lengths else ():
        for found in _REFERENCE.finditer(part):
            if found[2] is None:
                refers = b't="s"' in found[1] or b"t='s'" in found[1]
            elif refers and int(found[2]) < len(lengths):
                total += lengths[int(found[2])]
        if total > MOST_SHARED:
            raise ConfigError(
                f"{where} has cells of more than {MOST_SHARED} bytes of text together",
                hint="split it into several files",
            )


def _shared_lengths(data: bytes, where: str) -> list[int]:
    """Return the bytes of each shared text, its elements included; [] without any."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith("sharedstrings.xml")]
    lengths: list[int] = []
    for part in (part for name in names[:1] for part in _parts(data, name, where)):
        starts = [found.start() for found in _SHARED_TEXT.finditer(part)]
        if lengths:
            lengths[-1] += starts[0] if starts else len(part)
        ends = [*starts[1:], len(part)]
        lengths += [end - start for start, end in zip(starts, ends, strict=False)]
    return lengths


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number
