"""Canonical JSON of a value, and its SHA-256."""

from __future__ import annotations

import hashlib
from typing import Any


def canonical(value: Any) -> bytes:
    """Return `value` as canonical JSON: sorted keys, no spaces, UTF-8 (RFC 8785 except number forms)."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def pretty(value: Any) -> bytes:
    """Return `value` as sorted, indented JSON with a final newline, for files that people compare."""
    import orjson

    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options)


def digest(value: Any) -> str:
    """Return the SHA-256, in hexadecimal digits, of bytes or of a value's canonical JSON."""
    return hashlib.sha256(value if isinstance(value, bytes) else canonical(value)).hexdigest()
