"""Passages by reference: a caller names hits that the gateway served to it, and the gateway keeps them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from workbench import files
from workbench.errors import ConfigError, RefusedError
from workbench.remote import values
from workbench.types import JSON, Hit

#: The reason of the error for a passage that the gateway does not know.
UNSERVED: Final = "unserved"
#: Hits that are kept for one caller; a prompt is rendered soon after its search.
_MOST_KEPT: Final = 5_000
#: Hits whose marks are kept.
_MOST_MARKED: Final = 1_000
_HINT: Final = "search again in this process: hits = ws.memory(…).search(…)"


@functools.lru_cache(maxsize=_MOST_MARKED)
def mark_of(hit: Hit) -> str:
    """Return a digest of a hit as a gateway serves it; a prompt and its call state the same hits."""
    # Without the fields that the caller's side of a search sets, and those that equal hits may differ in.
    plain = dataclasses.replace(
        hit, stale=False, data_class="", valid_to=None, words_rank=None, vector_rank=None
    )
    return hashlib.blake2b(orjson.dumps(plain), digest_size=12).hexdigest()


class ServedHits:
    """The hits that one caller was given, by their marks; the oldest are forgotten.

    The gateway and its client each keep them: the client to know which it may refer to.
    """

    __slots__ = ("_hits",)

    def __init__(self) -> None:
        self._hits: OrderedDict[str, Hit] = OrderedDict()

    def note(self, hits: Iterable[Any], *, data_class: str = "") -> None:
        """Keep the hits among the values of a result, with the memory's class of data."""
        for hit in hits:
            if isinstance(hit, Hit):
                mark = mark_of(hit)
                self._hits[mark] = dataclasses.replace(hit, data_class=data_class) if data_class else hit
                self._hits.move_to_end(mark)
        while len(self._hits) > _MOST_KEPT:
            self._hits.popitem(last=False)

    def forget(self) -> bool:
        """Forget every hit; return whether there was one."""
        had = bool(self._hits)
        self._hits.clear()
        return had

    def stated(self, hit: Hit) -> JSON:
        """Return a reference to a served hit, or the whole of another one."""
        mark = mark_of(hit)
        if mark in self._hits:
            return {"id": hit.id, "mark": mark, **({"stale": True} if hit.stale else {})}
        return {"hit": values.plain(hit)}

    def resolved(self, stated: JSON, *, strict: bool) -> Hit:
        """Return the hit that a caller states.

        Raise RefusedError, which names it, for one that was not served to this caller, and if `strict` for a
        hit that the caller states as a whole.
        """
        if "hit" in stated:
            hit = values.hit_of(stated["hit"])
            if strict:
                raise _unserved(hit.id, "is not as it was served")
            return hit
        served = self._hits.get(stated["mark"])
        if served is None or served.id != stated["id"]:
            raise _unserved(stated["id"], "was not served to this caller")
        return dataclasses.replace(served, stale=True) if stated.get("stale") else served


def _unserved(name: str, problem: str) -> RefusedError:
    error = RefusedError(f"the passage {files.shortened(name)!r} {problem}", hint=_HINT)
    error.reason = UNSERVED
    return error


def stated_inputs(inputs: Mapping[str, Any], served: ServedHits) -> JSON | None:
    """Return a prompt's inputs as JSON; None if a value has no exact form in it."""
    found: dict[str, JSON] = {}
    for name, value in inputs.items():
        if _are_hits(value):
            found[name] = {"hits": [served.stated(hit) for hit in value]}
        else:
            found[name] = {"value": value}
    try:
        encoded = orjson.dumps(
            found, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
        )
        if b"null" in encoded:
            files.check_exact(found, where="inputs")
    except (TypeError, ConfigError):
        return None
    return found


def read_inputs(stated: JSON, served: ServedHits, *, strict: bool) -> dict[str, Any]:
    """Return the inputs that a caller states; RefusedError as `ServedHits.resolved` raises it."""
    return {
        name: [served.resolved(hit, strict=strict) for hit in value["hits"]]
        if "hits" in value
        else value["value"]
        for name, value in stated.items()
    }


def check_inputs(stated: object) -> JSON:
    """Return the inputs of a prompt in their stated form; raise TypeError or ValueError otherwise."""
    if not isinstance(stated, dict):
        raise TypeError("not an object")
    for value in stated.values():
        if not isinstance(value, dict) or set(value) not in ({"hits"}, {"value"}):
            raise ValueError('an input is {"value": …} or {"hits": […]}')
        if "hits" in value:
            check_passages(value["hits"])
    return stated


def check_passages(stated: object) -> tuple[JSON, ...]:
    """Return references to hits, and hits as a whole; raise TypeError or ValueError for another form."""
    if not isinstance(stated, list):
        raise TypeError("not a list")
    for hit in stated:
        if not isinstance(hit, dict) or not (set(hit) == {"hit"} or _is_reference(hit)):
            raise ValueError('a passage is {"id": …, "mark": …} or {"hit": {…}}')
    return tuple(stated)


def _is_reference(hit: Mapping[str, Any]) -> bool:
    texts = isinstance(hit.get("id"), str) and isinstance(hit.get("mark"), str)
    return texts and set(hit) <= {"id", "mark", "stale"} and hit.get("stale", True) is True


def _are_hits(value: object) -> bool:
    listed: Collection[Any] = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return bool(listed) and all(isinstance(item, Hit) for item in listed)
