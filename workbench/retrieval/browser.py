"""The browser of a memory: search it, list what a search could find, read a passage, compare versions.

It asks the memory through the same calls as `search`, `versions` and `diff`, so that it shows nothing that a
search could not find: no other number, title or name either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

from workbench import _sync, arguments
from workbench.display import Card
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.identity import Principal
from workbench.ports import MemoryVersion
from workbench.retrieval import browser_view, listing, maintenance, source_changes
from workbench.retrieval.binding import Binding
from workbench.retrieval.browser_view import Asked, Listed
from workbench.retrieval.diff import Differences
from workbench.retrieval.hits import Hits
from workbench.retrieval.port import Governed
from workbench.retrieval.search import find
from workbench.retrieval.source_changes import CHANGES, SourceChanges
from workbench.types import ItemKind
from workbench.widgets.nodes import Node
from workbench.widgets.panel import Panel
from workbench.widgets.table import PAGE


def _entering(name: str) -> Callable[[MemoryBrowser, Any], None]:
    """Return the action of a field that holds the part `name` of what is asked."""

    def enter(browser: MemoryBrowser, text: Any) -> None:
        browser._enter(name, text)  # noqa: SLF001 - an action of the class below

    return enter


class MemoryBrowser(Panel):
    """A panel over one memory, for one tenant. `hits` are those of the last search.

    It searches as the caller; `act_as` narrows the caller's rights, and never widens them.
    """

    _question: str
    _hits: Hits | None
    _listed: Listed | None
    _opened: int | None
    _difference: Differences | None
    _compared: tuple[int, int] | None
    _changes: SourceChanges | None
    _drawn_changes: Sequence[Node]

    def __init__(self, binding: Binding) -> None:
        self._own = self._acting = binding
        version = "" if binding.version is None else str(binding.version)
        self.asked = Asked(version=version)
        self._forget_shown()
        self._versions: list[MemoryVersion] = []

    @property
    def principal(self) -> Principal:
        """Whom the browser searches as."""
        return self._acting.context.principal

    @property
    def hits(self) -> Hits | None:
        """The passages of the last search; None before the first one."""
        return self._hits

    # -- what a program calls ----------------------------------------------------------------

    async def _search(
        self,
        text: str,
        *,
        k: int = 5,
        as_of: str | None = None,
        version: int | None = None,
        sources: Sequence[str] = (),
        kinds: Sequence[ItemKind] = (),
    ) -> Hits:
        """Search as `ws.memory(…).search` does, and show the passages."""
        given: dict[str, Any] = {"as_of": as_of, "version": version, "sources": sources, "kinds": kinds}
        found = await find(self._acting, text, k=k, **given)
        self.asked = Asked.of(text, k=k, **given)
        self._hits, self._question, self._opened, self._listed = found, text, None, None
        self.refresh()
        return found

    search, search_async = _sync.twins(_search)

    async def _list_page(self, first: int = 0) -> Listed:
        """Show a page of the passages that a search with the present filters could find.

        The page begins at the passage `first`, counted from 0 in the order of sources.
        """
        first = arguments.whole_number(first, "first", least=0)
        filters = self.asked.filters()
        found = await listing.findable(self._acting, **filters)
        first = min(first, max(0, len(found) - 1) // PAGE * PAGE)
        # Vectors and what is on other pages are not kept.
        rows = tuple(dataclasses.replace(item, vector=()) for item in found[first : first + PAGE])
        day = listing.day_of(self._acting, filters["as_of"])
        self._listed = Listed(as_of=day, rows=rows, first=first, total=len(found))
        self._opened, self._question = None, ""
        self.refresh()
        return self._listed

    list_page, list_page_async = _sync.twins(_list_page)

    async def _list_versions(self) -> list[MemoryVersion]:
        """Show the versions that are kept, oldest first, as `ws.memory(…).versions` returns them."""
        self._versions = await Governed(binding=self._acting).versions()
        self.refresh()
        return self._versions

    list_versions, list_versions_async = _sync.twins(_list_versions)

    async def _compare(self, before: int, after: int) -> Differences:
        """Show which sources differ between two versions, of those that the principal may see."""
        before, after = (arguments.whole_number(number, "version", least=1) for number in (before, after))
        # Of an admin's hidden sources `diff` counts how many there are; a search does not tell that.
        self._difference = await maintenance.diff(self._acting, before, after, count_hidden=False)
        self._compared = before, after
        self._show_changes(None)
        self.refresh()
        return self._difference

    compare, compare_async = _sync.twins(_compare)

    async def _compare_source(
        self, source: str, before: int | None = None, after: int | None = None
    ) -> SourceChanges:
        """Show what changed in a source between two versions, by word; without numbers, those compared last.

        It asks the memory again, so that what was forgotten meanwhile is not shown.
        """
        numbers = self._compared if before is None and after is None else (before, after)
        if numbers is None:
            raise ConfigError("no two versions are named", hint=f"browser.compare_source({source!r}, 1, 2)")
        older, newer = (arguments.whole_number(number, "version", least=1) for number in numbers)
        found = await source_changes.changes_of(self._acting, source, older, newer)
        self._show_changes(found)
        self.refresh()
        return found

    compare_source, compare_source_async = _sync.twins(_compare_source)

    def act_as(self, *, groups: Sequence[str] | None = None, clearance: int | None = None) -> Principal:
        """Search with fewer groups or a lower clearance from now on; None means all that the caller has.

        RefusedError for rights that the caller has not, as `ws.bind(principal=…)` raises it.
        """
        own = self._own.context.principal
        chosen = own if groups is None else dataclasses.replace(own, groups=arguments.texts(groups, "groups"))
        if clearance is not None:
            level = arguments.whole_number(clearance, "clearance", least=0)
            chosen = dataclasses.replace(chosen, clearance=level)
        if chosen == own:
            self._acting = self._own
        elif self._own.narrowed is None:
            raise ConfigError(
                "this handle cannot narrow its principal", hint='get it from a workspace: ws.memory("NAME")'
            )
        else:
            self._acting = self._own.narrowed(dataclasses.replace(chosen, admin=False))
        self._forget_shown()  # what was found with other rights
        self.refresh()
        return self.principal

    def open(self, number: int | None) -> None:
        """Show the whole text of a passage by its number, from 1, in the hits or the list; None closes it."""
        if number is not None:
            shown = self._shown()
            number = arguments.whole_number(number, "number", least=1)
            if number > len(shown):
                raise NotFoundError(
                    f"there is no passage {number}: {len(shown)} are shown", hint="browser.search('…')"
                )
        self._opened = number
        self.refresh()

    # -- what a person does ------------------------------------------------------------------

    on_question, on_k, on_as_of = _entering("text"), _entering("k"), _entering("as_of")
    on_version, on_sources = _entering("version"), _entering("sources")
    on_before, on_after = _entering("before"), _entering("after")

    def on_kind(self, kind: Any) -> None:
        """Enter the kind of item; an empty text is all."""
        if kind and kind not in get_args(ItemKind):
            raise ConfigError(f"there is no kind {kind!r} ({nearest(str(kind), get_args(ItemKind))})")
        self._enter("kind", kind)

    def on_search(self, _: Any) -> None:
        """Search for what is entered."""
        self.search(self.asked.text, k=self.asked.number(), **self.asked.filters())

    def on_list(self, first: Any) -> None:
        """List the page that begins at a passage."""
        self.list_page(first or 0)

    def on_open(self, number: Any) -> None:
        """Open a passage, or close it."""
        self.open(number)

    def on_versions(self, _: Any) -> None:
        """Show the versions."""
        self.list_versions()

    def on_compare(self, _: Any) -> None:
        """Compare the versions that are chosen."""
        self.compare(*self.asked.compared(self._versions))

    def on_source(self, source: str) -> None:
        """Show by word what changed in a source of the compared versions."""
        self.compare_source(source)

    def on_changes(self, first: int) -> None:
        """Show the page of changes that begins at one of them, from 0."""
        number = arguments.whole_number(first, "first", least=0)
        self._show_changes(self._changes, number)

    def on_group(self, name: Any) -> None:
        """Keep one of the caller's groups, or all for an empty name."""
        own = self._own.context.principal.groups
        if name and name not in own:
            raise ConfigError(f"you are not in the group {name!r}", hint=f"your groups: {', '.join(own)}")
        groups = [name] if name else None
        self.act_as(groups=groups, clearance=self.principal.clearance)

    def on_clearance(self, level: Any) -> None:
        """Take a clearance up to the caller's."""
        if not (isinstance(level, str) and level.isascii() and level.isdigit() and len(level) < 9):
            raise ConfigError(f"the clearance is {level!r}, not a whole number")
        acting, own = self.principal.groups, self._own.context.principal.groups
        self.act_as(groups=None if acting == own else acting, clearance=int(level))

    def _enter(self, name: str, text: Any) -> None:
        self.asked = dataclasses.replace(self.asked, **{name: arguments.text(text, name)})

    # -- showing -----------------------------------------------------------------------------

    def view(self) -> Node:
        """Return the form, the passages, the opened one, and the versions."""
        shown, number = self._shown(), self._opened or 0
        state = browser_view.BrowserState(
            binding=self._acting,
            own=self._own.context.principal,
            asked=self.asked,
            question=self._question,
            hits=self._hits,
            listed=self._listed,
            opened=shown[number - 1] if number else None,
            number=number,
            shown=len(shown),
            versions=tuple(self._versions),
            difference=self._difference,
            compared=self._compared,
            changes=self._drawn_changes,
        )
        return browser_view.drawn(state)

    def card_html(self) -> str:
        """Return the last passages as a card, or what the memory is and how to search it."""
        if self._hits is not None:
            return self._hits.card().html()
        spec = self._own.spec
        return Card(
            title=f"memory {spec}, tenant {self._own.tenant}",
            head=("what", "value"),
            rows=[("embedding", spec.embedding), ("search", browser_view.searched_by(spec))],
            command=browser_view.call(self._own, 'search("…", k=5)'),
        ).html()

    def _shown(self) -> Sequence[Any]:
        if self._listed is not None:
            return self._listed.rows
        return self._hits or ()

    def _forget_shown(self) -> None:
        self._question = ""
        self._hits = self._listed = self._opened = self._difference = self._compared = None
        self._show_changes(None)

    def _show_changes(self, found: SourceChanges | None, first: int = 0) -> None:
        """Draw a page of changes once: to mark words takes longer than the other parts of a view."""
        self._changes = found
        last = max(0, len(found.texts) - 1) // CHANGES * CHANGES if found else 0
        self._drawn_changes = source_changes.drawn_changes(found, min(first, last)) if found else ()
