"""Errors as JSON: every class of `workbench.errors` to an answer of the gateway and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from workbench import errors
from workbench.errors import NoAnswerError, WorkbenchError
from workbench.types import JSON

#: The classes by their names.
CLASSES: Final[Mapping[str, type[WorkbenchError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, WorkbenchError)
}
#: What is told of an error that is none of ours: its text may hold data or a path.
_FOREIGN: Final = "the gateway failed; its log has the error"
_FOREIGN_HINT: Final = "workbench doctor   # names the gateway's log"
_log = logging.getLogger("workbench.gateway")
_MOST_NOTES: Final = 20


def _is_json(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_status(value: object) -> bool:
    return value is None or type(value) is int


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


#: The attributes of errors beside message and hint, each with the check of its JSON form.
_FIELDS: Final[Mapping[str, Callable[[object], bool]]] = {
    "retryable": lambda value: isinstance(value, bool),
    "reason": _is_text,
    "status": _is_status,
    "body": _is_json,
    "budget": _is_text,
    "measure": _is_text,
    "limit": lambda value: _is_number(value) or _is_text(value),
    "spent": lambda value: _is_number(value) or _are_amounts(value),
    "reserved": _is_number,
    "needed": _is_number,
    "renews": _is_text,
    "policies": _are_texts,
    "decision": _is_text,
    "kinds": _are_texts,
    "destination": _is_text,
    "check": _is_text,
    "direction": _is_text,
    "held": _is_text,
    "path": _is_text,
    "retry_after_s": _is_number,
    "violations": _are_texts,
}


def _are_amounts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def failure_of(error: BaseException) -> JSON:
    """Return an error as JSON. One that is not a WorkbenchError is logged, and only its type is told."""
    if not isinstance(error, WorkbenchError):
        _log.error("a call failed", exc_info=error)
        message = f"{type(error).__name__}: {_FOREIGN}"
        return {"type": "WorkbenchError", "message": message, "hint": _FOREIGN_HINT}
    kind = next(kind for kind in type(error).__mro__ if kind in CLASSES.values())
    found: dict[str, Any] = {"type": kind.__name__, "message": error.message, "hint": error.hint}
    default = _made(kind, "", "")
    for name in _FIELDS:
        value = getattr(error, name, None)
        if hasattr(default, name) and value != getattr(default, name) and _is_json(value):
            found[name] = value
    if notes := [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)][:_MOST_NOTES]:
        found["notes"] = notes
    return found


def error_of(failure: object) -> WorkbenchError:
    """Return the error of its JSON; an unknown type, or one with an odd field, is a WorkbenchError."""
    if not isinstance(failure, dict):
        failure = {}
    message, hint = failure.get("message"), failure.get("hint")
    message = message if isinstance(message, str) else _FOREIGN
    hint = hint if isinstance(hint, str) else ""
    named = failure.get("type")
    kind = CLASSES.get(named, WorkbenchError) if isinstance(named, str) else WorkbenchError
    error = _made(kind, message, hint)
    for name, fits in _FIELDS.items():
        if name in failure and hasattr(error, name) and fits(failure[name]):
            value = failure[name]
            setattr(error, name, tuple(value) if fits is _are_texts else value)
    notes = failure.get("notes")
    for note in notes[:_MOST_NOTES] if _are_texts(notes) else ():  # type: ignore[index]
        error.add_note(note)
    return error


def _made(kind: type[WorkbenchError], message: str, hint: str) -> WorkbenchError:
    if issubclass(kind, NoAnswerError):
        return kind(message, hint=hint, reason="")
    return kind(message, hint=hint)
