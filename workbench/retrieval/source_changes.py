"""What changed in one source between two versions of a memory: its texts by word, and what is shown of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench import arguments
from workbench.errors import NotFoundError, nearest
from workbench.retrieval.binding import Binding
from workbench.retrieval.port import Governed
from workbench.types import KNOWLEDGE, Item
from workbench.widgets.nodes import Button, Group, Node, Words
from workbench.widgets.table import Grid, Heading, texts
from workbench.widgets.word_marks import COMPARED, differing

#: Changes that a page shows.
CHANGES = 10
#: Sentences and lines of a text that are compared: where all differ, the time grows by the square.
MOST_SENTENCES = 2_000
#: A sentence, or a line without an end of one, with the spaces after it.
_SENTENCE = re.compile(r"\S.*?(?:(?<=[.!?])(?=\s)|(?<=[\u3002\uff01\uff1f])|$)\s*", re.MULTILINE)
#: What may differ while the text is the same. Groups and owners are not told: a search does not tell them.
_FACTS = ("title", "version", "valid_from", "valid_to", "classification", "trust")

_Sentence = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChange:
    """Sentences that differ, with the one before and after them. `passage` is where they are, from 1."""

    before: str
    after: str
    passage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChanges:
    """What changed in a source from version `before` to `after`, in the order of the text.

    `facts` are rows of a name and its values before and after. `cut` says that later sentences than
    `MOST_SENTENCES` were not compared.
    """

    source: str
    before: int
    after: int
    facts: tuple[tuple[str, str, str], ...]
    texts: tuple[TextChange, ...]
    cut: bool = False


async def changes_of(binding: Binding, source: str, before: int, after: int) -> SourceChanges:
    """Return what changed in a source, as far as a search of either version could find its passages.

    NotFoundError for a source that neither version holds for this principal.
    """
    source = arguments.text(source, "source")
    port = Governed(binding=binding)
    older, newer = await port.items(before), await port.items(after)
    ours, theirs = _passages(older, source), _passages(newer, source)
    if not (ours or theirs):
        known = {item.source for item in (*older, *newer) if item.kind == KNOWLEDGE}
        raise NotFoundError(
            f"no version {before} or {after} of {binding.spec} holds the source {source!r} "
            f"({nearest(source, known)})",
            hint=f"browser.compare({before}, {after})   # lists the sources that differ",
        )
    changed, cut = _changed(_sentences(ours), _sentences(theirs))
    facts = tuple(_facts(ours, theirs)) if ours and theirs else ()
    return SourceChanges(
        source=source, before=before, after=after, facts=facts, texts=tuple(changed), cut=cut
    )


def drawn_changes(found: SourceChanges, first: int) -> list[Node]:
    """Return the page of changes that begins with the change `first`, counted from 0, with its buttons."""
    nodes: list[Node] = [
        Words(text=f"{found.source}, version {found.before} → {found.after}", heading=4),
    ]
    if not (found.texts or found.facts):
        same = "Its text and all that is shown of it are the same; other lines of its file differ."
        nodes.append(Words(text=same if found.before != found.after else "It is the same version."))
    if found.facts:
        heads = [Heading(label=name) for name in ("about it", "before", "after")]
        nodes.append(Grid(caption="", headings=heads, rows=[texts(*row) for row in found.facts]))
    for change in found.texts[first : first + CHANGES]:
        nodes += _drawn_change(found, change)
    if found.cut:
        note = f"Only the first {MOST_SENTENCES:,} sentences from the first change on are compared."
        nodes.append(Words(text=note, tone="warn"))
    nodes += _pages(len(found.texts), first)
    return [Group(label=f"changes of {found.source}", nodes=nodes)]


def _drawn_change(found: SourceChanges, change: TextChange) -> Iterator[Node]:
    sides = zip((found.before, found.after), differing(change.before, change.after), strict=True)
    columns = [Group(nodes=(Words(text=f"version {version}", tone="muted"), text)) for version, text in sides]
    yield Words(text=f"Passage {change.passage}", tone="muted")
    yield Group(row=True, nodes=columns)
    if max(len(change.before), len(change.after)) > COMPARED:
        yield Words(text=f"Words are marked in the first {COMPARED:,} characters.", tone="warn")


def _pages(total: int, first: int) -> Iterator[Node]:
    last = min(first + CHANGES, total)
    if total > CHANGES:
        steps = (
            ("Previous changes", first - CHANGES, first == 0),
            ("Next changes", first + CHANGES, last == total),
        )
        buttons = [Button(label=label, action="changes", value=to, disabled=off) for label, to, off in steps]
        place = Words(text=f"changes {first + 1:,} to {last:,} of {total:,}", tone="muted")
        yield Group(row=True, nodes=(*buttons, place))


def _passages(items: Sequence[Item], source: str) -> list[Item]:
    found = (item for item in items if item.kind == KNOWLEDGE and item.source == source)
    return sorted(found, key=lambda item: (item.position, item.id))


def _facts(ours: Sequence[Item], theirs: Sequence[Item]) -> Iterator[tuple[str, str, str]]:
    for name in _FACTS:
        before, after = (_told(side, name) for side in (ours, theirs))
        if before != after:
            yield name.replace("_", " "), before, after


def _told(items: Sequence[Item], name: str) -> str:
    values = {getattr(item, name) for item in items}
    return ", ".join(sorted(str(value) for value in values if value not in {None, ""})) or "none"


def _sentences(items: Sequence[Item]) -> list[_Sentence]:
    """Return the sentences of passages in order, each with the number of its passage, from 1."""
    return [
        (match[0], number) for number, item in enumerate(items, 1) for match in _SENTENCE.finditer(item.text)
    ]


def _changed(ours: list[_Sentence], theirs: list[_Sentence]) -> tuple[list[TextChange], bool]:
    """Return the changes between two texts, and whether sentences were left out.

    Passages are no units of it: a sentence that only moved into the next passage is no change.
    """
    left, right = ([text.strip() for text, _ in side] for side in (ours, theirs))
    start = _common(left, right)
    end = _common(left[start:][::-1], right[start:][::-1])
    left, right = left[start : len(left) - end], right[start : len(right) - end]
    cut = max(len(left), len(right)) > MOST_SENTENCES
    matcher = difflib.SequenceMatcher(None, left[:MOST_SENTENCES], right[:MOST_SENTENCES])
    changes = [
        TextChange(
            before=_joined(ours[max(0, start + i - 1) : start + j + 1]),
            after=_joined(theirs[max(0, start + k - 1) : start + m + 1]),
            passage=theirs[start + k][1] if m > k else ours[start + i][1],
        )
        for kind, i, j, k, m in matcher.get_opcodes()
        if kind != "equal"
    ]
    return changes, cut


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the number of texts with which both begin."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))


def _joined(sentences: Sequence[_Sentence]) -> str:
    """Return sentences as one text: those of one passage as they stand, passages apart by an empty line."""
    parts: list[str] = []
    for place, (text, passage) in enumerate(sentences):
        apart = place and passage != sentences[place - 1][1]
        parts += ["\n\n"] * bool(apart) + [text]
    return "".join(parts).strip()
