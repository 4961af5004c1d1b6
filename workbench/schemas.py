"""Import `jsonschema` without the grammar of IRIs, which takes a second of CPU and is rarely needed."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

#: jsonschema imports it for the formats `iri` and `iri-reference`; its import compiles a grammar.
_GRAMMAR = "rfc3987_syntax"


def jsonschema() -> Any:
    """Return the module `jsonschema`; the first check of an IRI, not the import, compiles the grammar.

    Call it before anything imports `jsonschema`, as `nbformat` and `papermill` do.
    """
    deferred = ModuleType(_GRAMMAR)
    deferred.is_valid_syntax = _is_valid_syntax  # type: ignore[attr-defined]
    try:
        if "jsonschema" not in sys.modules:
            sys.modules.setdefault(_GRAMMAR, deferred)
        import jsonschema
    finally:
        if sys.modules.get(_GRAMMAR) is deferred:
            del sys.modules[_GRAMMAR]
    return jsonschema


def _is_valid_syntax(term: str, value: str) -> bool:
    from rfc3987_syntax import is_valid_syntax  # type: ignore[import-untyped]

    return bool(is_valid_syntax(term, value))
