"""Escape NUL in ids and subjects, because SQLite's functions end a text at NUL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_ESCAPED = re.compile(r"\\([0\\])")


def escaped(name: str) -> str:
    """Escape NUL in an id or a subject, because SQLite's functions end a text at NUL."""
    return name.replace("\\", "\\\\").replace("\0", "\\0")


def unescaped(name: str) -> str:
    """Undo `escaped`."""
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else "\\", name) if "\\" in name else name


def listed(names: Iterable[str]) -> str:
    """Return ids as JSON to bind to `AMONG`."""
    return json.dumps(list(map(escaped, names)))
