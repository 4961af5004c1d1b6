"""What the browser of a memory shows: the form of a search, passages with their facts, versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.ports import MemoryVersion
from workbench.retrieval.binding import Binding
from workbench.retrieval.diff import Differences
from workbench.retrieval.hits import Hits
from workbench.retrieval.listing import day_of
from workbench.retrieval.matched_words import marked
from workbench.retrieval.spec import MemorySpec
from workbench.types import Hit, Item, ItemKind
from workbench.widgets.cutting import shortened
from workbench.widgets.nodes import Button, Details, Field, Group, Node, Tone, Words
from workbench.widgets.table import Grid, Heading, texts

#: Characters of a passage in a table.
_SHORT = 300
_NOTHING = "No passage that this principal may see is valid on that day."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is entered in the form, as text."""

    text: str = ""
    k: str = "5"
    as_of: str = ""
    version: str = ""
    sources: str = ""
    kind: str = ""
    before: str = ""
    after: str = ""

    @classmethod
    def of(
        cls, text: str, *, k: int, as_of: str | None, version: int | None, sources: Sequence[str], kinds: Any
    ) -> Asked:
        """Return the form for the arguments of a search."""
        return cls(
            text=text, k=str(k), as_of=as_of or "", version=str(version or ""), sources=", ".join(sources),
            kind=next(iter(kinds), ""),
        )  # fmt: skip

    def number(self) -> int:
        """Return how many passages are wanted; raise ConfigError for another text than a number."""
        return _whole(self.k, "the number of passages")

    def filters(self) -> dict[str, Any]:
        """Return the filters as arguments of a search; raise ConfigError for one that cannot be read."""
        sources = tuple(part.strip() for part in self.sources.split(",") if part.strip())
        return {
            "as_of": self.as_of.strip() or None,
            "version": _whole(self.version, "the version") if self.version.strip() else None,
            "sources": sources,
            "kinds": (self.kind,) if self.kind else (),
        }

    def compared(self, versions: Sequence[MemoryVersion]) -> tuple[int, int]:
        """Return the two versions to compare: those chosen, by default the last two."""
        numbers = [version.number for version in versions]
        if len(numbers) < 2 and not (self.before and self.after):
            raise ConfigError("there are no two versions to compare", hint="ingest changed sources first")
        before = _whole(self.before, "the first version") if self.before else numbers[-2]
        return before, _whole(self.after, "the second version") if self.after else numbers[-1]


def _whole(text: str, what: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise ConfigError(f"{what} is {text!r}, not a whole number", hint="enter a number such as 5")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One page of what a search could find `as_of` a day: from the passage `first` of `total`, from 0."""

    as_of: str
    rows: tuple[Item, ...]
    first: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserState:
    """What is shown: whom `binding` acts for, what is entered, what was found, and the opened passage.

    `question` is that of the hits: another one may be entered since.
    """

    binding: Binding
    own: Principal
    asked: Asked
    question: str
    hits: Hits | None
    listed: Listed | None
    opened: Hit | Item | None
    number: int
    shown: int
    versions: tuple[MemoryVersion, ...]
    difference: Differences | None = field(default=None)
    compared: tuple[int, int] | None = None
    changes: Sequence[Node] = ()


def call(binding: Binding, verb: str) -> str:
    """Return the Python call of a verb of this memory."""
    return f'ws.memory("{binding.name}").{verb}'


def searched_by(spec: MemorySpec) -> str:
    """Return how a memory is searched, in words."""
    fused = f"words and meaning, fused from {spec.candidates} passages of each"
    return {"hybrid": fused, "words": "words", "vector": "meaning"}[spec.mode]


def drawn(state: BrowserState) -> Node:
    """Return the view."""
    spec, tenant = state.binding.spec, state.binding.tenant
    nodes: list[Node] = [
        Words(text=f"Memory {spec}, tenant {tenant}", heading=3),
        Words(text=f"embedding {spec.embedding}; searched by {searched_by(spec)}", tone="muted"),
        _form(state),
    ]
    if state.listed is not None:
        nodes.append(_list(state, state.listed))
    elif state.hits is not None:
        nodes.append(_found(state, state.hits))
    if state.opened is not None:
        nodes.append(_opened(state, state.opened))
    return Group(label=f"memory {spec}", nodes=[*nodes, _versions(state)])


# -- the form ------------------------------------------------------------------------------------


def _form(state: BrowserState) -> Node:
    asked, binding = state.asked, state.binding
    again = f"search({asked.text or '…'!r}, k={asked.k})"
    buttons = Group(
        row=True,
        nodes=(
            Button(label="Search", action="search", primary=True, python=call(binding, again)),
            Button(label="List", action="list", value=0, python=call(binding, "browse().list_page()")),
        ),
    )
    question = Field(
        label="Question",
        action="question",
        text=asked.text,
        enter="search",
        placeholder="words or a question",
    )
    return Group(nodes=(question, _narrowing(state), buttons))


def _narrowing(state: BrowserState) -> Node:
    asked = state.asked
    kinds = (("", "all"), *((kind, kind) for kind in get_args(ItemKind)))
    day = day_of(state.binding, None)
    filters = (
        Field(label="Passages", action="k", text=asked.k, enter="search"),
        Field(label="Valid on", action="as_of", text=asked.as_of, placeholder=day, enter="search"),
        _version(state, "Version", "version", asked.version, ("", "active")),
        Field(label="Sources", action="sources", text=asked.sources, placeholder="all", enter="search"),
        Field(label="Kind", action="kind", text=asked.kind, options=kinds),
    )
    acting = state.binding.context.principal
    summary = f"Filters, and whose rights: {_rights(acting)}"
    return Details(
        summary=summary, nodes=(Group(row=True, nodes=filters), Group(row=True, nodes=_choices(state)))
    )


def _choices(state: BrowserState) -> tuple[Node, ...]:
    """Return the rights that the caller may give up; there is no choice of what it does not have."""
    own, acting = state.own, state.binding.context.principal
    group = "" if acting.groups == own.groups else ", ".join(acting.groups)
    groups = [("", f"all of mine: {', '.join(own.groups)}"), *((name, f"only {name}") for name in own.groups)]
    groups += [(group, f"only {group}")] if group not in dict(groups) else []
    levels = tuple((str(level), str(level)) for level in range(own.clearance + 1))
    return (
        Field(label="Groups", action="group", text=group, options=tuple(groups)),
        Field(label="Clearance", action="clearance", text=str(acting.clearance), options=levels),
    )


def _rights(principal: Principal) -> str:
    return f"{principal}, groups {', '.join(principal.groups)}, clearance {principal.clearance}"


def _version(state: BrowserState, label: str, action: str, text: str, first: tuple[str, str]) -> Field:
    numbers = [str(version.number) for version in state.versions]
    others = [text] if text and text not in numbers else []
    options = (first, *((number, number) for number in (*others, *numbers)))
    return Field(label=label, action=action, text=text, options=options)


# -- passages ------------------------------------------------------------------------------------


def _found(state: BrowserState, hits: Hits) -> Node:
    if not hits:
        return Words(text=_NOTHING, tone="warn")
    heads = [Heading(label="passage"), Heading(label="text")]
    heads += [Heading(label=name, numeric=True) for name in ("score", "rank by words", "rank by meaning")]
    rows = [
        (
            _button(number, hit),
            Group(nodes=(_short(state, hit.text), *_warnings(hit))),
            *texts(f"{hit.score:.4f}", _rank(hit.words_rank), _rank(hit.vector_rank)),
        )
        for number, hit in enumerate(hits, start=1)
    ]
    number = f"{len(hits)} passage{'s' * (len(hits) != 1)}"
    caption = f"{number} for {state.question!r}, valid on {hits[0].as_of}"
    return Grid(
        caption=caption, headings=heads, rows=rows, current=state.number - 1 if state.number else None
    )


def _list(state: BrowserState, listed: Listed) -> Node:
    if not listed.total:
        return Words(text=_NOTHING, tone="warn")
    heads = [Heading(label=name) for name in ("passage", "text", "valid", "kind")]
    rows = [
        (_button(number, item), _short(state, item.text), *texts(_valid(item), item.kind))
        for number, item in enumerate(listed.rows, start=1)
    ]
    return Grid(
        caption=f"What a search could find, valid on {listed.as_of}",
        headings=heads,
        rows=rows,
        first=listed.first,
        total=listed.total,
        page="list",
        current=state.number - 1 if state.number else None,
    )


def _button(number: int, passage: Hit | Item) -> Node:
    return Button(label=f"{number}. {passage.title or passage.source}", action="open", value=number)


def _short(state: BrowserState, text: str) -> Node:
    return marked(shortened(text, _SHORT), state.question, stems=state.binding.stems)


def _warnings(hit: Hit) -> list[Node]:
    marks = ["its source has changed"] * hit.stale + ["from the last snapshot"] * hit.degraded
    return [Words(text=mark, tone="warn") for mark in marks]


def _rank(rank: int | None) -> str:
    return "none" if rank is None else str(rank)


def _valid(passage: Hit | Item) -> str:
    since = passage.since if isinstance(passage, Hit) else passage.valid_from
    if since is None and passage.valid_to is None:
        return "always"
    return " ".join(
        [f"from {since}"] * (since is not None) + [f"until {passage.valid_to}"] * bool(passage.valid_to)
    )


def _opened(state: BrowserState, passage: Hit | Item) -> Node:
    n = state.number
    buttons = (
        Button(label="Previous", action="open", value=n - 1, shortcut="p", disabled=n == 1),
        Button(label="Next", action="open", value=n + 1, shortcut="n", disabled=n >= state.shown),
        Button(label="Close", action="open", shortcut="c"),
    )
    facts = _facts_of_hit(passage, n) if isinstance(passage, Hit) else _facts_of_item(passage)
    facts = [*facts, ("embedding", state.binding.spec.embedding, "")]
    rows = [(Words(text=what), Words(text=value, tone=tone)) for what, value, tone in facts if value]
    heads = (Heading(label="about it"), Heading(label=""))
    return Group(
        label=f"passage {n}",
        nodes=(
            Words(text=f"{n}. {passage.title or passage.source}", heading=4),
            marked(passage.text, state.question, stems=state.binding.stems),
            Grid(caption="", headings=heads, rows=rows),
            Words(text=f"id {passage.id}", tone="muted", code=True),
            Group(row=True, nodes=buttons),
        ),
    )


_Fact = tuple[str, str, Tone]


def _facts_of_hit(hit: Hit, n: int) -> list[_Fact]:
    parts = (
        f"{hit.score:.4f}, from rank {_rank(hit.words_rank)} by words and {_rank(hit.vector_rank)} by meaning"
    )
    age = f", {hit.age_days} days old on {hit.as_of}" if hit.age_days is not None else ""
    state = (
        "its source has changed since it was added"
        if hit.stale
        else "its source is as it was, as far as known"
    )
    return [
        ("score", parts, ""),
        ("cite it as", f"[{n}] or [{hit.source}]", ""),
        ("source", f"{hit.source}, version {hit.version}, digest {hit.digest[:12]}", ""),
        (
            "memory",
            f"version {hit.memory_version}" if hit.memory_version else f"{hit.kind}, written by use",
            "",
        ),
        ("valid", f"{_valid(hit)}{age}", ""),
        ("state", state, "warn" if hit.stale else ""),
        ("access", hit.allowed, ""),
        (
            "classification",
            f"{hit.classification}{f', data of class {hit.data_class}' * bool(hit.data_class)}",
            "",
        ),
        ("trust", f"{hit.trust} of 3", ""),
        ("snapshot", "the store was unavailable: from the last snapshot" * hit.degraded, "warn"),
    ]


def _facts_of_item(item: Item) -> list[_Fact]:
    return [
        ("cite it as", f"[{item.source}]", ""),
        ("source", f"{item.source}, version {item.version}, digest {item.source_digest[:12]}", ""),
        ("valid", _valid(item), ""),
        ("expires", item.expires or "", ""),
        ("classification", str(item.classification), ""),
        ("trust", f"{item.trust} of 3", ""),
    ]


# -- versions ------------------------------------------------------------------------------------


def _versions(state: BrowserState) -> Node:
    show = Button(label="Versions", action="versions", python=call(state.binding, "versions()"))
    if not state.versions:
        return Group(row=True, nodes=(show,))
    before, after = (
        _version(state, label, label.lower(), text, ("", default))
        for label, text, default in (
            ("Before", state.asked.before, "the last but one"),
            ("After", state.asked.after, "the last one"),
        )
    )
    active = state.versions[-1].number
    made = "; ".join(f"{one.number} of {one.at}" for one in state.versions)
    compare = Button(label="Compare", action="compare", python=call(state.binding, "diff(BEFORE, AFTER)"))
    nodes: list[Node] = [
        Words(text=f"Versions, oldest first: {made}. Version {active} is active."),
        Group(row=True, nodes=(before, after)),
        Group(row=True, nodes=(compare, show)),
    ]
    difference = [_differences(state, state.difference)] if state.difference else []
    return Details(summary="Versions", open=True, nodes=[*nodes, *difference, *state.changes])


def _differences(state: BrowserState, found: Differences) -> Node:
    heads = [Heading(label=name) for name in ("change", "source", "chunks", "digest")]
    between = ", ".join(map(str, state.compared or ()))
    rows = [
        (
            Words(text=row.change),
            Button(
                label=row.source,
                action="source",
                value=row.source,
                python=call(state.binding, f"browse().compare_source({row.source!r}, {between})"),
            ),
            *texts(
                f"{row.before} → {row.after}",
                f"{(row.digest_before or 'none')[:12]} → {(row.digest_after or 'none')[:12]}",
            ),
        )
        for row in found.rows
        if row.change != "same"
    ]
    if not rows:
        return Words(text=f"{found.title}: nothing that you may see differs")
    return Grid(caption=found.title, headings=heads, rows=rows)
