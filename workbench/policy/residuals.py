"""Translate what is left of the policies for unknown items into one condition that memories apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from workbench.policy.cedar import NAMESPACE
from workbench.ports import ItemFilter
from workbench.ports.item_filter import NUMBERS, TEXTS, all_of, any_of, at_most, one_of
from workbench.types import JSON

_ITEM: Final = f"{NAMESPACE}::Item"
_ALWAYS: Final = all_of([])
_NEVER: Final = any_of([])
#: The least number of Cedar; one less would fit no store.
_LEAST: Final = -(2**63)
_RESOURCE: Final = {"unknown": [{"Value": "resource"}]}


class _UntranslatableError(Exception):
    """A part of a policy that no store can apply."""


def condition_of(
    residuals: Mapping[str, JSON], known: Mapping[str, str]
) -> tuple[ItemFilter, tuple[str, ...]]:
    """Return the condition under which the policies permit an item, and the ids of untranslatable ones.

    `residuals` are by `@id`; `known` are the attributes that all items of the memory have in common. An
    untranslatable `permit` permits nothing, an untranslatable `forbid` forbids every item.
    """
    permits: list[ItemFilter] = []
    forbids: list[ItemFilter] = []
    untranslatable = []
    translated = _Translator(known)
    for name, policy in sorted(residuals.items()):
        permit = policy["effect"] == "permit"
        try:
            condition = all_of(map(translated.clause, policy["conditions"]))
        except _UntranslatableError:
            condition = _NEVER if permit else _ALWAYS
            untranslatable.append(name)
        (permits if permit else forbids).append(condition)
    return all_of([any_of(permits), any_of(forbids).negated()]), tuple(untranslatable)


class _Translator:
    """Translates expressions over an unknown item, of which some attributes are known."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._operators: Mapping[str, Callable[[Any], ItemFilter]] = {
            "Value": self._constant,
            "&&": self._both,
            "||": self._either,
            "!": lambda one: self.condition(one["arg"]).negated(),
            "if-then-else": self._choice,
            "is": self._is,
            "in": self._in,
            "has": self._has,
            "==": self._equal,
            "<": lambda both: self._compared(both, less=True),
            "<=": lambda both: self._compared(both, less=False),
            "contains": self._contains,
            "containsAny": self._contains_any,
            "containsAll": self._contains_all,
        }

    def clause(self, clause: JSON) -> ItemFilter:
        """Return the condition of a `when` or an `unless`."""
        body = self.condition(clause["body"])
        return body if clause["kind"] == "when" else body.negated()

    def condition(self, node: Any) -> ItemFilter:
        """Return the condition of an expression; raise _UntranslatableError where no store can apply it."""
        if not isinstance(node, Mapping) or len(node) != 1:
            raise _UntranslatableError
        ((operator, operands),) = node.items()
        translate = self._operators.get(operator)
        if translate is None:
            raise _UntranslatableError
        return translate(operands)

    def _constant(self, value: Any) -> ItemFilter:
        if not isinstance(value, bool):
            raise _UntranslatableError
        return _ALWAYS if value else _NEVER

    def _both(self, operands: Any) -> ItemFilter:
        """Return `left && right`; a policy on another type of resource ends at its left side, as in Cedar."""
        left = self.condition(operands["left"])
        return left if left == _NEVER else all_of([left, self.condition(operands["right"])])

    def _either(self, operands: Any) -> ItemFilter:
        left = self.condition(operands["left"])
        return left if left == _ALWAYS else any_of([left, self.condition(operands["right"])])

    def _choice(self, parts: Any) -> ItemFilter:
        test = self.condition(parts["if"])
        if test in (_ALWAYS, _NEVER):
            return self.condition(parts["then" if test == _ALWAYS else "else"])
        then, otherwise = self.condition(parts["then"]), self.condition(parts["else"])
        return any_of([all_of([test, then]), all_of([test.negated(), otherwise])])

    def _is(self, operands: Any) -> ItemFilter:
        if operands["left"] != _RESOURCE or "in" in operands:
            raise _UntranslatableError
        return self._constant(operands["entity_type"] == _ITEM)

    def _in(self, operands: Any) -> ItemFilter:
        """Return Never for an entity of another type: an item is in itself only."""
        entity = self._value(operands["right"])
        if operands["left"] != _RESOURCE or not isinstance(entity, Mapping) or entity["type"] == _ITEM:
            raise _UntranslatableError
        return _NEVER

    def _has(self, operands: Any) -> ItemFilter:
        if operands["left"] != _RESOURCE:
            raise _UntranslatableError
        return self._constant(operands["attr"] in TEXTS | NUMBERS | self._known.keys())

    def _equal(self, both: Any) -> ItemFilter:
        left, right = both["left"], both["right"]
        if _RESOURCE in (left, right):
            return self._in({"left": _RESOURCE, "right": right if left == _RESOURCE else left})
        if (attribute := self._attribute(left)) is not None:
            return _among(attribute, [self._value(right)])
        if (attribute := self._attribute(right)) is not None:
            return _among(attribute, [self._value(left)])
        one, other = self._value(left), self._value(right)
        if isinstance(one, list) or isinstance(other, list):
            raise _UntranslatableError  # sets, which are equal in any order
        return self._constant(type(one) is type(other) and one == other)

    def _compared(self, both: Any, *, less: bool) -> ItemFilter:
        """Return `left <= right`, or `left < right` with `less`."""
        attribute = self._attribute(both["left"])
        if attribute is not None:
            number = self._number(attribute, both["right"])
            return at_most(attribute, max(number - less, _LEAST))
        attribute = self._attribute(both["right"])
        if attribute is None:
            raise _UntranslatableError
        number = self._number(attribute, both["left"])
        return at_most(attribute, number if less else max(number - 1, _LEAST)).negated()

    def _contains(self, both: Any) -> ItemFilter:
        attribute = self._attribute(both["left"])
        if attribute is not None:
            return _listed(attribute, [self._value(both["right"])])
        attribute = self._attribute(both["right"])
        if attribute is None:
            return self._is_member(self._value(both["right"]), self._values(both["left"]))
        return _among(attribute, self._values(both["left"]))

    def _is_member(self, value: Any, values: list[Any]) -> ItemFilter:
        """Return whether a set has a text, such as the tenant that all items of the memory have."""
        if type(value) is not str:
            raise _UntranslatableError
        return self._constant(any(type(one) is str and one == value for one in values))

    def _contains_any(self, both: Any) -> ItemFilter:
        attribute = self._attribute(both["left"])
        if attribute is not None:
            return _listed(attribute, self._values(both["right"]))
        return _listed(self._attribute(both["right"]), self._values(both["left"]))

    def _contains_all(self, both: Any) -> ItemFilter:
        attribute = self._attribute(both["left"])
        return all_of(_listed(attribute, [value]) for value in self._values(both["right"]))

    def _attribute(self, node: Any) -> str | None:
        """Return the name of the item's attribute that a node reads, or None if it reads none."""
        read = node.get(".")
        if read is None or read["attr"] in self._known:
            return None
        if read["left"] != _RESOURCE or read["attr"] not in TEXTS | NUMBERS:
            raise _UntranslatableError
        return str(read["attr"])

    def _number(self, attribute: str, node: Any) -> int:
        number = self._value(node)
        if attribute not in NUMBERS or type(number) is not int:  # the engine reports an error instead
            raise _UntranslatableError
        return number

    def _value(self, node: Any) -> Any:
        """Return the constant that a node is; entities are mappings with `type` and `id`."""
        if "Set" in node:
            return [self._value(member) for member in node["Set"]]
        read = node.get(".")
        if read is not None and read["left"] == _RESOURCE and read["attr"] in self._known:
            return self._known[read["attr"]]
        if "Value" not in node:
            raise _UntranslatableError
        value = node["Value"]
        if isinstance(value, Mapping):
            if "__entity" not in value:
                raise _UntranslatableError
            return value["__entity"]
        return value

    def _values(self, node: Any) -> list[Any]:
        values = self._value(node)
        if not isinstance(values, list):
            raise _UntranslatableError
        return values


def _among(attribute: str, values: list[Any]) -> ItemFilter:
    """Return the condition that an attribute of one value equals one of `values`, each of any type."""
    if attribute == "acl":
        raise _UntranslatableError
    wanted = int if attribute in NUMBERS else str
    return one_of(attribute, [value for value in values if type(value) is wanted])


def _listed(attribute: str | None, values: list[Any]) -> ItemFilter:
    """Return the condition that the access list has one of `values`; other attributes are no sets."""
    if attribute != "acl":
        raise _UntranslatableError
    return one_of("acl", [value for value in values if type(value) is str])
