"""What a memory is in Weaviate: its collections, how an item becomes an object, and an object an item.

An object is a row: an item and the versions between which it is in force, from `since` until before
`until`. Staged rows begin with the next version; what is written by use begins with 0 and stays open.
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
#: The end of what has none. Numbers cross gRPC as doubles, so nothing may be 2**53 or more.
OPEN = 2**40
_DAY_S = 86_400

#: Stemmed already (memory/stems.py): the server is to take them as they are.
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
#: Of few different values, where one bitmap for each is quicker than an index of ranges.
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
#: What an object is written again with.
WHOLE = tuple(_PROPERTIES)
#: What an item is made of again.
ALL = tuple(name for name in _PROPERTIES if name != "words")
#: What of a row says which item it is, of which versions and of which holds.
BRIEF = ("item", "source", "kind", "subject", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """How vectors are indexed, as a memory's spec says.

    `ef` and `flat_cutoff` (searches that see fewer items are exact) may be changed at any time,
    `ef_construction`, `max_connections` and `replicas` only in a new memory. `ttl` lets the server remove
    what has expired by its own clock.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    ef: int = 512
    ef_construction: int = 128
    max_connections: int = 32
    flat_cutoff: int = 40_000
    replicas: int = 1
    ttl: bool = True


def collection_name(memory: str) -> str:
    """The alias of a memory's items: injective, and no two names differ in case alone."""
    safe = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else f"_{ord(c):x}_" for c in memory)
    return f"Wb_{safe}"


def description(memory: str, names: IdCipher) -> str:
    """What a collection says of itself."""
    return files.canonical({"memory": memory, "schema": SCHEMA, "names": names.fingerprint}).decode()


def items_collection(name: str, about: str, index: IndexSettings) -> dict[str, Any]:
    """The collection of all tenants' rows. The distance is the negative inner product."""
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
    """The collection of one record a tenant: which version is in force, and what is held."""
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
    """ConfigError unless a collection of that name is the memory that is meant."""
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
    """Whether settings that may change differ from those of the collection."""
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
    """A name as it is filtered by: the server trims what stands at the ends of a text."""
    return f"[{name}]"


def unwrapped(name: str) -> str:
    """The name that was wrapped."""
    return name[1:-1]


def day_number(day: str | None, *, otherwise: int) -> int:
    """An ISO day as a number that orders as days do."""
    return dt.date.fromisoformat(day).toordinal() if day else otherwise


def second_number(instant: str | None) -> int:
    """A UTC instant as a number that orders as instants do; without one, the open end."""
    if instant is None:
        return OPEN
    when = moment(instant)
    return when.toordinal() * _DAY_S + when.hour * 3600 + when.minute * 60 + when.second


def _day(number: int) -> str:
    return dt.date.fromordinal(number).isoformat()


def _instant(number: int) -> str:
    days, seconds = divmod(number, _DAY_S)
    minutes, second = divmod(seconds, 60)
    return f"{_day(days)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}Z"


def properties_of(item: Item, *, words: str, tenant: str, names: IdCipher, since: int) -> dict[str, Any]:
    """An item as an object's properties, in force from version `since` on; see `ttl_of` for one more.

    `words` are those of `words_of`.
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
    """What each item is found by, word by word: its title and its text, stemmed."""
    return stems([f"{item.title} {item.text}" for item in items])


def ttl_of(properties: Mapping[str, Any], *, held: bool) -> str | None:
    """When the server may remove an object by its own clock; never one that is held."""
    expires = int(properties["expires"])
    return None if held or expires >= OPEN else _instant(expires)


def item_of(properties: Mapping[str, Any], vector: Sequence[float], *, tenant: str, names: IdCipher) -> Item:
    """The item of an object's properties, all of them."""
    p = properties
    starts, ends, expires = int(p["starts"]), int(p["ends"]), int(p["expires"])
    return Item(
        id=names.decrypt(tenant, p["item"]), text=p["text"], vector=tuple(vector), title=p["title"],
        source=unwrapped(p["source"]), source_digest=p["source_digest"], kind=p["kind"],
        subject=names.decrypt(tenant, p["subject"]),
        access=tuple(unwrapped(group) for group in p["access"] or ()),
        # Sorted as they were given: sealed names sort otherwise.
        parents=tuple(sorted(names.decrypt(tenant, parent) for parent in p["parents"] or ())),
        classification=int(p["classification"]), owner=p["owner"], trust=int(p["trust"]),
        position=int(p["position"]), version=int(p["version"]), created=p["created"] or None,
        valid_from=_day(starts) if starts else None, valid_to=_day(ends) if ends < OPEN else None,
        expires=_instant(expires) if expires < OPEN else None, embedding=p["embedding"],
    )  # fmt: skip
