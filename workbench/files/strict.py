"""Read YAML and JSON strictly against a type.

An unknown key, a missing key or a wrong type is one ConfigError, which names the file, the key and the
nearest known key.
"""

from __future__ import annotations

import dataclasses
import decimal
import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import ConfigError, nearest
from workbench.files.json_reader import fault_of
from workbench.files.reading import read_text, shortened

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
#: Words of messages about types, and what a file calls them.
_PLAIN = {
    "valid array": "list",
    "valid dictionary": "mapping",
    "valid tuple": "list",
    "an object": "a mapping",
}
_MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})
#: The value of a dataclass's `__pydantic_config__`: no undeclared key, no silent conversion.
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
#: A character of UTF-8 takes up to four bytes.
_MOST_BYTES = 4_000_000
#: The variable of pydantic that names the plugins that it does not load.
_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_building = threading.RLock()


def parse_yaml(text: str, *, where: str, hint: str = "") -> dict[str, Any]:
    """Return the mapping of a YAML 1.2 text; ConfigError names the line of an error or a duplicate key."""
    from workbench.files import yaml_reader

    raw = yaml_reader.load(text, where=where, hint=hint)
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{where}: expected a mapping of keys, found {found}", hint=hint)
    return raw


def read_yaml(path: Path, *, hint: str = "", missing: str = "") -> dict[str, Any]:
    """Return the mapping of a YAML file."""
    return parse_yaml(read_text(path, hint=missing or hint, limit=_MOST_BYTES), where=str(path), hint=hint)


def yaml_text(raw: Mapping[str, Any]) -> str:
    """Return `raw` as block YAML in its own order, without line breaks: equal values give equal bytes."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        """Writes texts with a break of Unicode in double quotes: ruamel reads a plain one as a space."""

        def represent_str(self, data: str) -> Any:
            style = '"' if any(sign in data for sign in "\x85\u2028\u2029\r") else None
            return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Representer.add_representer(str, Representer.represent_str)
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False  # type: ignore[assignment]
    yaml.width = 1_000_000
    yaml.dump(dict(raw), stream)
    return stream.getvalue()


def parse(kind: type[T], raw: Any, *, where: str, hint: str = "") -> T:
    """Return `raw` as a `kind`, a dataclass with `__pydantic_config__ = STRICT` or another type of values.

    ConfigError names `where`, the first wrong key and its problem.
    """
    import orjson
    from pydantic import PydanticUserError, ValidationError

    try:
        # Through JSON, in which strict mode accepts a list for a tuple and a date for a text.
        encoded = orjson.dumps(raw, default=_as_json, option=orjson.OPT_NON_STR_KEYS)
        if b"null" in encoded and (fault := fault_of(raw)):  # it writes null for NaN
            raise ConfigError(f"{where}: {fault}", hint=hint)
        parsed: T = _adapter(kind).validate_json(encoded)  # type: ignore[arg-type]
    except PydanticUserError as error:
        what = str(error).partition("\n")[0]
        raise ConfigError(f"{where}: no value is read as {kind}: {what}", hint=hint) from None
    except TypeError as error:
        raise ConfigError(f"{where}: {fault_of(raw) or f'value: {str(error).lower()}'}", hint=hint) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ConfigError(f"{where}: {_explain(kind, found, raw)}", hint=hint) from None
    for key, value in raw.items() if isinstance(raw, Mapping) else ():
        if isinstance(value, decimal.Decimal) and isinstance(getattr(parsed, key, None), str):
            raise ConfigError(f"{where}: {key}: a decimal is no text", hint=hint)
    return parsed


def prepare_types(kinds: Iterable[type]) -> None:
    """Build the readers of types, which `parse` would build at their first use."""
    for kind in kinds:
        _adapter(kind)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the reader of a type; building it takes milliseconds.

    It uses no plugin of pydantic: the search for one reads the metadata of every installed package.
    """
    from pydantic import TypeAdapter

    with _building:  # the variable is the process's, and threads read files at once
        before = os.environ.get(_PLUGINS)
        os.environ[_PLUGINS] = "__all__"
        try:
            return TypeAdapter(kind)
        finally:
            os.environ.pop(_PLUGINS)
            if before is not None:
                os.environ[_PLUGINS] = before


def _as_json(value: Any) -> str:
    """Return a decimal as text, which a field of that type accepts."""
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


def _explain(kind: type[Any], found: Sequence[Mapping[str, Any]], raw: Any) -> str:
    """Return the problem of the first wrong key, with its value unless a text is expected there."""
    first = min(found, key=lambda item: item["type"] not in _UNKNOWN)  # a typo explains a missing key
    path, value = _found(raw, first)
    for item in found:  # of the forms that a key may have, the one that fits best
        deeper, inner = _found(raw, item)
        if len(deeper) > len(path) and deeper[: len(path)] == path and len(path) < len(first["loc"]):
            first, path, value = item, deeper, inner
    place = ".".join(path)
    if first["type"] in _UNKNOWN:
        known = _fields_at(kind, first["loc"][:-1])
        return f"unknown key {place!r} ({nearest(str(first['loc'][-1]), known)})"
    if first["type"] in _MISSING:
        return f"missing key {place!r}"
    message = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    for word, plain in _PLAIN.items():
        message = message.replace(word, plain)
    if first["loc"][-1:] == ("[key]",):
        return f"unknown key {place!r}: {message}"
    return f"{place or 'value'}: {message}{_told(value) if first['type'] != 'string_type' else ''}"


def _told(value: Any) -> str:
    """Return a wrong value as the end of a message; a list or a mapping is only named."""
    if isinstance(value, str):
        return f", found {shortened(value)!r}"
    if isinstance(value, int | float):
        return f", found {str(value).lower() if isinstance(value, bool) else value}"
    kind = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, Sequence) else ""
    return kind and f", found {kind}"


def _found(raw: Any, fault: Mapping[str, Any]) -> tuple[list[str], Any]:
    """Return the keys of a fault, without the names of types between them, and the value that is there."""
    path: list[str] = []
    missing = fault["type"] in _MISSING
    for part in fault["loc"][:-1] if missing else fault["loc"]:
        if isinstance(raw, Mapping):
            items = {str(key): value for key, value in raw.items()}
        elif isinstance(raw, Sequence) and not isinstance(raw, str):
            items = dict[Any, Any](enumerate(raw))
        else:
            break
        if part not in items:
            continue
        raw = items[part]
        path.append(str(part))
    return ([*path, str(fault["loc"][-1])] if missing else path), raw


def _fields_at(kind: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the field names of the dataclass at `place` inside `kind`."""
    import typing

    for part in place:
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(str(part), Any)
        else:  # a mapping's value, or one item of a list
            kind = next((a for a in reversed(typing.get_args(kind)) if a is not Ellipsis), Any)
        if type(None) in typing.get_args(kind):  # an optional value
            kind = next((a for a in typing.get_args(kind) if a is not type(None)), kind)
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
