"""Read documents as people have them: any format, front matter optional, tenants by folder or by name."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from workbench import config, files
from workbench.errors import ConfigError, NotFoundError
from workbench.retrieval import access_file, local_files, remote_files
from workbench.retrieval.access_file import AccessFile
from workbench.retrieval.formats import by_ending
from workbench.retrieval.formats.document import Document, UnreadableError
from workbench.retrieval.front_matter import check_some, check_tenant
from workbench.retrieval.local_files import FoundFile
from workbench.retrieval.page_names import PAGE, slug
from workbench.retrieval.reading import FOLDERS, LeftOut, Pages, SourceReading
from workbench.types import Page

#: The most characters of one source: the texts of all its documents are in memory at once.
MOST_CHARS = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A document's file, its tenant, and the name of its page or pages."""

    file: FoundFile
    tenant: str
    source: str


class Documents:
    """The documents of a source, read one at a time.

    `left_out` grows while `read` is iterated. An unreadable document stops it at the end, when all are
    known, unless the reading says `skip` and others can be read; a link to a folder counts as one.
    """

    def __init__(self, reading: SourceReading, placed: Sequence[Placed], rules: AccessFile) -> None:
        self.placed = placed
        self.left_out: list[LeftOut] = []
        self.links: list[LeftOut] = []
        self._reading, self._rules = reading, rules
        self._foreign: Counter[str] = Counter()

    def read(self) -> Iterator[list[Page]]:
        """Yield each document's pages in the order of the files' names, [] for one that is left out.

        ConfigError names the unreadable documents after the last one.
        """
        unreadable = list(self.links)
        for place in self.placed:
            try:
                yield self._pages_of(place)
            except UnreadableError as error:
                unreadable.append(LeftOut(path=place.file.where, reason=str(error)))
                yield []
        everything = len(unreadable) == len(self.placed) + len(self.links)
        if unreadable and (self._reading.unreadable == "stop" or everything):
            raise _stopped(unreadable, len(self.placed) + len(self.links))
        self.left_out = unreadable + self.left_out
        self.left_out += [
            LeftOut(path=f"front matter of {number} files", reason=f"the key {key!r} is not read")
            for key, number in sorted(self._foreign.items())
        ]

    def _pages_of(self, place: Placed) -> list[Page]:
        file = place.file
        data = file.read(by_ending.most_bytes(file.name))
        document = by_ending.parse(data, file.name, where=file.where)
        self._foreign.update(check_some(document.front, document.lines, file.where))
        check_tenant(document.front, place.tenant, document.lines, file.where)
        self._rules.check_agrees(file.name, document.front, file.where)
        rule = self._rules.of(file.name)
        stated = {**document.front, **rule}
        digest = _with_rule(files.digest(data), rule)
        if document.blank:
            numbers = ", ".join(map(str, document.blank[:10])) + " …" * (len(document.blank) > 10)
            self.left_out.append(LeftOut(path=f"{file.where}, page {numbers}", reason="no text layer"))
        return _made(place, document, stated, digest)


def open_source(reading: SourceReading, root: Path | None) -> Documents:
    """Find the documents of a source, without reading them.

    ConfigError for two documents with one name, a file in no tenant's folder, an access rule without a
    document; NotFoundError when there is no document.
    """
    found = _found(reading, root)
    rules = _rules(reading, root)
    links = [file for file in found if file.path is not None and file.path.is_dir()]
    found = [file for file in found if file not in links]
    documents = [file for file in found if by_ending.is_document(file.name)]
    others = Counter(by_ending.ending(file.name) or PurePath(file.name).name for file in found)
    for file in documents:
        others[by_ending.ending(file.name)] = 0
    if not documents:
        raise NotFoundError(
            f"there are no documents in {remote_files.shown(reading.uri)}",
            hint=f"documents end in {', '.join(by_ending.ENDINGS)}",
        )
    rules.check_used([file.name for file in documents])
    opened = Documents(reading, _placed(documents, reading), rules)
    opened.links = [LeftOut(path=file.where, reason="a link to a folder is not followed") for file in links]
    opened.left_out += [
        LeftOut(path=f"{number} × {kind}", reason="not a document")  # noqa: RUF001 - a count of files
        for kind, number in sorted(others.items())
        if number
    ]
    return opened


def load(reading: SourceReading, root: Path | None) -> Pages:
    """Return the pages of a source, with what was left out; a progress bar appears after a second."""
    from tqdm.auto import tqdm

    opened = open_source(reading, root)
    read = tqdm(opened.read(), total=len(opened.placed), desc="read", unit="doc", delay=1, leave=False)
    pages: list[Page] = []
    size = documents = 0
    for document in read:
        pages += document
        documents += bool(document)
        size += sum(len(page.text) for page in document)
        if size > MOST_CHARS:
            raise ConfigError(
                f"the documents of {remote_files.shown(reading.uri)} have over {MOST_CHARS:,} characters",
                hint="make a memory of each part: name a folder in it, or a pattern",
            )
    return Pages(pages, documents=documents, left_out=opened.left_out)


def digests(
    reading: SourceReading, tenant: str, root: Path | None, wanted: Collection[str] | None
) -> dict[str, str]:
    """Return the digests that a tenant's documents have now, by the name of the file's page.

    With `wanted` only of these pages. A source that cannot be read has none.
    """
    by_folder = reading.tenants == FOLDERS
    if not by_folder and reading.tenants != tenant:
        return {}
    try:
        top, pattern = local_files.place_of(reading.uri, root)
        single = top.is_file()
        if single and by_folder and top.resolve().parent.name != tenant:
            return {}
        names = [top.name] if single else local_files.names(top, pattern, of=tenant if by_folder else "")
        rules = _rules(reading, root)
    except (ConfigError, NotFoundError):  # `load` reports it
        return {}
    found = {}
    for name in filter(by_ending.is_document, names):
        source = slug(name.partition("/")[2] if by_folder and not single else name)
        if wanted is None or source in wanted:
            with contextlib.suppress(ConfigError, NotFoundError, OSError):
                found[source] = _with_rule(_digest_of(top if single else top / name), rules.of(name))
    return found


@files.until_changed
def _digest_of(path: Path) -> str:
    return files.digest(files.read_bytes(path, limit=by_ending.most_bytes(path.name)))


@files.until_changed
def _read_rules(path: Path) -> AccessFile:
    return access_file.read(path)


def _rules(reading: SourceReading, root: Path | None) -> AccessFile:
    if reading.access is None:
        return AccessFile(where="", rules={})
    return _read_rules(local_files.located(Path(reading.access), root))


def _with_rule(digest: str, rule: Mapping[str, Any]) -> str:
    """Return a document's digest, which a change of its access rule changes too."""
    if not rule:
        return digest
    return files.digest([digest, {key: _plain(value) for key, value in rule.items()}])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value


def _found(reading: SourceReading, root: Path | None) -> list[FoundFile]:
    """Return the files at the reading's place, which a URL names or a path."""
    if not remote_files.is_url(reading.uri):
        return local_files.find(reading.uri, root)
    path = remote_files.local_path(reading.uri)
    return remote_files.find(reading.uri) if path is None else local_files.find(str(path), root)


def _placed(found: Sequence[FoundFile], reading: SourceReading) -> list[Placed]:
    """Give each document its tenant and the name of its page; ConfigError when two have one name."""
    placed: dict[tuple[str, str], Placed] = {}
    for file in found:
        tenant, name = _tenant_of(file, reading)
        place = Placed(file=file, tenant=tenant, source=slug(name))
        other = placed.setdefault((tenant, place.source), place)
        if other is not place:
            raise ConfigError(
                f"{other.file.where} and {file.where} have the same page name {place.source!r}",
                hint="give one of them another file name",
            )
    return list(placed.values())


def _tenant_of(file: FoundFile, reading: SourceReading) -> tuple[str, str]:
    """Return a document's tenant, and its path below the tenant's folder."""
    if reading.tenants is not None and reading.tenants != FOLDERS:
        return reading.tenants, file.name
    folder, _, name = file.name.partition("/")
    if not name and file.path is not None and file.where == str(Path(reading.uri)):
        folder, name = file.path.resolve().parent.name, file.name  # the source is this file
    if not name:
        raise ConfigError(
            f"{file.where} lies in no tenant's folder",
            hint="move it to the folder of its tenant, or name one tenant for all: tenants: NAME",
        )
    config.check_tenant(folder, where=f"{file.where}: the folder ")
    return folder, name


def _made(place: Placed, document: Document, stated: Mapping[str, Any], digest: str) -> list[Page]:
    """Return one page for each part of a document; a part with a page number has it in source and title."""
    title = stated.get("title") or document.title or PurePath(place.file.name).stem
    valid_from, expires = stated.get("valid_from"), stated.get("expires")
    return [
        Page(
            source=place.source if part.page is None else f"{place.source}{PAGE}{part.page}",
            title=title if part.page is None else f"{title}, p. {part.page}",
            text=part.text, tenant=place.tenant, digest=digest, version=stated.get("version", 1),
            access=tuple(stated.get("access", ("everyone",))), classification=stated.get("classification", 0),
            subject=stated.get("subject", ""), owner=stated.get("owner", ""),
            valid_from=valid_from.isoformat() if valid_from else None,
            expires=expires.isoformat() if expires else None,
        )
        for part in document.parts
    ]  # fmt: skip


def _stopped(unreadable: Sequence[LeftOut], of: int) -> ConfigError:
    first = "; ".join(map(str, unreadable[:5])) + f"; and {len(unreadable) - 5} more" * (len(unreadable) > 5)
    return ConfigError(
        f"{len(unreadable)} of {of} documents cannot be read: {first}",
        hint="repair or remove them, or leave them out: unreadable: skip (wb.load: unreadable='skip')",
    )
