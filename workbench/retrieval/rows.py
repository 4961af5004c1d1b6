"""Read the rows of a table file as pages: one page for each row, such as a solved ticket."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import config, files, identity
from workbench.errors import ConfigError, NotFoundError
from workbench.files import tables
from workbench.types import MOST_CLASSIFIED, Page

#: The endings of tables; a `.txt` file is a document.
SUFFIXES = frozenset(tables.SUFFIXES) - {".txt"}
#: How a memory's spec names columns.
EXAMPLE = "columns: {text: text, title: label, id: id, tenant: tenant}"
_MOST_ID = 200
_PERSONAL = identity.personal("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a table that make a page of each row; `columns` of a memory's spec.

    `id` becomes the page's source. A column that is not named has the value of a page without that key.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    text: str
    id: str
    tenant: str | None = None
    title: str | None = None
    subject: str | None = None
    access: str | None = None
    classification: str | None = None
    valid_from: str | None = None
    expires: str | None = None

    def named(self) -> dict[str, str]:
        """Return the column of each field that has one."""
        given = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: column for name, column in given.items() if column is not None}


def is_table(uri: str | Path) -> bool:
    """Return whether a source is a table file, by its ending."""
    return Path(uri).suffix.lower() in SUFFIXES


def columns_of(given: Columns | Mapping[str, str] | None) -> Columns | None:
    """Return the columns that a mapping names; ConfigError for an unknown or a missing key."""
    if given is None or isinstance(given, Columns):
        return given
    return files.parse(Columns, dict(given), where="columns", hint=EXAMPLE)


def load(path: Path, columns: Columns, *, tenant: str | None = None) -> list[Page]:
    """Return one page for each row of a table file; `tenant` is the tenant of a table without that column.

    ConfigError names the line or row of an invalid value and of an id that a tenant has twice.
    """
    table = tables.read(path)
    table.check_columns(columns.named().values())
    pages: list[Page] = []
    places: dict[tuple[str, str], str] = {}
    for position, row in enumerate(table.rows):
        where = table.where(position)
        page = _page(row, columns, tenant, where)
        first = places.setdefault((page.tenant, page.source), where)
        if first != where:
            raise ConfigError(
                f"{where}: {page.tenant!r} has a row {files.shortened(page.source)!r} already, {first}",
                hint="give one of them another id",
            )
        pages.append(page)
    return pages


def digests_now(
    path: Path, columns: Columns, tenant: str, *, one: str | None, sources: Collection[str] | None
) -> dict[str, str]:
    """Return the current digests of a tenant's rows, by id; only of `sources` when given.

    `one` is the only tenant of a table without that column. The file is read again only when its time, size
    or inode has changed. Without a file there are no digests.
    """
    try:
        found = _reader(columns, one)(path).get(tenant, {})
    except NotFoundError:  # `load` reports it
        return {}
    return dict(found) if sources is None else {key: found[key] for key in sources if key in found}


@functools.lru_cache(maxsize=100)
def _reader(columns: Columns, tenant: str | None) -> Callable[[Path], dict[str, dict[str, str]]]:
    """Return a function that reads the digests of a table by tenant and id, and keeps them."""

    @files.until_changed
    def read(path: Path) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for page in load(path, columns, tenant=tenant):
            found.setdefault(page.tenant, {})[page.source] = page.digest
        return found

    return read


def _page(row: Mapping[str, Any], columns: Columns, tenant: str | None, where: str) -> Page:
    values: dict[str, Any] = {} if tenant is None else {"tenant": tenant}
    for name, column in columns.named().items():
        try:
            values[name] = _READ[name](row.get(column))
        except ValueError as error:
            raise ConfigError(
                f"{where}: {column!r} {error}", hint="correct the row, or name another column in columns"
            ) from None
    config.check_tenant(values["tenant"], where=f"{where}: ")
    valid_from, expires = values.get("valid_from"), values.get("expires")
    if valid_from and expires and expires <= valid_from:
        raise ConfigError(f"{where}: the row expires before it is valid", hint="correct one of the days")
    source = values.pop("id")
    return Page(source=source, digest=files.digest(values), **{"title": "", **values})


def _text(value: Any) -> str:
    """Return a text or a whole number as text; ValueError, which follows the column's name, otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    empty = value is None or isinstance(value, str)
    raise ValueError("is missing or empty" if empty else f"must be a text, found {type(value).__name__}")


def _id(value: Any) -> str:
    text = _text(value)
    if len(text) > _MOST_ID or not text.isprintable():
        raise ValueError(f"must be an id of at most {_MOST_ID} printable characters")
    return text


def _subject(value: Any) -> str:
    return "" if value in (None, "") else _text(value)


def _access(value: Any) -> tuple[str, ...]:
    """Return the groups of a list, or of a text with `|` between them."""
    groups = [part.strip() for part in value.split("|")] if isinstance(value, str) else value
    fits = isinstance(groups, list) and groups and all(
        isinstance(group, str) and group.strip() == group != "" and not group.startswith(_PERSONAL)
        for group in groups
    )  # fmt: skip
    if not fits:
        raise ValueError("must name groups, as everyone or sales|support, and no single principal")
    return tuple(groups)


def _level(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) == 1:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_CLASSIFIED:
        raise ValueError(f"must be a whole number from 0 to {MOST_CLASSIFIED}")
    return value


def _day(value: Any) -> str | None:
    if value in (None, ""):
        return None
    if isinstance(value, dt.datetime):
        value = value.date() if value.time() == dt.time() else value
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    try:
        return dt.date.fromisoformat(value).isoformat() if len(value) == 10 else _no_day()
    except (TypeError, ValueError):
        return _no_day()


def _no_day() -> str:
    raise ValueError("must be a day, as YYYY-MM-DD, or empty")


_READ: Mapping[str, Callable[[Any], Any]] = {
    "text": _text,
    "id": _id,
    "tenant": _text,
    "title": _text,
    "subject": _subject,
    "access": _access,
    "classification": _level,
    "valid_from": _day,
    "expires": _day,
}
