"""Read JSON exactly: bounded depth, no duplicate key, no number or text that JSON cannot give back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from workbench.errors import ConfigError
from workbench.files.canonical import canonical
from workbench.files.reading import shortened

MOST_DEPTH = 100
#: The integers that every reader of ours keeps exact.
_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
#: Only a text with one of these may hold a value that is refused.
_SUSPECT = ("NaN", "Infinity", "\\ud", "\\uD")
_LONG_NUMBER = re.compile(r"[\d.]{17}|\d[eE]")


class _DuplicateKeyError(Exception):
    """An object has a key twice."""


class _Inexact(str):
    """The text of a decimal that no float holds to its last digit."""

    __slots__ = ()


def parse_json(text: str, *, where: str) -> Any:
    """Return the value of a JSON text; ConfigError names `where` and the column or field of a fault."""
    try:
        value = _DECODER.decode(text.removeprefix("\ufeff"))
        fault = fault_of(value) if _is_suspect(text) else ""
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        fault = f"not JSON: {error.msg} ({line}column {error.colno})"
    except _DuplicateKeyError as error:
        fault = f"the key {shortened(str(error))!r} is there twice in one object"
    except RecursionError:
        fault = f"nested deeper than {MOST_DEPTH} levels"
    if fault:
        raise ConfigError(f"{where}: {fault}")
    return value


def _is_suspect(text: str) -> bool:
    return (
        any(sign in text for sign in _SUSPECT)
        or text.count("[") + text.count("{") > MOST_DEPTH
        or _LONG_NUMBER.search(text) is not None
    )


def fault_of(value: Any, *, place: str = "", depth: int = 0) -> str:
    """Return the field and the fault of the first value that JSON does not give back; "" without one."""
    if depth > MOST_DEPTH:
        return f"{shortened(place)}: nested deeper than {MOST_DEPTH} levels"
    for key, item in _parts(value):
        found = _fault(str(key)) or fault_of(
            item, place=f"{place}.{key}" if place else str(key), depth=depth + 1
        )
        if found:
            return found
    fault = _fault(value)
    return f"{shortened(place) or 'value'}: {fault}" if fault else ""


def check_exact(value: Any, *, where: str) -> None:
    """Raise ConfigError, which names the field, for a value that canonical JSON cannot hold exactly."""
    fault = fault_of(value)
    if not fault:
        try:
            canonical(value)
        except TypeError as error:
            fault = f"{error}: write it as text"
    if fault:
        raise ConfigError(f"{where}: {fault}")


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return an iterator over the keys and values of a mapping, or the positions and items of a list."""
    if isinstance(value, Mapping):
        return iter(value.items())
    return enumerate(value) if isinstance(value, list | tuple) else iter(())


def _fault(value: Any) -> str:
    """Return the fault of one number or text."""
    if isinstance(value, _Inexact):
        return f"a decimal of {len(value)} characters, which no float holds exactly: write it as text"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "half of a surrogate pair, which is no text"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return "integer exceeds 64-bit range"
    if isinstance(value, bytes | set | frozenset):
        return f"type is not JSON: {type(value).__name__}"
    return ""


def _integer(digits: str) -> int:
    # Python refuses to convert more than 4,300 digits; any number outside of the range is refused.
    return int(digits) if len(digits) <= 100 else (_SMALLEST - 1 if digits[0] == "-" else _LARGEST + 1)


def _decimal(text: str) -> float | str:
    value = float(text)
    short = len(text) < 17 and "e" not in text.lower()
    exact = short or math.isinf(value) or Decimal(text) == Decimal(repr(value))
    return value if exact else _Inexact(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_decimal, object_pairs_hook=_object)
