"""Read memory specs: the immutable versions of a memory's sources, chunking and settings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files, registry
from workbench.context import instant
from workbench.errors import ConfigError
from workbench.ports import Budget, SearchMode
from workbench.retrieval.chunking import Chunking
from workbench.retrieval.reading import SourceReading, Unreadable
from workbench.retrieval.remote_files import is_url, shown
from workbench.retrieval.rows import Columns
from workbench.types import MOST_CLASSIFIED, ItemKind

MemoryKind = Literal["knowledge", "episodic"]
Stale = Literal["flag", "drop", "refuse"]
#: The most days that a rule may keep (about 270 years).
_MOST_DAYS = 100_000
#: The most candidates of one ranking: a server returns no more hits of one search.
_MOST_CANDIDATES = 10_000
#: The most for each other number of a spec, which stores keep in 32 bits.
_MOST = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days items are kept; `kind` and `classification` restrict the rule."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    keep_days: int
    kind: ItemKind | None = None
    classification: int | None = None

    def means(self, kind: ItemKind, classification: int) -> bool:
        """Return whether the rule applies to such an item."""
        return self.kind in {None, kind} and self.classification in {None, classification}

    @property
    def specific(self) -> int:
        """The number of restrictions, from 0 to 2."""
        return (self.kind is not None) + (self.classification is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Settings of an approximate (HNSW) index; the embedded store is exact and ignores them.

    A search examines `ef` candidates, an insert `ef_construction`. Each item links to `max_connections`
    others. A search whose filter leaves fewer than `flat_cutoff` items examines all of them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    ef: int = 512
    ef_construction: int = 128
    max_connections: int = 32
    flat_cutoff: int = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """`pipelines/memories/<name>/<version>.yaml`, read strictly."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    description: str
    embedding: str
    candidates: int
    source: str | None = None
    tenants: str | None = None
    access: str | None = None
    unreadable: Unreadable = "stop"
    columns: Columns | None = None
    chunking: Chunking | None = None
    questions: str | None = None
    kind: MemoryKind = "knowledge"
    retention: tuple[Retention, ...] = ()
    stale: Stale = "flag"
    budget: Budget = field(default_factory=Budget)
    keep_versions: int = 10
    index: Index = field(default_factory=Index)
    mode: SearchMode = "hybrid"
    exact: bool = False
    data_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpec(_File):
    """One version of a memory's spec.

    `kind` is "knowledge" (built from sources) or "episodic" (also written by `remember`). `source` is the
    argument of `load` ("" for an episodic memory without one), and `tenants`, `access`, `unreadable` and
    `columns` are its options. `embedding` is a model card's name, `candidates` the depth of each ranking
    before fusion, `questions` a dataset about the memory, `digest` the SHA-256 of the spec's file. `stale`
    sets the treatment of passages whose source has changed. `budget` limits episodic items, `keep_versions`
    the versions of knowledge. `mode` and `exact` set the kind of search. `data_class` is the class of data of
    every item, which its hits carry.
    """

    name: str
    version: int
    digest: str
    source: str
    chunking: Chunking

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def reading(self, uri: str | Path | None = None) -> SourceReading:
        """Return how the source is read, or another source at `uri`, as the argument of `load`."""
        return SourceReading(
            declared=uri is None,
            uri=str(uri or self.source),
            tenants=self.tenants,
            access=self.access,
            unreadable=self.unreadable,
            columns=self.columns,
        )

    def keep_days(self, kind: ItemKind, classification: int) -> int | None:
        """Return the days that such an item is kept, by the most specific rule; None is no limit.

        Of equally specific rules the shorter applies.
        """
        rules = [rule for rule in self.retention if rule.means(kind, classification)]
        most = max((rule.specific for rule in rules), default=0)
        return min((rule.keep_days for rule in rules if rule.specific == most), default=None)

    def expires(self, kind: ItemKind, classification: int, *, since: dt.datetime) -> str | None:
        """Return the UTC instant at which such an item expires, or None.

        `since` is the time of writing; for a document the beginning of its first valid day, so that the same
        sources give the same items on any day.
        """
        days = self.keep_days(kind, classification)
        if days is None:
            return None
        try:
            return instant(since + dt.timedelta(days=days))
        except OverflowError:  # after the last day of the calendar
            return None


def load_spec(root: Path, reference: str) -> MemorySpec:
    """Return the spec of `name`, `name@2` or `name@label`; a bare name is the newest version."""
    return read_spec(registry.resolve(root, "memory", reference))


def read_spec(found: registry.Version) -> MemorySpec:
    """Read the spec in a version's file; ConfigError names the file and the invalid key."""
    raw = _parsed(found.path)
    given = {key.name: getattr(raw, key.name) for key in fields(raw)}
    given |= {"source": raw.source or "", "chunking": raw.chunking or Chunking(kind="whole")}
    return MemorySpec(name=found.name, version=found.number, digest=found.digest, **given)


@files.until_changed
def _parsed(path: Path) -> _File:
    where = str(path)
    raw = files.parse(_File, _without_rerank(files.read_yaml(path), where), where=where)
    _check(raw, where)
    return raw


def _without_rerank(raw: Any, where: str) -> Any:
    """Drop the former key `rerank` when it names no reranker; ConfigError when it names one."""
    if not isinstance(raw, dict) or "rerank" not in raw:
        return raw
    if raw["rerank"] not in (None, "none"):
        raise ConfigError(
            f"{where}: rerank names {raw['rerank']!r}, and the workbench has no reranker any more",
            hint="copy the file without the line rerank, then: workbench save",
        )
    return {key: value for key, value in raw.items() if key != "rerank"}


def _check(raw: _File, where: str) -> None:
    _check_source(raw, where)
    numbers = {"candidates": raw.candidates, "keep_versions": raw.keep_versions}
    numbers |= {f"index.{limit.name}": getattr(raw.index, limit.name) for limit in fields(Index)}
    budget = {"budget.items": raw.budget.items, "budget.tokens": raw.budget.tokens}
    numbers |= {name: number for name, number in budget.items() if number is not None}
    for name, number in numbers.items():
        most = _MOST_CANDIDATES if name == "candidates" else _MOST
        if not 1 <= number <= most:
            problem = "1 or more" if number < 1 else f"{most} or less"
            raise ConfigError(f"{where}: {name} must be {problem}, found {number}")
    try:
        registry.Reference.parse(raw.embedding)
    except ConfigError as error:
        raise ConfigError(f"{where}: embedding: {error.message}", hint=error.hint) from None
    _check_retention(raw.retention, where)
    if raw.data_class == "":
        raise ConfigError(f"{where}: data_class is empty", hint="data_class: personal, or no such line")


def _check_source(raw: _File, where: str) -> None:
    for name in ("source", "questions", "access"):
        if ".." in Path(getattr(raw, name) or "").parts:
            raise ConfigError(f"{where}: {name} leads out of its folder: {getattr(raw, name)!r}")
    if raw.kind == "knowledge":
        for name in ("source", "chunking"):
            if getattr(raw, name) is None:
                raise ConfigError(f"{where}: missing key {name!r} (only kind: episodic goes without)")
        if raw.budget != Budget():
            raise ConfigError(f"{where}: budget is for kind: episodic, not for kind: knowledge")
    if (raw.source is None) != (raw.chunking is None):
        raise ConfigError(f"{where}: source and chunking go together: give both or neither")
    if raw.source == "":
        raise ConfigError(f"{where}: source is empty")
    _check_reading(raw, where)
    if raw.chunking is not None:
        raw.chunking.check(where)


def _check_reading(raw: _File, where: str) -> None:
    if raw.source is not None and is_url(raw.source):
        raise ConfigError(
            f"{where}: source is the URL {shown(raw.source)!r}: the pipeline would not notice its changes",
            hint="dvc import-url URL data/NAME, then source: data/NAME",
        )
    SourceReading(
        uri=raw.source or "", tenants=raw.tenants, access=raw.access, unreadable=raw.unreadable,
        columns=raw.columns,
    ).check(f"{where}: ")  # fmt: skip
    if raw.columns is not None and raw.chunking is not None and raw.chunking.kind != "whole":
        raise ConfigError(
            f"{where}: chunking is {raw.chunking.kind!r}, and a row of a table is one chunk",
            hint="chunking: {kind: whole}",
        )


def _check_retention(rules: Sequence[Retention], where: str) -> None:
    seen: dict[tuple[str | None, int | None], int] = {}
    for number, rule in enumerate(rules):
        place = f"{where}: retention.{number}"
        if not 1 <= rule.keep_days <= _MOST_DAYS:
            raise ConfigError(f"{place}: keep_days must be 1 to {_MOST_DAYS}, found {rule.keep_days}")
        if rule.classification is not None and not 0 <= rule.classification <= MOST_CLASSIFIED:
            raise ConfigError(f"{place}: classification must be 0 to {MOST_CLASSIFIED}")
        first = seen.setdefault((rule.kind, rule.classification), number)
        if first != number:
            raise ConfigError(f"{place}: is for the same items as retention.{first}")
