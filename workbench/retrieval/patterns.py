"""Match relative paths with patterns: `*`, `?` and `[…]` within a name, `**` for any number of folders."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import PurePath

from workbench.errors import ConfigError

_SIGNS = frozenset("*?[")
_CLASS = re.compile(r"\[(!?)([^\[\]/]+)\]")


def is_pattern(text: str) -> bool:
    """Return whether a path holds a sign of patterns."""
    return not _SIGNS.isdisjoint(text)


def split(path: str) -> tuple[str, str]:
    """Return the folder before the first part with a sign of patterns, and the pattern below it."""
    parts = PurePath(path).parts
    first = next(number for number, part in enumerate(parts) if is_pattern(part))
    return str(PurePath(*parts[:first])), "/".join(parts[first:])


def matches(pattern: str, path: str) -> bool:
    """Return whether a relative path matches; Unicode's composed and decomposed forms are equal."""
    return _compiled(pattern).fullmatch(unicodedata.normalize("NFC", path)) is not None


@functools.lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = unicodedata.normalize("NFC", pattern).strip("/").split("/")
    parts = [
        part for number, part in enumerate(parts) if part != "**" or parts[number - 1 : number] != ["**"]
    ]
    made = ["(?:[^/]+/)*" if part == "**" else f"{_of_name(part)}/" for part in parts[:-1]]
    last = "(?:[^/]+/)*[^/]+" if parts[-1] == "**" else _of_name(parts[-1])
    try:
        return re.compile("".join(made) + last, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"the pattern {pattern!r} is invalid: {error.msg}") from None


def _of_name(part: str) -> str:
    made, place = "", 0
    while place < len(part):
        found = _CLASS.match(part, place)
        if found is not None:
            inner = re.sub(r"([\\^&~|\[\]])", r"\\\1", found[2])
            made += f"[{'^/' if found[1] else ''}{inner}]"
            place = found.end()
            continue
        made += {"*": "[^/]*", "?": "[^/]"}.get(part[place], re.escape(part[place]))
        place += 1
    return made
