"""Read a folder of tenants' pages: Markdown files with full front matter, each checked strictly."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.retrieval.front_matter import MINIMAL, check_full, check_tenant, line_of
from workbench.retrieval.local_files import MOST_DEPTH, check_link, entries
from workbench.types import Page

#: The endings of what people write; beside the tenants' folders they are pages in a wrong place.
_WRITTEN = frozenset(
    {".doc", ".docx", ".htm", ".html", ".markdown", ".md", ".odt", ".pdf", ".rst", ".rtf", ".txt"}
)
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
#: What else can be done with a document that is no such page.
AS_IS = (
    "or read documents as they are: wb.load(…, tenant=NAME), in a memory's spec `tenants: NAME` or `folders`"
)


def read_folder(path: Path) -> list[Page]:
    """Return the pages of a folder of `<tenant>/<slug>.md`; NotFoundError when it has none.

    ConfigError names the file and line of an invalid page, and a document in no tenant's folder.
    """
    found = entries(path)
    stray = [entry for entry in found if entry.suffix.lower() in _WRITTEN and not entry.is_dir()]
    if stray:
        hint = f"mv {stray[0]} {path}/TENANT/   # {AS_IS}"
        raise ConfigError(f"{stray[0]} lies in no tenant's folder", hint=hint)
    for entry in found:
        check_link(entry, path)
    folders = [entry for entry in found if entry.is_dir()]
    pages = [page for folder in folders for page in _tenant_pages(folder, path)]
    if not pages:
        hint = f"put them into {path}/TENANT/NAME.md, each beginning:\n{MINIMAL}"
        raise NotFoundError(f"there are no pages in {path}", hint=hint)
    return pages


def read_page(path: Path) -> Page:
    """Return the page in one file, whose tenant is the file's folder."""
    return _page(path, path.parent.name)[0]


def places(place: Path, tenant: str, sources: Collection[str] | None) -> list[Path]:
    """Return the files of a tenant's pages, below a folder of tenants or as one page's own file."""
    if place.is_file():
        fits = place.parent.name == tenant and place.suffix == ".md"
        return [place] if fits and (sources is None or place.stem in sources) else []
    return _files(place / tenant, None if sources is None else {f"{source}.md" for source in sources})


def _all_files(folder: Path, top: Path, depth: int = 0) -> list[Path]:
    """Return every file at any depth without hidden ones; ConfigError for a link that leaves `top`."""
    if depth > MOST_DEPTH:
        raise ConfigError(f"{files.shortened(str(folder))} is deeper than {MOST_DEPTH} folders")
    found: list[Path] = []
    for entry in entries(folder):
        check_link(entry, top)
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
            if entry.is_dir(follow_symlinks=False) and depth < MOST_DEPTH:
                folders.append((Path(entry.path), depth + 1))
            elif not entry.is_dir() and (
                entry.name.endswith(".md") if names is None else entry.name in names
            ):
                found.append(Path(entry.path))
    return sorted(found)


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
            line = line_of("replaces", files.read_text(path).split("\n"))
            what = "itself" if slug == path.stem else "no page"
            raise ConfigError(f"{path}:{line}: replaces {slug!r}, which is {what} ({nearest(slug, pages)})")
    return list(pages.values())


def _page(path: Path, tenant: str) -> tuple[Page, str | None]:
    """Read one page, and the slug of the page it replaces."""
    if path.suffix != ".md" or not _SLUG.fullmatch(path.stem):
        hint = f"name a page with a-z, 0-9 and -, ending in .md; {AS_IS}"
        raise ConfigError(f"{path} is not a page", hint=hint)
    text = files.read_text(path)
    lines = text.split("\n")
    if lines[0].rstrip() != "---" or "---" not in (line.rstrip() for line in lines[1:]):
        raise ConfigError(
            f"{path}:1: a page begins with front matter", hint=f"put this on top, {AS_IS}:\n{MINIMAL}"
        )
    end = [line.rstrip() for line in lines].index("---", 1)
    front = files.parse_yaml("\n".join(["", *lines[1:end]]) + "\n", where=str(path))
    check_full(front, lines[: end + 1], path)
    check_tenant(front, tenant, lines, path)
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
