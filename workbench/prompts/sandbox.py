"""Jinja2's sandbox for prompts: the rounds of loops, the calls and the sizes of texts are bounded."""

from __future__ import annotations

import collections
import contextvars
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from workbench.prompts import control_tokens, fence

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

#: Characters of a rendered turn, and of each text or list that a template makes.
LONGEST: Final = 16 << 20
#: Rounds of loops in one rendering, which take about a second; a call counts as ten.
MOST_STEPS: Final = 1_000_000
_CALL: Final = 10
_EXPONENT: Final = 64
_BITS: Final = 1 << 16
#: Filters and methods whose number is a size, and those whose number or text is repeated for each sign.
_SIZED: Final = frozenset({"batch", "center", "ljust", "rjust", "slice", "to_bytes", "zfill"})
_REPEATED: Final = {"expandtabs": "\t", "indent": "\n"}
#: Digits after the point, and spaces of an indent of JSON.
_MOST_DIGITS: Final = 64
#: Characters, and items of lists, that are read for one step; and characters of a passage beside its text.
_READ, _ITEMS, _FACTS = 1_000, 2, 500
#: A width in a format: of more than 7 digits, or taken from a value.
_WIDE: Final = re.compile(r"\d{8,}|%[-+ #0]*\*|\{[^{}]*\{")
_TOO_WIDE: Final = "a width of more than 7 digits, or one that is a value"
_steps: contextvars.ContextVar[list[int]] = contextvars.ContextVar("_steps")


@functools.cache
def environment() -> SandboxedEnvironment:
    """Return the environment of prompts, in which a missing variable is an error and nothing is escaped."""
    from jinja2 import StrictUndefined

    # Prompts are plain text, not HTML: escaping would change the model's input.
    made = _sandbox()(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_without_control_tokens
    )
    made.filters["tojson"] = _json
    made.filters["fenced"] = fence.fenced
    for name in tuple(made.filters):
        made.filters[name] = _bounded(made.filters[name], name)
    made.filters |= {"_counted": _counted, "_joined": _joined}
    del made.globals["lipsum"], made.filters["random"]  # a rendering depends on its inputs only
    return made


def render(text: str, inputs: Mapping[str, Any]) -> str:
    """Return a turn rendered with `inputs`; OverflowError above a bound, and what the template raises."""
    pieces, size = [], 0
    token = _steps.set([0])
    try:
        for piece in _template(text).generate(**inputs):
            pieces.append(piece)
            size += len(piece)
            _check_size(size)
    finally:
        _steps.reset(token)
    return "".join(pieces)


@functools.lru_cache(maxsize=256)
def _template(text: str) -> Template:
    """Return a template whose loops count their rounds and whose `~` checks the size of its text."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    made = environment()

    class Bounds(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's name
            self.generic_visit(node)
            node.iter = _filtered(node.iter, "_counted")
            return node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the visitor's name
            self.generic_visit(node)
            return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    tree = Bounds().visit(made.parse(text)).set_environment(made)
    return made.template_class.from_code(made, made.compile(tree), made.make_globals(None))


def _without_control_tokens(value: Any) -> Any:
    """Return a value of an expression as a turn may hold it; the template's own text is not changed."""
    _weigh(value)
    return control_tokens.neutralised(value) if isinstance(value, str) else value


def _filtered(node: nodes.Node, name: str) -> nodes.Expr:
    from jinja2 import nodes

    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)


def _sandbox() -> type[SandboxedEnvironment]:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class BoundedSandbox(ImmutableSandboxedEnvironment):
        """Jinja2's sandbox, in which calls are counted and the sizes of results are bounded."""

        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _weigh(left, right)
            _check_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            _count(_CALL)
            method = getattr(function, "__wrapped__", function)  # Jinja2 wraps `format`
            owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
            _weigh(*args, *kwargs.values())
            if isinstance(owner, str | bytes | int):
                _check_made(name, owner, args, kwargs)
            return super().call(context, function, *args, **kwargs)

    return BoundedSandbox


def _count(steps: int) -> None:
    taken = _steps.get()
    taken[0] += steps
    if taken[0] > MOST_STEPS:
        raise OverflowError(f"more than {MOST_STEPS:,} rounds of loops and calls")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _count(1)
        yield item


def _joined(parts: Sequence[Any]) -> str:
    """Return the parts of `a ~ b` as one text."""
    from jinja2.runtime import markup_join

    _weigh(*parts)
    texts = [part if hasattr(part, "__html__") else str(part) for part in parts]
    _check_size(sum(map(len, texts)))
    return markup_join(texts)


def _bounded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a filter that refuses to make a text or list that is too long."""

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        passed = int(hasattr(function, "jinja_pass_arg"))  # the context comes before the value
        value, rest = args[passed], args[passed + 1 :]
        if name in {"join", "sum"} and not isinstance(value, Sequence):
            value = list(value)
        _weigh(value, *rest, *kwargs.values())
        _check_made(name, value, rest, kwargs)
        return function(*args[:passed], value, *rest, **kwargs)

    return bounded


def _weigh(*values: Any) -> None:
    """Count the steps of reading values; OverflowError where their text would be too long.

    A list may hold one long text a million times, so its items are read up to the bound.
    """
    from workbench.types import Hit

    size, items, waiting = 0, 0, collections.deque(values)
    while waiting:
        value = waiting.popleft()  # lists of lists are measured before their items are read
        parts: Iterable[Any] = ()
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, Hit):
            size += len(value.text) + _FACTS
        elif isinstance(value, Mapping):
            parts = (*value.keys(), *value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            parts = value
        items += 1
        more = len(cast("Sequence[Any]", parts))
        _check_size(size + items + len(waiting) + more)
        _count(more // _ITEMS)  # before they are read: a list may be doubled until it has millions
        waiting.extend(parts)
    _count(size // _READ)


def _check_made(name: str, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise OverflowError if a filter or method `name` of `value` would make something too long."""
    given = (*args, *kwargs.values())
    largest = max((number for number in given if isinstance(number, int)), default=0)
    if name in _SIZED:
        _check_size(largest)
    elif name in _REPEATED or name == "wordwrap":
        text = str(value)
        added = [largest if name in _REPEATED else 1, *(len(part) for part in given if isinstance(part, str))]
        places = text.count(_REPEATED[name]) + 1 if name in _REPEATED else len(text)
        _check_size(len(text) + max(added) * places)
    elif name in {"round", "tojson"} and largest > _MOST_DIGITS:
        raise OverflowError(f"the number of {name} is above {_MOST_DIGITS}")
    elif name in {"format", "format_map"}:
        _check_format(str(value), given)
    elif name == "translate":
        _check_size(len(value) * _longest(given))
    elif name == "sum":
        _check_size(sum(len(item) for item in value if isinstance(item, Sequence)))
    elif name == "replace" and len(given) > 1:
        old, new = str(given[0]), str(given[1])
        _check_size(str(value).count(old) * len(new))
    elif name == "join":
        other = given[0] if given else ""
        items, between = (other, value) if isinstance(value, str) else (value, other)
        if isinstance(items, Sequence):
            _check_size(len(items) * len(str(between)))


def _check_format(text: str, given: Sequence[Any]) -> None:
    """Raise OverflowError if values in the places of a text would make it too long."""
    if _WIDE.search(text):
        raise OverflowError(_TOO_WIDE)
    _check_size(len(text) + (text.count("%") + text.count("{")) * _longest(given))


def _longest(values: Iterable[Any]) -> int:
    """Return the length of the longest text of values, and of the values of a map or a tuple."""
    flat = [*values]
    for value in tuple(flat):
        flat += value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ()
    return max((len(str(value)) for value in flat if not isinstance(value, Mapping | tuple)), default=0)


def _check_operation(operator: str, left: Any, right: Any) -> None:
    if operator == "**" and (abs(right) > _EXPONENT or abs(left) > 2**_EXPONENT):
        raise OverflowError("the power is too large")
    if operator == "%" and isinstance(left, str):
        _check_format(left, (right,))
    if operator == "+" and isinstance(left, Sequence) and isinstance(right, Sequence):
        _check_size(len(left) + len(right))
    if operator == "*":
        for item, times in ((left, right), (right, left)):
            if isinstance(item, Sequence) and isinstance(times, int):
                _check_size(len(item) * times)
        if isinstance(left, int) and isinstance(right, int) and _bits(left, right) > _BITS:
            raise OverflowError("the product is too large")


def _bits(*numbers: int) -> int:
    return sum(number.bit_length() for number in numbers)


def _check_size(size: int) -> None:
    if size > LONGEST:
        raise OverflowError(f"longer than {LONGEST:,} characters or items")


def _json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; Jinja2's own `tojson` escapes `<`, `>`, `&` and `'` for HTML."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=indent)
