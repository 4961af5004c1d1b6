"""The texts of a request or an answer that may hold data of people: read them, and replace them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

#: Fields whose texts are names of the protocol, or bytes of media: neither read nor replaced while they look
#: like that.
FIXED: Final = frozenset(
    {
        "model", "role", "type", "id", "object", "status", "call_id", "tool_call_id", "item_id",
        "previous_response_id", "response_id", "encrypted_content", "signature", "thought_signature",
        "$ref", "detail", "format", "b64_json", "file_data", "file_id", "data", "finish_reason",
        "service_tier", "system_fingerprint",
    }
)  # fmt: skip
#: The form of a name of the protocol and of bytes in Base64, and how much of a text shows it.
_NAMED: Final = re.compile(r"(?!\+?[0-9.-]{9,}$)[\w.:/+=-]*")
_SHOWS: Final = 1_024
#: Fields that are all content, whatever their own fields are called.
_FREE: Final = frozenset({"metadata", "properties"})
#: A shorter text holds no identifier.
_SHORTEST: Final = 4
#: JSON within a text, and JSON within a text of that, is read so deep.
_DEEPEST: Final = 4
#: A whole number with fewer digits is no identifier.
_LONG: Final = 10**7
#: Types of values without a text.
_SCALARS: Final = frozenset({int, float, bool, type(None)})
Change = Callable[[str], str]


def contents(value: Any) -> list[str]:
    """Return every text that may hold content, in its order; JSON with escapes in a text is read as JSON.

    Names of fields count as content unless they are identifiers of a programming language.
    """
    found: list[str] = []
    _gather(value, found, free=False, depth=0)
    return found


def with_contents(value: Any, change: Change, *, free: bool = False, depth: int = 0) -> Any:
    """Return a JSON value with `change` applied to every text of `contents`; the same object if none changes.

    A text that is JSON stays JSON: `change` gets the texts in it, and its long numbers as texts.
    """
    if type(value) is str:
        return _changed_text(value, change, depth)
    if isinstance(value, Mapping):
        changed: dict[Any, Any] = {}
        same = True
        for name, item in value.items():
            new = item
            if free or type(item) is not str or not _is_fixed(name, item):
                new = with_contents(item, change, free=free or name in _FREE, depth=depth)
            key = _changed_name(name, change)
            same = same and new is item and key is name
            changed[key] = new
        return value if same else changed
    if isinstance(value, list | tuple):
        items = [with_contents(item, change, free=free, depth=depth) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if free and depth and type(value) is int and abs(value) >= _LONG:
        digits = str(value)
        text = change(digits)
        return value if text == digits else text
    return value


def without_tokens(value: Any) -> Any:
    """Return an answer without the log probabilities of its tokens, which spell its text.

    A list of them becomes an empty list, anything else None: the answer keeps the shape of its protocol.
    """
    if isinstance(value, Mapping):
        return {
            name: ([] if isinstance(item, list) else None) if name == "logprobs" else without_tokens(item)
            for name, item in value.items()
        }
    return [without_tokens(item) for item in value] if isinstance(value, list | tuple) else value


def json_in(text: str) -> Any:
    """Return the list or mapping whose JSON a text is; None for another text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list) else None


def _gather(value: Any, found: list[str], *, free: bool, depth: int) -> None:
    kind = type(value)
    if kind is dict or (kind not in _SCALARS and isinstance(value, Mapping)):
        _gather_fields(value, found, free=free, depth=depth)
    elif kind is list or kind is tuple:
        for item in value:
            _gather(item, found, free=free, depth=depth)
    elif kind is str:
        _gather_text(value, found, depth)
    elif kind is int and free and depth and abs(value) >= _LONG:
        found.append(str(value))


def _gather_fields(value: Mapping[Any, Any], found: list[str], *, free: bool, depth: int) -> None:
    for name, item in value.items():
        if type(name) is str and not name.isidentifier():
            found.append(name)
        if type(item) is not str:
            if depth or type(item) not in _SCALARS:
                _gather(item, found, free=free or name in _FREE, depth=depth)
        elif free or not _is_fixed(name, item):
            _gather_text(item, found, depth)


def _is_fixed(name: Any, text: str) -> bool:
    """Return whether a field holds a name of the protocol or media, not content that a caller put there.

    The name of a model is that of its card, whatever it looks like.
    """
    if name not in FIXED:
        return False
    return name == "model" or text.isidentifier() or _NAMED.fullmatch(text[:_SHOWS]) is not None


def _gather_text(text: str, found: list[str], depth: int) -> None:
    if len(text) < _SHORTEST or text.startswith("data:"):
        return
    inner = json_in(text) if "\\" in text and depth < _DEEPEST else None
    if inner is None:
        found.append(text)
    else:
        _gather(inner, found, free=True, depth=depth + 1)


def _changed_name(name: Any, change: Change) -> Any:
    return name if type(name) is not str or name.isidentifier() else change(name)


def _changed_text(text: str, change: Change, depth: int) -> str:
    if len(text) < _SHORTEST or text.startswith("data:"):
        return text
    plain = None if "\\" in text else change(text)
    if plain is text:
        return text
    inner = json_in(text) if depth < _DEEPEST else None
    if inner is None:
        return change(text) if plain is None else plain
    changed = with_contents(inner, change, free=True, depth=depth + 1)
    return text if changed is inner else orjson.dumps(changed).decode()
