"""The verbs of a memory as JSON: their arguments and results, read strictly by the types of the port."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from workbench import files
from workbench.errors import ConfigError, UnavailableError, nearest
from workbench.ports import Memory, MemoryVerbs
from workbench.types import JSON, Hit, Item

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: The verbs, as the port names them.
VERBS: Final = tuple(
    name for name in vars(MemoryVerbs) if not name.startswith("_") and callable(vars(MemoryVerbs)[name])
)
#: Arguments of the boundary's own beside those of the port: what a restore read.
_RESTORED: Final[Mapping[str, Any]] = {"restored": list[Item]}
_MORE: Final[Mapping[str, Mapping[str, Any]]] = {"stage": _RESTORED, "remember": _RESTORED}
#: Dataclasses are written field by field; dates are refused.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME


def written(value: Any, *, what: str) -> bytes:
    """Return arguments or a result as JSON; raise ConfigError for a value that JSON does not give back."""
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
        if b"null" in encoded:  # a number that is not finite becomes null
            files.check_exact(_opened(value), where=what)
    except TypeError as error:
        raise ConfigError(f"{what}: {str(error).lower()}", hint="pass values of workbench.ports") from None
    return encoded


def read_arguments(verb: str, stated: object) -> dict[str, Any]:
    """Return the arguments of a verb; raise ConfigError, which names the argument, for an odd one."""
    known = _arguments(verb)
    if not isinstance(stated, dict):
        raise ConfigError(f"memory.{verb}: the arguments are a {type(stated).__name__}, not an object")
    for name in stated:
        if name not in known:
            raise ConfigError(f"memory.{verb} has no argument {name!r} ({nearest(name, known)})")
    return {name: _read(known[name], value, where=f"memory.{verb}: {name}") for name, value in stated.items()}


def read_result(verb: str, encoded: bytes) -> Any:
    """Return the result of a verb from its JSON; raise UnavailableError for another type."""
    from pydantic import ValidationError

    try:
        return _tupled(_result(verb).validate_json(encoded, strict=True, extra="forbid"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UnavailableError(
            f"the gateway answered memory.{verb} with a wrong {place or 'value'}: {first['msg'].lower()}"
        ) from None


def plain(hit: Hit) -> JSON:
    """Return a hit as JSON."""
    return {field.name: getattr(hit, field.name) for field in dataclasses.fields(Hit)}


def hit_of(stated: object) -> Hit:
    """Return the hit that a caller states as a whole; raise ConfigError for an odd one."""
    found: Hit = _read(_adapter(Hit), stated, where="passages")
    return found


def _read(adapter: TypeAdapter[Any], value: object, *, where: str) -> Any:
    from pydantic import ValidationError

    try:
        return _tupled(adapter.validate_json(orjson.dumps(value), strict=True, extra="forbid"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join([where, *map(str, first["loc"])])
        raise ConfigError(f"{place}: {first['msg'].lower()}") from None


def _tupled(value: Any) -> Any:
    """Return a query with its vector as a tuple, as the boundary makes it; other values as they are."""
    if isinstance(getattr(value, "vector", None), list):
        return dataclasses.replace(value, vector=tuple(value.vector))
    return value


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the reader of a type; building it takes milliseconds."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@functools.cache
def _arguments(verb: str) -> Mapping[str, TypeAdapter[Any]]:
    """Return the reader of each argument of a verb by its name."""
    if verb not in VERBS:
        raise ConfigError(f"a memory has no verb {verb!r} ({nearest(verb, VERBS)})")
    hints = typing.get_type_hints(getattr(Memory, verb))
    names = [name for name in inspect.signature(getattr(Memory, verb)).parameters if name != "self"]
    kinds = {**{name: _concrete(hints[name]) for name in names}, **_MORE.get(verb, {})}
    return {name: _adapter(kind) for name, kind in kinds.items()}


@functools.cache
def _result(verb: str) -> TypeAdapter[Any]:
    return _adapter(typing.get_type_hints(getattr(Memory, verb))["return"])


def _concrete(kind: Any) -> Any:
    """Return a list in place of any iterable: an argument may be read twice."""
    if typing.get_origin(kind) in {Iterable, Sequence}:
        return list[typing.get_args(kind)[0]]  # type: ignore[misc]
    if type(None) in typing.get_args(kind):
        inner = [_concrete(part) for part in typing.get_args(kind) if part is not type(None)]
        return typing.Optional[inner[0]]  # noqa: UP045 - made of a value
    return kind


def _opened(value: Any) -> Any:
    """Return a value with its dataclasses as mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _opened(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _opened(item) for name, item in value.items()}
    return [_opened(item) for item in value] if isinstance(value, list | tuple) else value
