"""Convert items to the server's objects and back.

An object is a row: an item and the versions in which it is active, from `since` until before `until`.
Staged rows begin with the next version; episodic rows begin with 0 and have no end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.context import moment
from workbench.memory.cipher import IdCipher
from workbench.memory.stemming import stems
from workbench.types import Item

#: The end of an item without one. Numbers cross gRPC as doubles, so nothing may be 2**53 or more.
OPEN = 2**40
#: The entry of `access` that rows with `marked` entries have.
MARKED = "marked"
#: Seconds of a day.
DAY_S = 86_400
#: The beginning of day 1, from which days and seconds count.
_FIRST = dt.datetime.min  # noqa: DTZ901


def wrapped(name: str) -> str:
    """Return a name as filters compare it: the server trims white space at the ends of a text."""
    return f"[{name}]"


def unwrapped(name: str) -> str:
    """Return the name inside `wrapped`."""
    return name[1:-1]


def marked(attribute: str, value: object) -> str:
    """Return the entry of `access` for an attribute without an index of its own; no group has such an entry.

    A row has entries for its owner, its trust and an empty subject, which the server does not index.
    """
    return f"{attribute}{wrapped(str(value))}"


def day_number(day: str | None, *, otherwise: int) -> int:
    """Return an ISO day as a number of the same order."""
    return dt.date.fromisoformat(day).toordinal() if day else otherwise


def second_number(instant: str | None) -> int:
    """Return a UTC instant as a number of the same order; `OPEN` without one."""
    if instant is None:
        return OPEN
    since = moment(instant).replace(tzinfo=None) - _FIRST
    return (since.days + 1) * DAY_S + since.seconds


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
        "access": [*map(wrapped, item.access), *_marks(item)],
        "parents": [names.encrypt(tenant, parent) for parent in item.parents],
        "classification": item.classification, "since": since, "until": OPEN,
        "starts": day_number(item.valid_from, otherwise=0), "ends": day_number(item.valid_to, otherwise=OPEN),
        "expires": second_number(item.expires), "source_digest": item.source_digest, "owner": item.owner,
        "embedding": item.embedding, "position": item.position, "version": item.version, "trust": item.trust,
        **({"created": item.created} if item.created else {}),
    }  # fmt: skip


def _marks(item: Item) -> list[str]:
    """Return the entries of `access` that are no groups."""
    marks = [marked("owner", item.owner), marked("trust", item.trust), MARKED]
    return marks if item.subject else [*marks, marked("subject", "")]


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
        access=tuple(unwrapped(group) for group in p["access"] or () if group.startswith("[")),
        # Sorted as the writer sorted them: encrypted names sort otherwise.
        parents=tuple(sorted(names.decrypt(tenant, parent) for parent in p["parents"] or ())),
        classification=int(p["classification"]), owner=p["owner"], trust=int(p["trust"]),
        position=int(p["position"]), version=int(p["version"]), created=p["created"] or None,
        valid_from=_day(starts) if starts else None, valid_to=_day(ends) if ends < OPEN else None,
        expires=_instant(expires) if expires < OPEN else None, embedding=p["embedding"],
    )  # fmt: skip
