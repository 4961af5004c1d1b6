"""Check the arguments of verbs: texts, lists of texts, whole numbers, flags and days."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable
from typing import Any

from workbench.errors import ConfigError


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold `text`: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(value: Any, name: str) -> str:
    """Return `value` as a plain text; raise ConfigError, which names it, unless it is Unicode text."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {_shown(value)}, not a text", hint=f'{name}="…"')
    # Plain, because a class of its own could equal any text.
    plain = value if type(value) is str else str.__getitem__(value, slice(None))
    if not is_unicode(plain):
        raise ConfigError(
            f"{name} holds half of a surrogate pair, which is not Unicode",
            hint='clean it first: text.encode(errors="replace").decode()',
        )
    return plain


def texts(values: Any, name: str) -> tuple[str, ...]:
    """Return the items of a list of texts; raise ConfigError for one text, which would be read by letters."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} is {_shown(values)}, not a list of texts", hint=f'{name}=["…"]')
    return tuple(text(value, f"{name}[{position}]") for position, value in enumerate(values))


def whole_number(value: Any, name: str, *, least: int) -> int:
    """Return `value` as an integer; raise ConfigError unless it is a whole number of `least` or more."""
    try:
        number = operator.index(value)  # of NumPy too
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ConfigError(f"{name} is {_shown(value)}", hint=f"give a whole number, {least} or more")
    return number


def flag(value: Any, name: str) -> bool:
    """Return `value`; raise ConfigError unless it is True or False: any text, also "no", would be true."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {_shown(value)}", hint="give true or false")
    return value


def day(value: Any, name: str) -> str:
    """Return a day as ISO text; raise ConfigError unless it is one, as a text or a date."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = value.isoformat()
    try:
        fits = dt.date.fromisoformat(text(value, name)).isoformat() == value
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"{name}: {_shown(value)} is not a day like 2026-11-24", hint="write YYYY-MM-DD")
    return str(value)


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 1 << 64:  # Python does not write 5,000 digits
        return "an integer of more than 64 bits"
    if not isinstance(value, str | bytes | int | float | None):
        return f"of type {type(value).__name__}"
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
