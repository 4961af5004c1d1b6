"""Read a line of JSON in which every number is exact, or raise an error that names the key."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

#: Numbers that may be longer than 64 bits hold: 17 digits, or an exponent.
_LONG = re.compile(r"[\d.]{17}|\d[eE]")


def parse_object(line: str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises ValueError when the line is not JSON, not an object, or holds an integer of more than 64 bits or a
    decimal that a float does not hold to its last digit.
    """
    import orjson

    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (as for the other faults)
    if _LONG.search(line):
        try:
            exact = json.loads(line, parse_int=_integer, parse_float=_decimal)
            numbers = {key: number for key, item in exact.items() if (number := _inexact(item))}
        except RecursionError:
            raise ValueError("not JSON: nested too deeply") from None
        for key, number in numbers.items():  # not shown, because it may be of a person
            what = f"a number of {len(number)} characters"
            raise ValueError(f"{key!r} holds {what}, which 64 bits cannot hold exactly: write it as text")
    return value


class _Inexact(str):
    """The text of a number that has no exact value of 64 bits."""

    __slots__ = ()


def _integer(text: str) -> Any:
    exact = len(text) <= 20 and -(2**63) <= int(text) < 2**64
    return int(text) if exact else _Inexact(text)


def _decimal(text: str) -> Any:
    value = float(text)
    return value if Decimal(text) == Decimal(repr(value)) else _Inexact(text)


def _inexact(value: Any) -> str:
    """Return the first inexact number in a value; empty without one."""
    if isinstance(value, _Inexact):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_inexact, items)), "")
