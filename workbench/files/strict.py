"""Read YAML and JSON strictly against a type.

An unknown key, a missing key or a wrong type is one ConfigError, which names the file, the key and the
nearest known key.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from workbench.errors import ConfigError, nearest
from workbench.files.reading import read_text

T = TypeVar("T")
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})
#: The value of a dataclass's `__pydantic_config__`: no undeclared key, no silent conversion.
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


def parse_yaml(text: str, *, where: str, hint: str = "") -> dict[str, Any]:
    """Return the mapping of a YAML 1.2 text; ConfigError names the line of an error or a duplicate key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = str(error.problem or error.context or "not YAML").splitlines()[0]
        raise ConfigError(f"{where}{line}: {problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{where}: expected a mapping of keys, found {found}", hint=hint)
    return raw


def read_yaml(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Return the mapping of a YAML file."""
    return parse_yaml(read_text(path, hint=hint), where=str(path), hint=hint)


def yaml_text(raw: Mapping[str, Any]) -> str:
    """Return `raw` as block YAML in its own order, without line breaks: equal values give equal bytes."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False  # type: ignore[assignment]
    yaml.width = 1_000_000
    yaml.dump(dict(raw), stream)
    return stream.getvalue()


def parse(kind: type[T], raw: Mapping[str, Any], *, where: str, hint: str = "") -> T:
    """Return `raw` as a `kind`, a dataclass with `__pydantic_config__ = STRICT`.

    ConfigError names `where`, the first wrong key and its problem.
    """
    import orjson
    from pydantic import TypeAdapter, ValidationError

    try:
        # Through JSON, in which strict mode accepts a list for a tuple and a date for a text.
        return TypeAdapter(kind).validate_json(orjson.dumps(raw, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:
        raise ConfigError(f"{where}: {_beyond_json(raw)}", hint=hint) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        first = min(found, key=lambda item: item["type"] not in _UNKNOWN)  # a typo explains a missing key
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {_explain(kind, first, place)}", hint=hint) from None


def _beyond_json(raw: Any, place: str = "", depth: int = 0) -> str:
    """Return the key of the first value that JSON cannot hold, and why; "" when there is none."""
    import orjson

    if depth > 100:
        return f"{place[:40]}…: nested too deep"
    of_list = enumerate(raw) if isinstance(raw, list | tuple) else ()
    parts = raw.items() if isinstance(raw, Mapping) else of_list
    for key, value in parts:
        if found := _beyond_json(value, f"{place}.{key}" if place else str(key), depth + 1):
            return found
    shell = dict.fromkeys(raw) if isinstance(raw, Mapping) else [] if of_list else raw
    try:
        orjson.dumps(shell, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        return f"{place or 'value'}: {str(error)[:1].lower()}{str(error)[1:]}"
    return ""


def _explain(kind: type[Any], first: Mapping[str, Any], place: str) -> str:
    if first["type"] in _UNKNOWN:
        known = _fields_at(kind, first["loc"][:-1])
        return f"unknown key {place!r} ({nearest(str(first['loc'][-1]), known)})"
    if first["type"] in _MISSING:
        return f"missing key {place!r}"
    return f"{place or 'value'}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _fields_at(kind: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the field names of the dataclass at `place` inside `kind`."""
    import typing

    for part in place:
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(str(part), Any)
        else:  # a mapping's value, or one item of a list
            kind = next((a for a in reversed(typing.get_args(kind)) if a is not Ellipsis), Any)
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
