"""Read the documents, solved examples and questions that a new use case begins with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from workbench import config, files
from workbench.data import located
from workbench.data.questions import Kind, QuestionRows, read_questions, to_jsonl
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.matching import mentions
from workbench.files import tables
from workbench.retrieval import plain_documents
from workbench.retrieval.page_names import file_of, slug
from workbench.retrieval.reading import FOLDERS, SourceReading
from workbench.scaffold.order import InitOrder, suggested
from workbench.types import Page

Say = Callable[[str], None]
#: Above this many bytes of documents, the command says that git keeps each version of them.
LARGE = 50 << 20
_TENANT = frozenset({"tenant", "mandant"})
#: Recall is measured when so many questions have a page.
_LEAST_PAGES = 4
#: Notes on left-out files and on questions that name single ones.
_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocuments:
    """The documents of a new use case: each file with its name below the copied folder, and their pages.

    `tenants_from` is "folders", or the name of the only tenant. `left_out` names what was not read. Solved
    examples are `rows` instead of files.
    """

    label: str
    files: tuple[tuple[str, Path], ...] = field(default=(), repr=False)
    pages: tuple[Page, ...] = field(default=(), repr=False)
    rows: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    tenants_from: str
    left_out: tuple[str, ...] = ()

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the pages or rows, sorted."""
        return tuple(sorted({page.tenant for page in self.pages} | {row["tenant"] for row in self.rows}))

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(path.stat().st_size for _, path in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """The rows of a table of questions, each with id, tenant, input and expected values.

    `page` says that the rows name pages that have one of their accepted answers: `with_page` of them do, and
    the others have an empty list. `notes` tell of rows that
    were changed or are suspicious.
    """

    rows: tuple[dict[str, Any], ...] = field(repr=False)
    page: bool = False
    with_page: int = 0
    notes: tuple[str, ...] = ()

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the rows, sorted."""
        return tuple(sorted({row["tenant"] for row in self.rows}))

    def lines(self, keys: Sequence[str], *, most: int | None = None) -> bytes:
        """Return these keys of the rows as JSON lines, of at most `most` rows."""
        return to_jsonl([{key: row[key] for key in keys if key in row} for row in self.rows[:most]])


def tenants_from(order: InitOrder) -> str:
    """Return where the tenants come from: "folders", or the name of the only one.

    The questions decide: folders are tenants when the table has a column of tenants that are folders.
    """
    assert order.questions is not None  # noqa: S101 - `check` has been called
    with told_options():
        table = tables.read(order.questions)
    if order.tenant is not None:
        return order.tenant
    stated = order.columns.get("tenant")
    column = stated or next((name for name in table.columns if name.strip().casefold() in _TENANT), None)
    if column is None:
        return suggested(order.name)
    named = sorted({str(row.get(column)).strip() for row in table.rows if row.get(column)})
    if order.docs is None or order.docs.is_file() or all((order.docs / name).is_dir() for name in named):
        return FOLDERS
    if len(named) == 1:
        config.check_tenant(named[0], where=f"{table.path}: column {column!r}: ")
        return named[0]
    missing = [name for name in named if not (order.docs / name).is_dir()]
    config.check_tenant(missing[0], where=f"{table.path}: column {column!r}: ")
    raise ConfigError(
        f"{table.path} has questions of the tenants {', '.join(named)}, and {order.docs} has no folder "
        f"{missing[0]!r}",
        hint="put the documents of each tenant into a folder of its name, or use --tenant without the column",
    )


def documents(order: InitOrder, *, tenants: str, root: Path) -> SourceDocuments:
    """Return the documents of `--docs`; ConfigError names the unreadable ones."""
    from tqdm import tqdm

    assert order.docs is not None  # noqa: S101
    if not order.docs.exists():
        raise NotFoundError(f"--docs: there is nothing at {order.docs}", hint=f"ls -ld {order.docs.parent}")
    if root.resolve().is_relative_to(order.docs.resolve()):
        raise ConfigError(
            f"--docs: {order.docs} holds this repository, whose notebooks, cases and pages are no documents",
            hint=f"workbench init {order.name} --docs FOLDER   # of the documents alone",
        )
    access = None if order.access is None else str(order.access.resolve())
    reading = SourceReading(
        uri=str(order.docs.resolve()), tenants=tenants, access=access, unreadable=order.unreadable
    )
    opened = plain_documents.open_source(reading, root)
    kept, pages = [], []
    bar = tqdm(opened.read(), total=len(opened.placed), desc="read", unit="doc", delay=1, leave=False)
    with told_options():
        for place, found in zip(opened.placed, bar, strict=True):
            if found and place.file.path is not None:
                kept.append((place.file.name, place.file.path))
                pages += found
    if not pages:
        raise NotFoundError(f"--docs: no document of {order.docs} has a text", hint="ls -l the folder")
    return SourceDocuments(
        label=order.docs.resolve().name, files=tuple(kept), pages=tuple(pages), tenants_from=tenants,
        left_out=tuple(map(str, opened.left_out)),
    )  # fmt: skip


def examples(order: InitOrder, *, tenants: str) -> SourceDocuments:
    """Return the solved examples of `--docs`, a table of texts with their labels."""
    assert order.docs is not None  # noqa: S101
    if not order.docs.is_file():
        raise ConfigError(
            f"--docs: {order.docs} is no table of solved examples, which --kind classify remembers",
            hint=f"workbench init {order.name} --kind classify --docs SOLVED.csv --questions FILE",
        )
    with told_options():
        found = read_questions(order.docs, kind="classify", tenants=_only(tenants))
    return SourceDocuments(label=order.docs.name, rows=found.rows, tenants_from=tenants)


def cases(order: InitOrder, *, tenants: str, documents: SourceDocuments | None) -> Cases:
    """Return the questions of a table file; ConfigError names the line of an invalid row."""
    kind: Kind = next(kind for kind in get_args(Kind) if kind == order.kind)
    assert order.questions is not None  # noqa: S101
    allowed = _only(tenants) or (documents.tenants if documents is not None else ())
    with told_options():
        found = read_questions(order.questions, kind=kind, columns=order.columns, tenants=allowed)
    notes = [*_notes_on(found)]
    if kind == "extract":
        rows, more = _same_fields(found.rows)
        return Cases(rows=rows, notes=(*notes, *more))
    if kind != "answer" or documents is None:
        return Cases(rows=found.rows, notes=tuple(notes))
    return _located(found, documents.pages, notes)


def labels(rows: Sequence[Mapping[str, Any]], where: Path) -> list[str]:
    """Return the labels of rows, sorted; ConfigError for a label of several lines and for too many."""
    found = sorted({row["label"] for row in rows})
    for label in found:
        if not label.isprintable() or len(label) > 80:
            raise ConfigError(
                f"{where}: {files.shortened(label)!r} is no label of up to 80 characters on one line"
            )
    if not 2 <= len(found) <= 200:
        raise ConfigError(
            f"{where} has {len(found)} labels, and a closed set has 2 to 200",
            hint="workbench init --kind extract fills in open fields",
        )
    return found


@contextlib.contextmanager
def told_options() -> Iterator[None]:
    """Raise an error of the block with the command's options in place of a function's arguments."""
    try:
        yield
    except ConfigError as error:
        error.hint = re.sub(r"columns=\{'(\w+)': …\}", r"--column \1=NAME", error.hint)
        error.hint = error.hint.replace("tenants=['NAME']", "--tenant NAME")
        error.hint = re.sub(r"unreadable: skip \(wb\.load: .*?\)", "--unreadable skip", error.hint)
        if error.hint == ConfigError.otherwise:
            error.hint = "correct the file, then run the same command again"
        raise


def _only(tenants: str) -> tuple[str, ...]:
    return () if tenants == FOLDERS else (tenants,)


def _notes_on(found: QuestionRows) -> list[str]:
    notes = [f"suspicious: {item}" for item in found.suspicious[:_NAMED]]
    notes += [f"suspicious: {len(found.suspicious) - _NAMED} more"] * (len(found.suspicious) > _NAMED)
    if found.made_ids:
        notes.append("the questions have no ids: ids were made of tenant and text")
    if found.unused:
        notes.append(f"columns that are not read: {', '.join(found.unused)}")
    return notes


def _located(asked: QuestionRows, pages: Sequence[Page], notes: list[str]) -> Cases:
    """Return rows with the pages that answer them, or all without pages when too few of them have one."""
    texts = {(page.tenant, page.source): page.text for page in pages}
    rows = asked.rows
    found = located.locate([_with_sources(row, texts) for row in rows], texts)
    notes += found.notes(places=asked.places)
    if found.complete:
        return Cases(rows=found.rows, page=True, with_page=len(rows), notes=tuple(notes))
    without = len(found.unanswered) + len(found.several) + len(found.shared)
    why = f"{without} of {len(rows)} questions have no page of their own"
    unanswered, located_rows = found.unanswered, []
    for row in found.rows:
        page = row.get("page", []) if row["id"] not in unanswered else []
        located_rows.append({**row, "page": [page] if isinstance(page, str) else page})
    measured = len(rows) - without
    if measured < _LEAST_PAGES:
        notes.append(f"recall is not measured, because {why}")
        kept = tuple({key: value for key, value in row.items() if key != "page"} for row in found.rows)
        return Cases(rows=kept, notes=tuple(notes))
    notes.append(f"recall is measured on {measured} questions, because {why} (page: [])")
    return Cases(rows=tuple(located_rows), page=True, with_page=measured, notes=tuple(notes))


def _with_sources(row: dict[str, Any], texts: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return a row whose `page` has the names of pages: a file is named with or without folder and ending.

    Of a file of several pages, the pages that have an accepted answer are taken.
    """
    if "page" not in row:
        return row
    own = [source for tenant, source in texts if tenant == row["tenant"]]
    sources: list[str] = []
    for name in [row["page"]] if isinstance(row["page"], str) else row["page"]:
        named = [name] if name in own else [source for source in own if _names(name, file_of(source))]
        answering = [s for s in named if any(mentions(texts[row["tenant"], s], a) for a in row["answers"])]
        sources += answering or named[:1] or [name]
    return {**row, "page": sources[0] if len(sources) == 1 else sources}


def _names(name: str, file: str) -> bool:
    """Return whether a name stands for a file: its path, its last part, or either without the ending."""
    made = slug(name)
    stem = file.rpartition(".")[0] or file
    return made in {file, stem, file.rpartition("/")[2], stem.rpartition("/")[2]} or file.endswith(f"/{made}")


def _same_fields(rows: Sequence[dict[str, Any]]) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Return rows of which each has the same fields, as text and with names that Python takes."""
    named = {name: _identifier(name) for row in rows for name in row["fields"]}
    if len(set(named.values())) < len(named):
        raise ConfigError(
            f"two fields have one name in Python: {', '.join(sorted(named))}",
            hint="rename a column of the questions",
        )
    made = tuple(
        {**row, "fields": {new: str(row["fields"].get(old, "")) for old, new in named.items()}}
        for row in rows
    )
    renamed = [f"{old} is {new}" for old, new in named.items() if old != new]
    return made, [f"fields were renamed: {', '.join(renamed)}"] * bool(renamed)


def _identifier(name: str) -> str:
    """Return the name of a field as Python takes it."""
    import keyword

    made = suggested(name).replace("-", "_")
    return f"{made}_" if keyword.iskeyword(made) else made
