"""The one record of a tenant that says which version of it is in force: replaced whole, and last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from workbench import files
from workbench.errors import ConfigError, CorruptError
from workbench.memory.weaviate.filters import CONDITIONS

#: What a hold covers: pairs of "item", "subject" or "source" and a name as rows hold it.
Cover = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version as the record keeps it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    number: int
    at: str
    items: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A tenant's record: its sealed name, the version in force, those that are kept, and its holds.

    `conditions` are those that searches must state, see `filters`: a condition is added before the
    first row that needs it is written. `writes` counts replacements of the record. `term` is that of
    the server's elections when its index was last known to be whole.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    version: int = 0
    embedding: str = ""
    dimensions: int = 0
    conditions: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    holds: dict[str, Cover] = field(default_factory=dict)
    writes: int = 0
    term: int = 0

    @property
    def stated(self) -> frozenset[str]:
        """The conditions as a set; one that nobody knows would be a record of a later workbench."""
        return CONDITIONS & frozenset(self.conditions)

    def holder(self) -> Holder:
        """What all holds together cover."""
        return Holder(covered=frozenset(pair for cover in self.holds.values() for pair in cover))

    def text(self) -> str:
        """The record as the server keeps it."""
        return files.canonical(self).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Tells what is under legal hold."""

    covered: frozenset[tuple[str, str]]

    def holds(self, properties: Mapping[str, Any]) -> bool:
        """Whether a row with these properties is held."""
        return bool(self.covered) and any(
            (name, properties[name]) in self.covered for name in ("item", "subject", "source")
        )


def parsed(text: str) -> Control:
    """A record as it was written; CorruptError otherwise."""
    try:
        return files.parse(Control, orjson.loads(text), where="the tenant's record")
    except (orjson.JSONDecodeError, ConfigError):
        raise CorruptError(
            "a tenant's record in the Weaviate is not as it was written",
            hint="restore a snapshot into a memory of another name: workbench memory restore",
        ) from None


def conditions(*given: Iterable[str]) -> tuple[str, ...]:
    """Several sets of conditions as one, sorted."""
    return tuple(sorted({name for one in given for name in one}))
