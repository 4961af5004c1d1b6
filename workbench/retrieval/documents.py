"""Read the documents of a source: strict pages, documents of any format, or Python's language reference."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError, NotFoundError
from workbench.retrieval import local_files, patterns, plain_documents, remote_files, rows, strict_pages
from workbench.retrieval.local_files import place_of
from workbench.retrieval.page_names import file_of
from workbench.retrieval.reading import FOLDERS, Pages, SourceReading, Unreadable
from workbench.types import Page

PYDOC = "pydoc:topics"


def load(
    uri: str | Path | SourceReading,
    *,
    root: Path | None = None,
    tenant: str | None = None,
    tenants: str | None = None,
    access: str | Path | None = None,
    unreadable: Unreadable = "stop",
    columns: rows.Columns | Mapping[str, str] | None = None,
) -> Pages:
    """Return the pages of a folder, a file, a pattern such as `docs/**/*.pdf`, or an fsspec URL.

    With `tenant`, or `tenants="folders"` for folders named after tenants, documents have any format and
    need no front matter; `access` is a file of access rules, and `unreadable="skip"` leaves unreadable
    documents out, named in `left_out` of the result. Without a tenant, pages are `<tenant>/<slug>.md` with
    full front matter. Of a table, each row is a page whose parts `columns` names: `{"text": "body", "id":
    "ticket", "tenant": "tenant"}`. A relative path is searched in the current folder, then in the repository.
    ConfigError names the file and line of an invalid page; NotFoundError when the path or its pages are
    missing.
    """
    reading = uri
    if not isinstance(reading, SourceReading):
        if tenant is not None and tenants is not None:
            raise ConfigError("tenant and tenants are both given", hint=f"wb.load({str(uri)!r}, tenant=…)")
        reading = SourceReading(
            uri=str(uri),
            tenants=tenants if tenant is None else tenant,
            access=None if access is None else str(access),
            unreadable=unreadable,
            columns=rows.columns_of(columns),
        )
    return read(reading, root)


def read(reading: SourceReading, root: Path | None) -> Pages:
    """Return the pages of a source, as `load` does."""
    reading.check()
    if reading.uri == PYDOC:
        if reading.tenants == FOLDERS:
            raise ConfigError(f"{PYDOC} has no folders", hint="tenants: NAME, or no tenants: python")
        return Pages(dataclasses.replace(page, tenant=reading.tenants or page.tenant) for page in _topics())
    reading = reading.anchored(root)
    if reading.columns is not None:
        return Pages(rows.load(_table(reading.uri, root), reading.columns, tenant=reading.tenants))
    if reading.tenants is not None:
        return plain_documents.load(reading, root)
    if remote_files.is_url(reading.uri):
        raise ConfigError(
            f"{remote_files.shown(reading.uri)} is read with the name of a tenant only",
            hint=f"wb.load({remote_files.shown(reading.uri)!r}, tenant=NAME)",
        )
    place, pattern = place_of(reading.uri, root)
    if pattern:
        found = local_files.find(reading.uri, root)
        return Pages(strict_pages.read_page(file.path) for file in found if file.path is not None)
    return Pages([strict_pages.read_page(place)] if place.is_file() else strict_pages.read_folder(place))


def _table(uri: str, root: Path | None) -> Path:
    """Return the path of a table file; ConfigError for a URL."""
    if remote_files.is_url(uri):
        hint = "download it, and name the file"
        raise ConfigError(f"{remote_files.shown(uri)} is a table, which is read from a file only", hint=hint)
    return local_files.located(Path(uri), root)


def digests_now(
    uri: str | SourceReading, *, tenant: str, root: Path | None = None, sources: Collection[str] | None = None
) -> dict[str, str]:
    """Return the current digests of a tenant's pages of `uri`, by source; only `sources` when given.

    Without `sources` the pages of one file are named as the file is. A file is read again only when its time,
    size or inode has changed.
    """
    reading = uri if isinstance(uri, SourceReading) else SourceReading(uri=uri)
    if reading.uri == PYDOC:
        return _topic_digests()
    place, access = str((root or Path()) / reading.uri), reading.access
    access = None if access is None else str((root or Path()) / access)
    if reading.columns is not None:
        return rows.digests_now(Path(place), reading.columns, tenant, one=reading.tenants, sources=sources)
    if reading.tenants is None:
        found = _strict_places(place, tenant, sources)
        return {path.stem: _digest_of(path) for path in reversed(found)}
    wanted = None if sources is None else {file_of(source) for source in sources}
    now = plain_documents.digests(
        dataclasses.replace(reading, uri=place, access=access), tenant, root, wanted
    )
    if sources is None:
        return now
    return {source: now[file_of(source)] for source in sources if file_of(source) in now}


def _strict_places(place: str, tenant: str, sources: Collection[str] | None) -> list[Path]:
    """Return the files of a tenant's strict pages, below a folder, as one file, or by a pattern."""
    if not patterns.is_pattern(place) or Path(place).exists():
        return strict_pages.places(Path(place), tenant, sources)
    try:
        found = [file.path for file in local_files.find(place, None) if file.path is not None]
    except (ConfigError, NotFoundError):  # `load` reports it
        return []
    return [path for path in found if strict_pages.places(path, tenant, sources)]


@files.until_changed
def _digest_of(path: Path) -> str:
    return files.digest(files.read_text(path).encode())


@functools.cache
def _topic_digests() -> dict[str, str]:
    return {page.source: page.digest for page in _topics()}


def _topics() -> list[Page]:
    """Return the language reference of this Python; it differs between minor versions."""
    from pydoc_data.topics import topics

    return [
        Page(
            source=topic,
            title=topic,
            text=text.strip(),
            tenant="python",
            digest=files.digest(text.encode()),
            version=sys.version_info.minor,
            owner="Python Software Foundation",
        )
        for topic, text in sorted(topics.items())
    ]
