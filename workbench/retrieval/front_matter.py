"""Check the front matter of pages: its keys, their types, and the lines they are on."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from workbench import identity
from workbench.errors import ConfigError, nearest
from workbench.types import MOST_CLASSIFIED

#: The minimal front matter of a page.
MINIMAL = """---
title: Travel expenses
tenant: acme
version: 1
access: [everyone]
valid_from: 2025-01-01
expires: null
owner: head of finance
synthetic: false
author: your name
generator_version: 1
seed: 0
---"""
#: The prefix of an access entry for one principal; a page names groups only.
_PERSONAL = identity.personal("")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MOST_CLASSIFIED


def _is_day(value: Any) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)


def _is_groups(value: Any) -> bool:
    return isinstance(value, list) and all(
        _is_text(group) and group == group.strip() and not group.startswith(_PERSONAL) for group in value
    )


#: The type of each key, in words and as a test.
KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "title": ("a text", _is_text),
    "tenant": ("a text", _is_text),
    "version": ("a whole number", _is_number),
    "access": ("a list of groups, such as [everyone], and of no single principal", _is_groups),
    "valid_from": ("a day, as YYYY-MM-DD", _is_day),
    "expires": ("a day, as YYYY-MM-DD, or null", lambda value: value is None or _is_day(value)),
    "owner": ("a text", _is_text),
    "synthetic": ("true or false", lambda value: isinstance(value, bool)),
    "author": ("a text", _is_text),
    "generator_version": ("a whole number", _is_number),
    "seed": ("a whole number", _is_number),
    "replaces": ("the name of another page", _is_text),
    "classification": (f"a whole number from 0 to {MOST_CLASSIFIED}", _is_level),
    "subject": ("a text: whom the page is about", _is_text),
}
_OPTIONAL = {"replaces", "classification", "subject"}


def check_full(front: Mapping[str, Any], lines: Sequence[str], path: object) -> None:
    """Raise ConfigError unless `front` has every key that is not optional, and no unknown one."""
    for key in front:
        if key not in KEYS:
            where = f"{path}:{line_of(str(key), lines)}"
            raise ConfigError(f"{where}: unknown key {key!r} ({nearest(str(key), KEYS)})")
        check_value(key, front[key], where=f"{path}:{line_of(str(key), lines)}")
    missing = [key for key in KEYS if key not in front and key not in _OPTIONAL]
    if missing:
        hint = f"a full example:\n{MINIMAL}"
        raise ConfigError(f"{path}:{len(lines)}: missing key {missing[0]!r}", hint=hint)
    check_days(front, lines, path)


def check_some(front: Mapping[str, Any], lines: Sequence[str], path: object) -> list[str]:
    """Check the known keys of `front`, and return the names of the others.

    ConfigError when a name differs from a known one as a misspelling does: a misspelled `access` would
    otherwise show the page to everyone.
    """
    others = []
    for key, value in front.items():
        where = f"{path}:{line_of(str(key), lines)}"
        if key in KEYS:
            check_value(key, value, where=where)
        elif difflib.get_close_matches(str(key).lower(), KEYS, n=1, cutoff=0.75):
            raise ConfigError(f"{where}: unknown key {key!r} ({nearest(str(key), KEYS)})")
        else:
            others.append(str(key))
    check_days(front, lines, path)
    return others


def check_value(key: str, value: Any, *, where: str, name: str = "") -> None:
    """Raise ConfigError unless `value` has the type of `key`; the message calls the key `name`."""
    words, fits = KEYS[key]
    if not fits(value):
        raise ConfigError(f"{where}: {name or key} must be {words}, found {value!r}")


def check_days(front: Mapping[str, Any], lines: Sequence[str], path: object) -> None:
    """Raise ConfigError for a page that expires before it is valid."""
    first, last = front.get("valid_from"), front.get("expires")
    if first is not None and last is not None and last <= first:
        raise ConfigError(f"{path}:{line_of('expires', lines)}: the page expires before it is valid")


def check_tenant(front: Mapping[str, Any], tenant: str, lines: Collection[str], path: object) -> None:
    """Raise ConfigError when `front` names another tenant than the file's own."""
    if front.get("tenant", tenant) != tenant:
        raise ConfigError(
            f"{path}:{line_of('tenant', lines)}: tenant is {front['tenant']!r}, but the file is in the "
            f"folder of {tenant!r}",
            hint="move the file to the folder of its tenant, or correct the line",
        )


def line_of(key: str, lines: Collection[str]) -> int:
    """Return the number of the line that states `key`, from 1; 1 when none does."""
    pattern = re.compile(rf"""["']?{re.escape(key)}["']?\s*:""")
    return next((number for number, line in enumerate(lines, start=1) if pattern.match(line)), 1)
