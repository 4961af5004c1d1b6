"""Read pages strictly: a folder of Markdown files, or Python's own language reference."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from workbench import config, files, identity
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.retrieval import rows
from workbench.types import MOST_CLASSIFIED, Page

PYDOC = "pydoc:topics"
#: The minimal front matter of a page.
MINIMAL = """---
title: Travel expenses
tenant: acme
version: 1
access: [everyone]
valid_from: 2025-01-01
expires: null
owner: head of finance
synthetic: false
author: your name
generator_version: 1
seed: 0
---"""
#: The endings of what people write; beside the tenants' folders they are pages in a wrong place.
_WRITTEN = frozenset(
    {".doc", ".docx", ".htm", ".html", ".markdown", ".md", ".odt", ".pdf", ".rst", ".rtf", ".txt"}
)
#: Folders in folders below a tenant's folder.
_MOST_DEPTH = 100
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
#: A file of a DVC cache, to which DVC may link a tracked page.
_CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")
#: The prefix of an access entry for one principal; a page names groups only.
_PERSONAL = identity.personal("")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MOST_CLASSIFIED


def _is_day(value: Any) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)


def _is_groups(value: Any) -> bool:
    return isinstance(value, list) and all(
        _is_text(group) and group == group.strip() and not group.startswith(_PERSONAL) for group in value
    )


#: The type of each front matter key, in words and as a test.
_KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "title": ("a text", _is_text),
    "tenant": ("a text", _is_text),
    "version": ("a whole number", _is_number),
    "access": ("a list of groups, such as [everyone], and of no single principal", _is_groups),
    "valid_from": ("a day, as YYYY-MM-DD", _is_day),
    "expires": ("a day, as YYYY-MM-DD, or null", lambda value: value is None or _is_day(value)),
    "owner": ("a text", _is_text),
    "synthetic": ("true or false", lambda value: isinstance(value, bool)),
    "author": ("a text", _is_text),
    "generator_version": ("a whole number", _is_number),
    "seed": ("a whole number", _is_number),
    "replaces": ("the name of another page", _is_text),
    "classification": (f"a whole number from 0 to {MOST_CLASSIFIED}", _is_level),
    "subject": ("a text: whom the page is about", _is_text),
}
_OPTIONAL = {"replaces", "classification", "subject"}


def load(
    uri: str | Path, *, root: Path | None = None, columns: rows.Columns | Mapping[str, str] | None = None
) -> list[Page]:
    """Return the pages of a folder of `<tenant>/<slug>.md`, of one such file, or of `pydoc:topics`.

    Of a table file, `columns` names the columns that make a page of each row. A relative path is searched in
    the current folder, then in the repository. ConfigError names the file and line of an invalid page;
    NotFoundError when the path or its pages are missing.
    """
    if str(uri) == PYDOC:
        return _topics()
    path = _found(Path(uri), root)
    if rows.is_table(path):
        return rows.load(path, columns)
    if path.is_file():
        return [_page(path, path.parent.name)[0]]
    entries = _entries(path)
    stray = [entry for entry in entries if entry.suffix.lower() in _WRITTEN and not entry.is_dir()]
    if stray:
        raise ConfigError(f"{stray[0]} lies in no tenant's folder", hint=f"mv {stray[0]} {path}/TENANT/")
    for entry in entries:
        _check_link(entry, path)
    folders = [entry for entry in entries if entry.is_dir()]
    pages = [page for folder in folders for page in _tenant_pages(folder, path)]
    if not pages:
        hint = f"put them into {path}/TENANT/NAME.md, each beginning:\n{MINIMAL}"
        raise NotFoundError(f"there are no pages in {path}", hint=hint)
    return pages


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder without hidden ones, in order; ConfigError when it is unreadable."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> ConfigError:
    return ConfigError(f"cannot read {error.filename}: {error.strerror}", hint=f"ls -ld {error.filename}")


def _check_link(path: Path, top: Path) -> None:
    """Raise ConfigError for a link to a folder, to nothing, or to a file outside of the folder `top`."""
    if not path.is_symlink():
        return
    target, hint = path.readlink(), f"ls -l {path}   # replace the link by the file itself"
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: it leads to itself
        hint = f"dvc checkout, or rm {path}"
        raise ConfigError(f"{path} is a link to {target}, which leads nowhere", hint=hint) from None
    if real.is_dir():
        raise ConfigError(f"{path} is a link to the folder {target}; pages are not searched there", hint=hint)
    if not real.is_relative_to(top.resolve()) and not _CACHED.fullmatch(real.as_posix()):
        raise ConfigError(f"{path} is a link to {target}, which is outside of {top}", hint=hint)


def digests_now(
    uri: str,
    *,
    tenant: str,
    root: Path | None = None,
    sources: Collection[str] | None = None,
    columns: rows.Columns | None = None,
) -> dict[str, str]:
    """Return the current digests of a tenant's pages of `uri`, by source; only `sources` when given.

    A file is read again only when its time, size or inode has changed.
    """
    if uri == PYDOC:
        return _topic_digests()
    if rows.is_table(uri):
        return rows.digests_now((root or Path()) / uri, columns, tenant=tenant, sources=sources)
    return {path.stem: _digest_of(path) for path in reversed(_places(uri, tenant, root, sources))}


@files.until_changed
def _digest_of(path: Path) -> str:
    return files.digest(files.read_text(path).encode())


def _places(uri: str, tenant: str, root: Path | None, sources: Collection[str] | None) -> list[Path]:
    """Return the files of a tenant's pages, below a folder of tenants or as one page's own file."""
    place = (root or Path()) / uri
    if place.is_file():
        fits = place.parent.name == tenant and place.suffix == ".md"
        return [place] if fits and (sources is None or place.stem in sources) else []
    return _files(place / tenant, None if sources is None else {f"{source}.md" for source in sources})


def _all_files(folder: Path, top: Path, depth: int = 0) -> list[Path]:
    """Return every file at any depth without hidden ones; ConfigError for a link that leaves `top`."""
    if depth > _MOST_DEPTH:
        raise ConfigError(f"{files.shortened(str(folder))} is deeper than {_MOST_DEPTH} folders")
    found: list[Path] = []
    for entry in _entries(folder):
        _check_link(entry, top)
        found += _all_files(entry, top, depth + 1) if entry.is_dir() else [entry]
    return sorted(found)


def _files(folder: Path, names: Collection[str] | None) -> list[Path]:
    """Return the pages at any depth, or those of these names, without hidden ones, in order."""
    found, folders = [], [(folder, 0)]
    while folders:
        parent, depth = folders.pop()
        try:
            entries = [entry for entry in os.scandir(parent) if not entry.name.startswith(".")]
        except OSError:  # `load` reports it
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and depth < _MOST_DEPTH:
                folders.append((Path(entry.path), depth + 1))
            elif not entry.is_dir() and (
                entry.name.endswith(".md") if names is None else entry.name in names
            ):
                found.append(Path(entry.path))
    return sorted(found)


def _found(path: Path, root: Path | None) -> Path:
    try:
        root = root or config.find_root()
    except NotFoundError:
        root = Path()
    for place in (path, root / path):
        try:
            if place.exists():
                return place
        except OSError as error:
            raise ConfigError(f"cannot read {files.shortened(str(path))}: {error.strerror}") from None
        if place.is_symlink():
            _check_link(place, place.parent)
    near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise NotFoundError(
        f"there is nothing at {path} ({nearest(str(path), [*near, PYDOC])})", hint=f"ls {path.parent}"
    )


def _tenant_pages(folder: Path, top: Path) -> list[Page]:
    pages: dict[str, Page] = {}
    places: dict[str, Path] = {}
    replaced: dict[Path, str] = {}
    for path in _all_files(folder, top):
        page, replaces = _page(path, folder.name)
        if page.source in places:
            raise ConfigError(
                f"{path}:1: {folder.name!r} has a page {page.source!r} already, {places[page.source]}",
                hint="give one of them another file name",
            )
        pages[page.source], places[page.source] = page, path
        if replaces is not None:
            replaced[path] = replaces
    for path, slug in replaced.items():
        if slug not in pages or slug == path.stem:
            line = _line_of("replaces", files.read_text(path).split("\n"))
            what = "itself" if slug == path.stem else "no page"
            raise ConfigError(f"{path}:{line}: replaces {slug!r}, which is {what} ({nearest(slug, pages)})")
    return list(pages.values())


def _page(path: Path, tenant: str) -> tuple[Page, str | None]:
    """Read one page, and the slug of the page it replaces."""
    if path.suffix != ".md" or not _SLUG.fullmatch(path.stem):
        hint = "name a page with a-z, 0-9 and -, ending in .md; move other files elsewhere"
        raise ConfigError(f"{path} is not a page", hint=hint)
    text = files.read_text(path)
    lines = text.split("\n")
    if lines[0].rstrip() != "---" or "---" not in (line.rstrip() for line in lines[1:]):
        raise ConfigError(f"{path}:1: a page begins with front matter", hint=f"put this on top:\n{MINIMAL}")
    end = [line.rstrip() for line in lines].index("---", 1)
    front = files.parse_yaml("\n".join(["", *lines[1:end]]) + "\n", where=str(path))
    _check(front, lines[: end + 1], path)
    if front["tenant"] != tenant:
        line = _line_of("tenant", lines)
        raise ConfigError(
            f"{path}:{line}: tenant is {front['tenant']!r}, but the file is in the folder of {tenant!r}",
            hint="move the file to the folder of its tenant, or correct the line",
        )
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        raise ConfigError(f"{path}:{end + 2}: the page has no text")
    expires = front["expires"]
    page = Page(
        source=path.stem, title=front["title"], text=body, tenant=tenant, digest=files.digest(text.encode()),
        version=front["version"], access=tuple(front["access"]), valid_from=front["valid_from"].isoformat(),
        classification=front.get("classification", 0), subject=front.get("subject", ""),
        expires=expires.isoformat() if expires else None, owner=front["owner"],
    )  # fmt: skip
    return page, front.get("replaces")


def _check(front: Mapping[str, Any], lines: list[str], path: Path) -> None:
    for key, value in front.items():
        where = f"{path}:{_line_of(str(key), lines)}"
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r} ({nearest(str(key), _KEYS)})")
        words, fits = _KEYS[key]
        if not fits(value):
            raise ConfigError(f"{where}: {key} must be {words}, found {value!r}")
    missing = [key for key in _KEYS if key not in front and key not in _OPTIONAL]
    if missing:
        hint = f"a full example:\n{MINIMAL}"
        raise ConfigError(f"{path}:{len(lines)}: missing key {missing[0]!r}", hint=hint)
    if front["expires"] is not None and front["expires"] <= front["valid_from"]:
        raise ConfigError(f"{path}:{_line_of('expires', lines)}: the page expires before it is valid")


def _line_of(key: str, lines: list[str]) -> int:
    pattern = re.compile(rf"""["']?{re.escape(key)}["']?\s*:""")
    return next((number for number, line in enumerate(lines, start=1) if pattern.match(line)), 1)


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
