"""Define the record of a tenant, whose replacement activates a version or a hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from workbench import files
from workbench.errors import ConfigError, CorruptError

#: What a hold covers: pairs of "item", "subject" or "source" and a name as rows hold it.
Cover = tuple[tuple[str, str], ...]
Holder = Callable[[Mapping[str, Any]], bool]
#: Earlier workbenches state in a search only the conditions that the record names. Promoted versions still
#: run them, so a record names all conditions before this workbench writes a row.
CONDITIONS = ("classification", "ends", "expires", "starts", "versions")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVersion:
    """One version of a tenant's knowledge in its record."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    number: int
    at: str
    items: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRecord:
    """A tenant's encrypted name, its active version, its kept versions and its holds.

    `writes` counts replacements of the record. `term` is the term of the server's elections at which the
    tenant's index was last known to be complete.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    version: int = 0
    embedding: str = ""
    dimensions: int = 0
    conditions: tuple[str, ...] = CONDITIONS
    versions: tuple[RecordedVersion, ...] = ()
    holds: dict[str, Cover] = field(default_factory=dict)
    writes: int = 0
    term: int = 0

    def holder(self) -> Holder:
        """Return a test of whether a legal hold covers a row with these properties."""
        covered = frozenset(pair for cover in self.holds.values() for pair in cover)
        return lambda row: (
            bool(covered) and any((name, row[name]) in covered for name in ("item", "subject", "source"))
        )

    def text(self) -> str:
        """Return the record as the server keeps it."""
        return files.canonical(self).decode()


def parsed(text: str) -> TenantRecord:
    """Parse a record; CorruptError when it is not as it was written."""
    try:
        return files.parse(TenantRecord, orjson.loads(text), where="the tenant's record")
    except (orjson.JSONDecodeError, ConfigError):
        raise CorruptError(
            "a tenant's record in the Weaviate is damaged: it is not a record of this workbench",
            hint="restore a snapshot into a memory of another name: workbench memory restore",
        ) from None
