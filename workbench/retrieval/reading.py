"""How a source is read: its place, its tenants, its access rules, and what it left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from workbench import config
from workbench.display import Card, Shown
from workbench.errors import ConfigError, nearest
from workbench.retrieval.rows import EXAMPLE, Columns, is_table
from workbench.types import Page

Unreadable = Literal["stop", "skip"]
#: The value of `tenants` for which a document's first folder names its tenant.
FOLDERS = "folders"
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReading:
    """The keys of a memory's spec about its source, and the arguments of `load`.

    Without `tenants` the source is a folder of `<tenant>/<slug>.md` with full front matter. With it, the
    source has documents of any format: `tenants` is "folders" or the name of one tenant, `access` a file of
    access rules, and `unreadable` says whether unreadable documents stop the reading. `columns` are those of
    a table, each of whose rows is a page. `declared` marks the source of a memory's spec, whose paths are
    relative to the repository.
    """

    uri: str
    tenants: str | None = None
    access: str | None = None
    unreadable: Unreadable = "stop"
    columns: Columns | None = None
    declared: bool = False

    def anchored(self, root: Path | None) -> SourceReading:
        """Return the reading with the paths of a memory's spec below `root`, whatever the current folder is.

        They stay relative in the repository's own folder, where errors name them as the spec does.
        """
        if not self.declared or root is None or _is_here(root):
            return self
        access = None if self.access is None else str(root / self.access)
        return dataclasses.replace(self, uri=str(root / self.uri), access=access)

    def check(self, where: str = "") -> None:
        """Raise ConfigError unless the values are valid together; `where` begins its message."""
        if self.unreadable not in get_args(Unreadable):
            found = f"{self.unreadable!r} ({nearest(str(self.unreadable), get_args(Unreadable))})"
            raise ConfigError(f"{where}unreadable must be stop or skip, found {found}")
        if is_table(self.uri) or self.columns is not None:
            self._check_table(where)
        elif self.tenants is None:
            given = [("access", self.access is not None), ("unreadable", self.unreadable != "stop")]
            for name in (name for name, is_given in given if is_given):
                raise ConfigError(
                    f"{where}{name} is for documents without full front matter, and goes with tenants",
                    hint="tenants: NAME, or tenants: folders",
                )
        elif self.tenants != FOLDERS:
            config.check_tenant(self.tenants, where=where)

    def _check_table(self, where: str) -> None:
        """Raise ConfigError unless a table, and it alone, has columns, and each row one tenant."""
        if self.columns is None:
            problem = f"{self.uri} is a table, and no columns say what its pages are"
            raise ConfigError(f"{where}{problem}", hint=EXAMPLE)
        if not is_table(self.uri):
            problem = f"columns is for a source that is a table, found {self.uri!r}"
            raise ConfigError(f"{where}{problem}", hint=EXAMPLE)
        if self.access is not None or self.unreadable != "stop":
            raise ConfigError(
                f"{where}access and unreadable are for documents, and {self.uri} is a table",
                hint="columns: {access: COLUMN, …}",
            )
        if self.tenants == FOLDERS or (self.tenants is None) == (self.columns.tenant is None):
            raise ConfigError(
                f"{where}a table has its tenants in a column, or one tenant, found tenants: {self.tenants} "
                f"and columns.tenant: {self.columns.tenant}",
                hint="tenants: NAME, or columns: {tenant: COLUMN, …}",
            )
        if self.tenants is not None:
            config.check_tenant(self.tenants, where=where)


def _is_here(root: Path) -> bool:
    try:
        return root.samefile(".")
    except OSError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What a reading did not read: a file or a kind of files, and the reason."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Pages(list[Page], Shown):
    """The pages of a source, and the number of `documents` that they are from.

    `left_out` names every file that was not read, with its reason.
    """

    def __init__(
        self, pages: Iterable[Page] = (), *, documents: int | None = None, left_out: Iterable[LeftOut] = ()
    ) -> None:
        super().__init__(pages)
        self.documents = len(self) if documents is None else documents
        self.left_out = tuple(left_out)

    def card(self) -> Card:
        """Return a card with the first pages, and what was left out."""
        rows = [(page.source, page.title, page.tenant, f"{len(page.text):,}") for page in self[:_SHOWN]]
        more = [f"… and {len(self) - _SHOWN:,} more pages"] * (len(self) > _SHOWN)
        title = f"{len(self):,} {'page' if len(self) == 1 else 'pages'}"
        head = ("source", "title", "tenant", "characters")
        return Card(title=title, head=head, rows=rows, notes=[*more, *told(self.left_out, most=_SHOWN)])


def told(left_out: Iterable[LeftOut | str], *, most: int = 1_000) -> list[str]:
    """Return the lines that name what was left out, at most `most` of them and the number of the others."""
    lines = [f"left out: {item}" for item in left_out]
    others = [f"left out: {len(lines) - most:,} more"] * (len(lines) > most)
    return lines[:most] + others
