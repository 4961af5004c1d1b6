"""Find the page that answers each question, and name the questions that no document answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from workbench.errors import nearest
from workbench.experiments.matching import mentions, normalise

#: A question whose answer stands in this many pages has no page of its own.
_MANY = 20
#: An answer that more questions of a tenant accept identifies no page.
_SHARED = 5
_SEPARATED = re.compile(r"(?<=\d)[,'.](?=\d)")
_RUNS = re.compile(r"[^\W\d_]+|\d+")

Pages = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Rows with the pages that answer them, and what was found about each, by the row's id.

    `found` are the pages that were added: of each row the only page with an accepted answer. `several` are
    the pages of rows whose answer stands in more than one, which get none. `renamed` are the pages of rows
    that named a file. `unanswered` has the reason why no document answers a row. `shared` are the pages of
    rows whose answers many other rows accept too, such as "True": they do not identify a page.
    """

    rows: tuple[dict[str, Any], ...] = field(repr=False)
    found: Mapping[str, str]
    several: Mapping[str, tuple[str, ...]]
    renamed: Mapping[str, str]
    unanswered: Mapping[str, str]
    shared: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every row names a page that has one of its accepted answers."""
        return not self.unanswered and not self.several and not self.shared

    def notes(self, *, most: int = 3, places: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return one line for each kind of finding, each with at most `most` rows by place or id."""
        lines = {
            "no document answers": self.unanswered,
            "several documents answer": {key: ", ".join(names) for key, names in self.several.items()},
            "the answer is that of many questions and identifies no page": self.shared,
            "the page was found by its answer": self.found,
            "the page is named after its file": self.renamed,
        }
        named = {
            what: {(places or {}).get(key, key): text for key, text in items.items()}
            for what, items in lines.items()
        }
        return tuple(_line(what, items, most) for what, items in named.items() if items)


def _line(what: str, items: Mapping[str, str], most: int) -> str:
    shown = "; ".join(f"{key} ({text})" for key, text in list(items.items())[:most])
    return f"{what}: {len(items)} of the questions: {shown}" + " …" * (len(items) > most)


def locate(
    rows: Sequence[Mapping[str, Any]], pages: Pages, *, bar: Callable[[Any], Any] | None = None
) -> Located:
    """Return the rows, each with the page that has one of its accepted answers, as `mentions` reads them.

    `pages` are texts by tenant and source. A row that names a page keeps it. A row without one gets the only
    page of its tenant that has an accepted answer; none and several are reported, and the row stays without.
    `bar` wraps the pages to show progress, as tqdm does.
    """
    wanted, renamed, made = {}, {}, []
    for row in rows:
        names = _named(row, pages)
        kept = dict(row)
        if names != _list(row.get("page")):
            kept["page"] = names if len(names) > 1 else names[0]
            renamed[row["id"]] = ", ".join(names)
        made.append(kept)
        wanted[row["id"]] = names
    hits = _hits(made, pages, wanted, bar or iter)
    found: dict[str, str] = {}
    several: dict[str, tuple[str, ...]] = {}
    unanswered: dict[str, str] = {}
    shared: dict[str, str] = {}
    askers = _askers(made)
    for row in made:
        sources, names = hits.get(row["id"], []), wanted[row["id"]]
        if not sources:
            unanswered[row["id"]] = _reason(row, names, pages)
        elif not names and len(sources) == 1 and _is_shared(row, askers):
            shared[row["id"]] = sources[0]
        elif not names and len(sources) == 1:
            row["page"] = found[row["id"]] = sources[0]
        elif not names:
            several[row["id"]] = tuple(sources)
    return Located(
        rows=tuple(made), found=found, several=several, renamed=renamed, unanswered=unanswered, shared=shared
    )


def _askers(rows: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Return the number of rows of a tenant that accept each answer."""
    accepted = ((row["tenant"], {normalise(text) for text in _list(row.get("answers"))}) for row in rows)
    return Counter((tenant, text) for tenant, texts in accepted for text in texts)


def _is_shared(row: Mapping[str, Any], askers: Mapping[tuple[str, str], int]) -> bool:
    """Return whether many rows accept each of the row's answers."""
    return all(askers[row["tenant"], normalise(text)] > _SHARED for text in _list(row.get("answers")))


def _list(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _named(row: Mapping[str, Any], pages: Pages) -> list[str]:
    """Return the pages that a row names; the name of a file becomes its page's, when there is that page."""
    names = _list(row.get("page"))
    stems = [PurePosixPath(name).stem for name in names]
    return [
        stem if (row["tenant"], name) not in pages and (row["tenant"], stem) in pages else name
        for name, stem in zip(names, stems, strict=True)
    ]


def _hits(
    rows: Sequence[Mapping[str, Any]],
    pages: Pages,
    wanted: Mapping[str, Sequence[str]],
    bar: Callable[[Any], Any],
) -> dict[str, list[str]]:
    """Return the sources of the pages that mention an accepted answer, by the row's id."""
    found: dict[str, list[str]] = {}
    words_of = {place: _words(text) for place, text in pages.items()}
    rarest = _by_rarest_word(rows, words_of.values())
    for (tenant, source), text in bar(pages.items()):
        words = words_of[tenant, source]
        for row, answer, needed in _candidates(rarest, tenant, words):
            sources, named = found.get(row["id"], []), wanted[row["id"]]
            if source in sources or (named and source not in named) or len(sources) >= _MANY:
                continue
            if needed <= words and mentions(text, answer):
                found.setdefault(row["id"], []).append(source)
    return found


_Answers = dict[tuple[str, str], list[tuple[Mapping[str, Any], str, frozenset[str]]]]


def _by_rarest_word(rows: Sequence[Mapping[str, Any]], pages: Iterable[frozenset[str]]) -> _Answers:
    """Return every accepted answer with its words, by tenant and the word that the fewest pages have."""
    counts = Counter(word for words in pages for word in words)
    answers: _Answers = {}
    for row in rows:
        for answer in _list(row.get("answers")):
            words = frozenset(_RUNS.findall(_SEPARATED.sub("", normalise(answer))))
            rarest = min(words, key=lambda word: (counts[word], word), default="")
            answers.setdefault((row["tenant"], rarest), []).append((row, answer, words))
    return answers


def _candidates(
    answers: _Answers, tenant: str, words: frozenset[str]
) -> Iterator[tuple[Mapping[str, Any], str, frozenset[str]]]:
    for word in (*sorted(words), ""):
        yield from answers.get((tenant, word), ())


def _words(text: str) -> frozenset[str]:
    """Return the runs of letters and of digits of a text; a number with separators counts in both forms."""
    plain = normalise(text)
    return frozenset(_RUNS.findall(plain)) | frozenset(_RUNS.findall(_SEPARATED.sub("", plain)))


def _reason(row: Mapping[str, Any], names: Sequence[str], pages: Pages) -> str:
    unknown = [name for name in names if (row["tenant"], name) not in pages]
    if not _list(row.get("answers")):
        return "it has no accepted answer"
    if unknown:
        own = [source for tenant, source in pages if tenant == row["tenant"]]
        return f"{row['tenant']} has no page {', '.join(unknown)}; {nearest(unknown[0], own)}"
    if names:
        return f"{', '.join(names)} has none of its accepted answers"
    return f"no page of {row['tenant']} has one of its accepted answers"
