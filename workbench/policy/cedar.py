"""Cedar: parses, evaluates and validates policies; the only file that knows the engine."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from workbench.errors import ConfigError
from workbench.types import JSON

if TYPE_CHECKING:
    import cedarpy

_T = TypeVar("_T")
NAMESPACE: Final = "Workbench"
#: Most brackets in brackets, and most operators in one policy: the engine's parser recurses, and a deeper
#: text would end the process.
_MOST_DEEP, _MOST_OPERATORS = 100, 1_000
_SPLIT: Final = 'write several policies, or compare with a set: ["a", "b"].contains(…)'
_SIGNS: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|//[^\n]*|&&|\|\||\b(?:if|is|in|has|like)\b|[][(){}<>;.+*!-]', re.DOTALL
)
_GAP: Final = re.compile(r"(?:\s|//[^\n]*)*")
_ALLOW: Final = "Allow"
_ESCAPES: Final = {
    "\0": "\\0", "\t": "\\t", "\r": "\\r", "\n": "\\n", "'": "\\'", '"': '\\"', "\\": "\\\\",
}  # fmt: skip
_INTERRUPTS: Final = (KeyboardInterrupt, SystemExit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPolicy:
    """One policy: its `@id`, or FILE#N without one, its `@reason`, and its syntax tree as Cedar's JSON.

    `annotated` is whether it states an `@id`. `number` is its place in `file`, from 0.
    """

    id: str
    file: str
    number: int
    annotated: bool
    reason: str
    tree: JSON = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the engine answered: an error makes `allowed` False, whatever the engine decided."""

    allowed: bool
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def parse_policies(text: str, *, file: str) -> tuple[ParsedPolicy, ...]:
    """Return the policies of a text; raise ConfigError for a syntax error, a template or an empty file."""
    import cedarpy

    _check_depth(text, file)
    try:
        parsed = _guarded(lambda: json.loads(cedarpy.policies_to_json_str(text)))
    except ValueError as error:
        place = f"{file}: line {_line_of_error(text)}"
        raise ConfigError(
            f"{place}: the policy that begins there is no Cedar: {error}",
            hint=f"correct {file}; docs/policy.md shows policies",
        ) from None
    if parsed["templates"]:
        raise ConfigError(
            f"{file}: it has a template, with ?principal or ?resource, and nothing links templates",
            hint="write one policy with a condition instead",
        )
    trees = parsed["staticPolicies"]
    if not trees:
        raise ConfigError(f"{file}: it holds no policy", hint=f"write a policy, or remove {file}")
    return tuple(_parsed(tree, file, number) for number, tree in enumerate(_in_order(trees)))


def _line_of_error(text: str) -> int:
    """Return the line on which the first policy begins that the engine's parser refuses alone."""
    import cedarpy

    begin = 0
    for end in [*(found.end() for found in _SIGNS.finditer(text) if found[0] == ";"), len(text)]:
        try:
            _guarded(lambda part=text[begin:end]: cedarpy.policies_to_json_str(part))  # type: ignore[misc]
        except ValueError:
            break
        begin = end
    gap = _GAP.match(text, begin)
    return text.count("\n", 0, gap.end() if gap else begin) + 1


def _check_depth(text: str, file: str, *, opening: str = "([{", closing: str = ")]}") -> None:
    """Raise ConfigError for a text on which the engine's parser could run out of stack."""
    depth = operators = 0
    for found in _SIGNS.finditer(text):
        sign = found[0]
        if sign in opening:
            depth += 1
        elif sign in closing:
            depth -= 1
        elif sign == ";":
            operators = 0
        elif sign[0] not in '"/<>':
            operators += 1
        if depth > _MOST_DEEP or operators > _MOST_OPERATORS:
            what = (
                f"{_MOST_DEEP} brackets in brackets"
                if depth > _MOST_DEEP
                else f"{_MOST_OPERATORS:,} operators"
            )
            raise ConfigError(
                f"{file}: line {text.count(chr(10), 0, found.start()) + 1}: more than {what}", hint=_SPLIT
            )


def _guarded(parse: Callable[[], _T]) -> _T:
    """Return what the engine parsed; raise ValueError also where it panics or nests too deep."""
    try:
        return parse()
    except _INTERRUPTS:
        raise
    except ValueError:
        raise
    except RecursionError:
        raise ValueError("an expression is nested too deep") from None
    except BaseException as error:  # noqa: BLE001 - a panic of the engine is no Exception
        raise ValueError(_error_of(error)) from None


def _in_order(trees: Mapping[str, JSON]) -> list[JSON]:
    return [trees[f"policy{number}"] for number in range(len(trees))]


def _parsed(tree: JSON, file: str, number: int) -> ParsedPolicy:
    notes = tree.get("annotations") or {}
    name = notes.get("id") or ""
    return ParsedPolicy(
        id=name or f"{file}#{number + 1}",
        file=file,
        number=number,
        annotated=bool(name),
        reason=notes.get("reason") or "",
        tree=tree,
    )


def actions_of(policy: ParsedPolicy, groups: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return the actions that the head of a policy names, with those of each group; all without one."""
    head = policy.tree["action"]
    every = frozenset(action for members in groups.values() for action in members)
    if head["op"] == "All":
        return every
    named = [entity["id"] for entity in head.get("entities", [head.get("entity")])]
    if head["op"] == "==":
        return frozenset(named)
    return frozenset(action for name in named for action in groups.get(name, (name,)))


def type_of(policy: ParsedPolicy) -> str | None:
    """Return the type of resource that the head of a policy names, None for any."""
    head = policy.tree["resource"]
    named: str = head.get("entity_type") or (head.get("entity") or {}).get("type") or ""
    return named.removeprefix(f"{NAMESPACE}::") if named and head["op"] != "in" else None


def groups_named(policy: ParsedPolicy) -> frozenset[str]:
    """Return the groups that a policy names, anywhere."""
    found: set[str] = set()
    rest: list[Any] = [policy.tree]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            if node.get("type") == f"{NAMESPACE}::Group" and isinstance(node.get("id"), str):
                found.add(node["id"])
            rest += node.values()
        elif isinstance(node, list):
            rest += node
    return frozenset(found)


def groups_of(entities: str) -> frozenset[str]:
    """Return the groups of a valid entities.json, and those that they are in."""
    listed = json.loads(entities)
    return frozenset(uid["id"] for e in listed for uid in (e["uid"], *e.get("parents", ())))


class CedarSet:
    """Policies, schema and groups that are parsed once. A policy's id in the engine is its own `id`."""

    def __init__(self, policies: Sequence[ParsedPolicy], *, schema: str, entities: str = "[]") -> None:
        """Parse the set; raise ConfigError for a wrong schema, wrong entities or two policies of one id."""
        import cedarpy

        self.schema = _parsed_schema(schema)
        trees = {policy.id: policy.tree for policy in policies}
        if len(trees) < len(policies):
            names = [policy.id for policy in policies]
            twice = next(name for name in names if names.count(name) > 1)
            places = " and ".join(dict.fromkeys(p.file.rpartition("/")[2] for p in policies if p.id == twice))
            raise ConfigError(
                f"the @id {twice!r} stands on two policies, in {places}",
                hint='give each policy an @id("…") of its own',
            )
        try:
            self._policies = _combined(trees)
        except ValueError as error:
            raise _uncombined(policies, error) from None
        try:
            self._base = _guarded(lambda: cedarpy.Entities.from_json_str(entities, self.schema))
        except ValueError as error:
            raise ConfigError(f"entities.json: {error}", hint="it may hold groups in groups alone") from None

    def evaluate(self, request: JSON, entities: Sequence[JSON]) -> Evaluated:
        """Return the decision on a request over entities; a failing engine allows nothing."""
        return self.evaluate_all([request], entities)[0]

    def evaluate_all(self, requests: Sequence[JSON], entities: Sequence[JSON]) -> list[Evaluated]:
        """Return one decision for each request over the same entities; as `evaluate` otherwise."""
        import cedarpy

        try:
            known = self._base.with_added_json_str(json.dumps(entities), self.schema)
            answers = cedarpy.is_authorized_batch(
                [dict(r) for r in requests], self._policies, known, self.schema
            )
            found = [_evaluated(answer) for answer in answers]
        except _INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the engine is no Exception
            return [Evaluated(allowed=False, errors=(_error_of(error),)) for _ in requests]
        if len(found) != len(requests):
            return [Evaluated(allowed=False, errors=("the engine left requests out",)) for _ in requests]
        return found

    def residual(self, request: JSON, entities: Sequence[JSON]) -> JSON:
        """Return what the engine answers to a request without a resource, with `residuals` by policy id.

        The principal and the action are texts, as `uid_text` returns them. A failing engine raises; what it
        leaves in `diagnostics.errors` is the caller's to deny.
        """
        import cedarpy

        answer = cedarpy.is_authorized_partial(
            dict(request), self._policies, json.dumps([*entities, *self._base_list()]), self.schema
        )
        found: JSON = answer._authz_resp  # noqa: SLF001 - `residuals` alone lacks the diagnostics
        return found

    def _base_list(self) -> list[JSON]:
        """Return the groups of entities.json, without the actions that the schema adds."""
        kinds = f"{NAMESPACE}::Action"
        return [e for e in json.loads(str(self._base)) if e["uid"]["type"] != kinds]


def _combined(trees: Mapping[str, JSON]) -> cedarpy.PolicySet:
    """Return the policies as one set; raise ValueError for those that the engine does not take."""
    import cedarpy

    whole = {"templates": {}, "templateLinks": [], "staticPolicies": trees}
    return _guarded(lambda: cedarpy.PolicySet.from_json_str(json.dumps(whole)))


def _uncombined(policies: Sequence[ParsedPolicy], error: ValueError) -> ConfigError:
    """Return the error for policies that make no set, with the first that makes none alone."""
    for policy in policies:
        try:
            _combined({policy.id: policy.tree})
        except ValueError:
            return ConfigError(
                f"{policy.file.rpartition('/')[2]}: the policy {policy.id!r} has more operators in a row "
                "than the engine takes, which is about 60",
                hint=_SPLIT,
            )
    return ConfigError(f"the policies cannot be combined: {error}", hint="workbench check")


def _evaluated(answer: cedarpy.AuthzResult) -> Evaluated:
    found = answer.diagnostics
    errors = tuple(map(str, found.errors))
    decision = answer.decision.value
    if decision not in {_ALLOW, "Deny"} and not errors:
        errors = ("the engine reached no decision",)
    policies = tuple(sorted(found.reasons))
    return Evaluated(allowed=decision == _ALLOW and not errors, policies=policies, errors=errors)


def _error_of(error: BaseException) -> str:
    """Return an engine's error without values: its own texts can quote attributes."""
    return f"the engine failed ({type(error).__name__})"


@functools.lru_cache(maxsize=8)
def _parsed_schema(text: str) -> cedarpy.Schema:
    """Return a parsed schema; raise ConfigError for a wrong one."""
    import cedarpy

    _check_depth(text, "schema.cedarschema", opening="([{<", closing=")]}>")
    try:
        return _guarded(lambda: cedarpy.Schema.from_str(text))
    except ValueError as error:
        raise ConfigError(
            f"schema.cedarschema: {error}", hint="git checkout -- pipelines/policies/schema.cedarschema"
        ) from None


def validation_errors(text: str, schema: str) -> Iterator[tuple[int, str]]:
    """Yield the place of a policy in the text and what is wrong with it by the schema."""
    import cedarpy

    for error in cedarpy.validate_policies(text, schema).errors:
        number = error.policy_id.removeprefix("policy")
        yield int(number) if number.isdecimal() else 0, error.error


def uid(kind: str, name: str) -> dict[str, str]:
    """Return an entity's identifier as the engine's JSON."""
    return {"type": f"{NAMESPACE}::{kind}", "id": name}


def uid_text(kind: str, name: str) -> str:
    """Return an entity's identifier as Cedar text, in the one form that partial evaluation accepts."""
    return f'{NAMESPACE}::{kind}::"{"".join(map(_escaped, name))}"'


def _escaped(sign: str) -> str:
    """Return a character as Rust's `escape_debug` writes it."""
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    return sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}"
