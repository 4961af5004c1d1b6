"""Read JSON as tolerantly as Python's `json`, into values that strict JSON can store."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import orjson

#: The wire format's own value for the log-probability of a token that is too unlikely to state.
UNLIKELY: Final = -9999.0
#: Brackets up to which a value is certainly not nested too deep to be stored.
_FEW_BRACKETS: Final = 120
_INTEGERS: Final = range(-(2**63), 2**64)


def loads(data: bytes) -> Any:
    """Return the JSON value of `data`; raise ValueError if Python's `json` cannot read it either.

    What strict JSON cannot store is replaced: half a surrogate pair by U+FFFD, `-Infinity` by -9999.0, other
    numbers that are not finite by null, and an integer of more than 64 bits by the nearest float.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = storable(loads_exactly(data))
    check_depth(data, value)
    return value


def loads_exactly(data: bytes) -> Any:
    """Return the value as Python's `json` reads it; raise ValueError if it cannot or nesting is too deep."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if _has_many_brackets(data):
        check_depth(data, storable(value))
    return value


def check_depth(data: bytes, value: Any) -> None:
    """Raise ValueError if `value`, read from `data`, is nested too deep to be stored."""
    if _has_many_brackets(data):
        try:
            orjson.dumps([[[[[[[[value]]]]]]]])  # a recording adds a few levels
        except TypeError:
            raise ValueError("nested too deep") from None


def _has_many_brackets(data: bytes) -> bool:
    return data.count(b"{") + data.count(b"[") > _FEW_BRACKETS


def storable(value: Any) -> Any:
    """Return a copy of a JSON value in which strict JSON can hold every part; see `loads`."""
    try:
        return _storable(value)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, dict):
        return {whole_characters(name): _storable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_storable(part) for part in value]
    if isinstance(value, int) and value not in _INTEGERS:
        value = float(value) if abs(value) < 10**308 else math.inf * (1 if value > 0 else -1)
    if isinstance(value, float) and not math.isfinite(value):
        return UNLIKELY if value < 0 else None
    return value


def whole_characters(text: str) -> str:
    """Return `text` with surrogate pairs joined and each half without its other half as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
