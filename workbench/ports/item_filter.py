"""Filters of items: a condition on their attributes, which every store applies inside a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from workbench.types import Item

_Operator = Literal["and", "or", "in", "not in", "<=", ">"]
_Value = str | int
_Reader = Callable[[Item], str | int | tuple[str, ...]]
#: Attributes that hold texts: `acl` is an item's access list, each of the others is one text.
TEXTS: Final = frozenset({"acl", "owner", "kind", "source", "subject"})
#: Attributes that hold whole numbers. A day is a number like 20261125, an instant one like 20261125060000.
NUMBERS: Final = frozenset({"classification", "trust", "valid_from", "valid_to", "expires"})
#: `valid_to` and `expires` of an item that has none: later than any day and any instant.
NO_END: Final = {"valid_to": "9999-12-32", "expires": "9999-12-31T24:00:00Z"}
_NEGATED: Final[Mapping[_Operator, _Operator]] = {
    "in": "not in", "not in": "in", "<=": ">", ">": "<="
}  # fmt: skip
#: The comparisons that stand first among others, so that `ItemFilter.lists` finds them.
_FIRST: Final[Mapping[tuple[str, str], int]] = {("in", "acl"): 0, ("<=", "classification"): 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilter:
    """A condition on the attributes of an item.

    `and` and `or` combine `parts`; without parts they hold always and never. `in` and `not in` compare the
    attribute with `values`: an access list is in them when one of its entries is. `<=` and `>` compare a
    number with the only value.
    """

    op: _Operator
    attribute: str = ""
    values: tuple[_Value, ...] = ()
    parts: tuple[ItemFilter, ...] = ()

    def admits(self, item: Item) -> bool:
        """Return whether the condition holds for `item`."""
        if self.op == "and":
            return all(part.admits(item) for part in self.parts)
        if self.op == "or":
            return any(part.admits(item) for part in self.parts)
        read = _READ[self.attribute](item)
        if isinstance(read, tuple):
            return (not set(read).isdisjoint(self.values)) == (self.op == "in")
        if self.op in {"in", "not in"}:
            return (read in self.values) == (self.op == "in")
        return (int(read) <= int(self.values[0])) == (self.op == "<=")

    def negated(self) -> ItemFilter:
        """Return the condition that holds for exactly the other items."""
        if self.op == "and":
            return any_of(part.negated() for part in self.parts)
        if self.op == "or":
            return all_of(part.negated() for part in self.parts)
        return ItemFilter(op=_NEGATED[self.op], attribute=self.attribute, values=self.values)

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that the condition compares."""
        own = frozenset({self.attribute} - {""})
        return own.union(*(part.attributes for part in self.parts))

    @property
    def lists(self) -> tuple[tuple[str, ...], int] | None:
        """The groups and the clearance if the condition has access lists and levels only, else None.

        Stores apply this form fastest.
        """
        if self.op == "or" and not self.parts:
            return (), 0
        if self.op != "and" or [(part.op, part.attribute) for part in self.parts] != [*_FIRST]:
            return None
        return tuple(map(str, self.parts[0].values)), int(self.parts[1].values[0])


def one_of(attribute: str, values: Iterable[_Value]) -> ItemFilter:
    """Return the condition that the attribute is one of `values`."""
    kept = tuple(dict.fromkeys(values))
    return ItemFilter(op="in", attribute=attribute, values=kept) if kept else any_of([])


def at_most(attribute: str, number: int) -> ItemFilter:
    """Return the condition that the attribute, a number, is at most `number`."""
    return ItemFilter(op="<=", attribute=attribute, values=(number,))


def by_lists(groups: Iterable[str], clearance: int) -> ItemFilter:
    """Return the condition that an access list names one of `groups`, and a level is at most `clearance`."""
    return all_of([one_of("acl", groups), at_most("classification", clearance)])


def all_of(parts: Iterable[ItemFilter]) -> ItemFilter:
    """Return the condition that all of `parts` hold. Conditions on one attribute are merged."""
    kept: list[ItemFilter] = []
    for part in _flat("and", parts):
        if part.op == "or" and not part.parts:
            return part
        for place, other in enumerate(kept):
            if (both := _both(other, part)) is not None:
                kept[place] = both
                break
        else:
            kept.append(part)
    if any(part.op == "in" and not part.values for part in kept):
        return any_of([])
    kept.sort(key=lambda part: _FIRST.get((part.op, part.attribute), 2))
    return kept[0] if len(kept) == 1 else ItemFilter(op="and", parts=tuple(kept))


def any_of(parts: Iterable[ItemFilter]) -> ItemFilter:
    """Return the condition that one of `parts` holds."""
    kept = tuple(dict.fromkeys(_flat("or", parts)))
    for part in kept:
        if part.op == "and" and not part.parts:
            return part
    return kept[0] if len(kept) == 1 else ItemFilter(op="or", parts=kept)


def attributes_of(item: Item) -> dict[str, str | int | tuple[str, ...]]:
    """Return an item's attributes by name, as policies compare them."""
    return {name: read(item) for name, read in _READ.items()}


def readers_of(names: Iterable[str] | None) -> tuple[_Reader, ...]:
    """Return functions that read these attributes of an item; without names, all attributes and the id."""
    return (lambda item: item.id, *_READ.values()) if names is None else tuple(_READ[n] for n in names)


def _flat(op: _Operator, parts: Iterable[ItemFilter]) -> Iterator[ItemFilter]:
    """Yield the parts, with those of a part of the same operator in its place."""
    for part in parts:
        if part.op == op:
            yield from part.parts
        else:
            yield part


def _both(one: ItemFilter, other: ItemFilter) -> ItemFilter | None:
    """Return one condition that holds where both do, or None if there is none as short."""
    if one == other:
        return one
    if not one.attribute or (one.op, one.attribute) != (other.op, other.attribute):
        return None
    if one.op == "<=":
        return at_most(one.attribute, min(int(one.values[0]), int(other.values[0])))
    if one.op != "in":
        return None
    common = tuple(value for value in one.values if value in other.values)
    # A list of several entries may be in both without an entry in common.
    if one.attribute == "acl" and len(common) < min(len(one.values), len(other.values)):
        return None
    return ItemFilter(op="in", attribute=one.attribute, values=common)


def number_of(text: str) -> int:
    """Return a day or an instant as a number of the same order."""
    return int("".join(filter(str.isdigit, text)))


_READ: Final[Mapping[str, _Reader]] = {
    "acl": lambda item: item.access,
    "owner": lambda item: item.owner,
    "kind": lambda item: item.kind,
    "source": lambda item: item.source,
    "subject": lambda item: item.subject,
    "classification": lambda item: item.classification,
    "trust": lambda item: item.trust,
    "valid_from": lambda item: number_of(item.valid_from) if item.valid_from else 0,
    "valid_to": lambda item: number_of(item.valid_to or NO_END["valid_to"]),
    "expires": lambda item: number_of(item.expires or NO_END["expires"]),
}
