"""Define a memory's collections on a Weaviate server, and compare them with existing ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError
from workbench.memory.cipher import IdCipher

#: Counts changes of the layout below; each number has collections of its own.
SCHEMA = 1

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
    given = {prop["name"]: prop for prop in found.get("properties", ())}
    for prop in wanted["properties"]:
        other = given.get(prop["name"], {})
        if any(other.get(key) != value for key, value in prop.items()):
            different.add(prop["name"])
    tenancy = found.get("multiTenancyConfig", {})
    return different | ({"multiTenancyConfig"} if not tenancy.get("enabled") else set())
