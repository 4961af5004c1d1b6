"""Define a memory's collections in Weaviate, and convert items to objects and back.

An object is a row: an item and the versions in which it is active, from `since` until before `until`.
Staged rows begin with the next version; rows that use writes begin with 0 and have no end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import files
from workbench.context import moment
from workbench.errors import ConfigError
from workbench.memory.cipher import IdCipher
from workbench.memory.stemming import stems
from workbench.types import Item

#: Counts changes of the layout below; each number has collections of its own.
SCHEMA = 1
#: The end of an item without one. Numbers cross gRPC as doubles, so nothing may be 2**53 or more.
OPEN = 2**40
_DAY_S = 86_400
#: The beginning of day 1, from which days and seconds count.
_FIRST = dt.datetime.min  # noqa: DTZ901

#: Stemmed by memory/stemming.py, so the server tokenizes at white space alone.
_WORDS = {
    "dataType": ["text"],
    "indexFilterable": False,
    "indexSearchable": True,
    "tokenization": "whitespace",
}
_NAME = {"dataType": ["text"], "indexFilterable": True, "indexSearchable": False, "tokenization": "field"}
_NAMES = {**_NAME, "dataType": ["text[]"]}
_KEPT = {"dataType": ["text"], "indexFilterable": False, "indexSearchable": False}
_FIGURE = {"dataType": ["int"], "indexFilterable": False}
#: A property of few values, for which one bitmap each is faster than a range index.
_FEW = {"dataType": ["int"], "indexFilterable": True, "indexRangeFilters": False}
_MANY = {"dataType": ["int"], "indexFilterable": False, "indexRangeFilters": True}
_PROPERTIES: Mapping[str, Mapping[str, Any]] = {
    "words": _WORDS,
    "item": _NAME, "source": _NAME, "kind": _NAME, "subject": _NAME, "access": _NAMES, "parents": _NAMES,
    "classification": _FEW, "since": _FEW, "until": _FEW, "starts": _FEW, "ends": _FEW, "expires": _MANY,
    "text": _KEPT, "title": _KEPT, "source_digest": _KEPT, "owner": _KEPT, "created": _KEPT,
    "embedding": _KEPT,
    "position": _FIGURE, "version": _FIGURE, "trust": _FIGURE,
    "ttl": {"dataType": ["date"], "indexFilterable": True},
}  # fmt: skip
#: The properties that a writer of an existing object needs.
WHOLE = tuple(_PROPERTIES)
#: The properties of an item.
ALL = tuple(name for name in _PROPERTIES if name != "words")
#: The properties that tell a row's item, versions and holds.
BRIEF = ("item", "source", "kind", "subject", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The index of vectors, as a memory's spec sets it.

    `ef` and `flat_cutoff` (searches that see fewer items are exact) may be changed at any time,
    `ef_construction`, `max_connections` and `replicas` only in a new memory. With `ttl` the server's
    clock removes expired items.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    ef: int = 512
    ef_construction: int = 128
    max_connections: int = 32
    flat_cutoff: int = 40_000
    replicas: int = 1
    ttl: bool = True


def collection_name(memory: str) -> str:
    """Return the alias of a memory's items: injective, and no two aliases differ in case alone."""
    safe = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else f"_{ord(c):x}_" for c in memory)
    return f"Wb_{safe}"


def description(memory: str, names: IdCipher) -> str:
    """Return the description of a collection, by which its memory and key are known."""
    return files.canonical({"memory": memory, "schema": SCHEMA, "names": names.fingerprint}).decode()


def items_collection(name: str, about: str, index: IndexSettings) -> dict[str, Any]:
    """Return the collection of all tenants' rows. The distance is the negative inner product."""
    ttl = {"enabled": index.ttl, "deleteOn": "ttl", "filterExpiredObjects": False, "defaultTtl": 0}
    return {
        **_tenanted(name, about, index),
        "vectorizer": "none",
        "vectorIndexType": "hnsw",
        "vectorIndexConfig": {
            "distance": "dot", "ef": index.ef, "efConstruction": index.ef_construction,
            "maxConnections": index.max_connections, "flatSearchCutoff": index.flat_cutoff,
            "skipDefaultQuantization": True,
        },
        "properties": [{"name": key, **value} for key, value in _PROPERTIES.items()],
        **({"objectTtlConfig": ttl} if index.ttl else {}),
    }  # fmt: skip


def control_collection(name: str, about: str, index: IndexSettings) -> dict[str, Any]:
    """Return the collection of the tenants' records: active version and holds."""
    return {
        **_tenanted(name, about, index),
        "vectorizer": "none",
        "vectorIndexType": "hnsw",
        "vectorIndexConfig": {"skip": True, "distance": "dot"},
        "properties": [{"name": "record", **_KEPT}],
    }


def _tenanted(name: str, about: str, index: IndexSettings) -> dict[str, Any]:
    return {
        "class": name,
        "description": about,
        "multiTenancyConfig": {"enabled": True, "autoTenantCreation": False, "autoTenantActivation": True},
        "invertedIndexConfig": {"stopwords": {"preset": "none"}, "bm25": {"k1": 1.2, "b": 0.75}},
        "replicationConfig": {"factor": index.replicas},
    }


def check_collection(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ConfigError unless a collection of that name belongs to the wanted memory."""
    if found.get("description") != wanted["description"]:
        raise ConfigError(
            f"the Weaviate has a collection {wanted['class']} of another memory, schema or key",
            hint="put back the key from your backup of .workbench/state, or give the memory another name",
        )
    different = sorted(_differences(found, wanted))
    if different:
        raise ConfigError(
            f"the collection {wanted['class']} was made with other settings: {', '.join(different)}",
            hint="put back what the memory's spec said, or give the memory another name and ingest again",
        )


def changed_at_run_time(found: Mapping[str, Any], index: IndexSettings) -> bool:
    """Return whether settings that may change differ from those of the collection."""
    now = found["vectorIndexConfig"]
    return (now["ef"], now["flatSearchCutoff"]) != (index.ef, index.flat_cutoff)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> set[str]:
    index, asked = found.get("vectorIndexConfig", {}), wanted["vectorIndexConfig"]
    keys = {
        "distance": "distanceMetric",
        "efConstruction": "efConstruction",
        "maxConnections": "maxConnections",
    }
    different = {key for key, found_as in keys.items() if key in asked and index.get(found_as) != asked[key]}
    given = {one["name"]: one for one in found.get("properties", ())}
    for one in wanted["properties"]:
        other = given.get(one["name"], {})
        if any(other.get(key) != value for key, value in one.items() if key != "moduleConfig"):
            different.add(one["name"])
    tenancy = found.get("multiTenancyConfig", {})
    return different | ({"multiTenancyConfig"} if not tenancy.get("enabled") else set())


def wrapped(name: str) -> str:
    """Return a name as filters compare it: the server trims white space at the ends of a text."""
    return f"[{name}]"


def unwrapped(name: str) -> str:
    """Return the name inside `wrapped`."""
    return name[1:-1]


def day_number(day: str | None, *, otherwise: int) -> int:
    """Return an ISO day as a number of the same order."""
    return dt.date.fromisoformat(day).toordinal() if day else otherwise


def second_number(instant: str | None) -> int:
    """Return a UTC instant as a number of the same order; `OPEN` without one."""
    if instant is None:
        return OPEN
    since = moment(instant).replace(tzinfo=None) - _FIRST
    return (since.days + 1) * _DAY_S + since.seconds


def _day(number: int) -> str:
    return dt.date.fromordinal(number).isoformat()


def _instant(number: int) -> str:
    return f"{(_FIRST + dt.timedelta(days=-1, seconds=number)).isoformat()}Z"


def properties_of(item: Item, *, words: str, tenant: str, names: IdCipher, since: int) -> dict[str, Any]:
    """Return an item as an object's properties, active from version `since` on; `ttl_of` gives one more.

    `words` come from `words_of`.
    """
    return {
        "text": item.text, "title": item.title, "words": words,
        "item": names.encrypt(tenant, item.id),
        "source": wrapped(item.source), "kind": item.kind, "subject": names.encrypt(tenant, item.subject),
        "access": [wrapped(group) for group in item.access],
        "parents": [names.encrypt(tenant, parent) for parent in item.parents],
        "classification": item.classification, "since": since, "until": OPEN,
        "starts": day_number(item.valid_from, otherwise=0), "ends": day_number(item.valid_to, otherwise=OPEN),
        "expires": second_number(item.expires), "source_digest": item.source_digest, "owner": item.owner,
        "embedding": item.embedding, "position": item.position, "version": item.version, "trust": item.trust,
        **({"created": item.created} if item.created else {}),
    }  # fmt: skip


def words_of(items: Sequence[Item]) -> list[str]:
    """Return the words of each item for keyword search: its title and text, stemmed."""
    return stems([f"{item.title} {item.text}" for item in items])


def ttl_of(properties: Mapping[str, Any], *, held: bool) -> str | None:
    """Return when the server's clock may remove an object; None when a hold covers it or it has no end."""
    expires = int(properties["expires"])
    return None if held or expires >= OPEN else _instant(expires)


def item_of(properties: Mapping[str, Any], vector: Sequence[float], *, tenant: str, names: IdCipher) -> Item:
    """Return the item of an object's properties."""
    p = properties
    starts, ends, expires = int(p["starts"]), int(p["ends"]), int(p["expires"])
    return Item(
        id=names.decrypt(tenant, p["item"]), text=p["text"], vector=tuple(vector), title=p["title"],
        source=unwrapped(p["source"]), source_digest=p["source_digest"], kind=p["kind"],
        subject=names.decrypt(tenant, p["subject"]),
        access=tuple(unwrapped(group) for group in p["access"] or ()),
        # Sorted as the writer sorted them: encrypted names sort otherwise.
        parents=tuple(sorted(names.decrypt(tenant, parent) for parent in p["parents"] or ())),
        classification=int(p["classification"]), owner=p["owner"], trust=int(p["trust"]),
        position=int(p["position"]), version=int(p["version"]), created=p["created"] or None,
        valid_from=_day(starts) if starts else None, valid_to=_day(ends) if ends < OPEN else None,
        expires=_instant(expires) if expires < OPEN else None, embedding=p["embedding"],
    )  # fmt: skip
