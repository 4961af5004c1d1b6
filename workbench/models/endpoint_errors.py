"""Errors of an OpenAI-compatible endpoint: which class a status, an error object or a bad answer is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from workbench.errors import (
    NoAnswerError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.models import lenient_json

#: Statuses of error objects that state only a word, as code, type or status.
_STATUS_OF: Final[Mapping[str, int]] = {
    "badrequesterror": 400, "invalid_argument": 400, "invalid_prompt": 400, "invalid_request_error": 400,
    "content_filter": 400, "context_length_exceeded": 400, "authentication_error": 401,
    "invalid_api_key": 401, "unauthenticated": 401, "permission_denied": 403, "permission_error": 403,
    "model_not_found": 404, "not_found_error": 404, "insufficient_quota": 429, "rate_limit_error": 429,
    "rate_limit_exceeded": 429, "resource_exhausted": 429, "overloaded_error": 529, "unavailable": 503,
}  # fmt: skip
_MESSAGE_KEYS: Final = ("message", "error", "detail", "errors", "msg")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointErrors:
    """Make the errors of one endpoint. They quote the server's text, and never the key.

    `key_name` is the environment variable that holds the key.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    key_name: str = ""

    def of_status(self, status: int, body: bytes, headers: Mapping[str, str]) -> WorkbenchError:
        """Return the error for an HTTP status and its body."""
        body = self._without_key(body)
        try:
            value = lenient_json.loads(body)
        except ValueError:
            return self._of(status, _excerpt(body, 80), None, headers)
        return self._of(status, _excerpt(_message(value).encode(), 300), value, headers)

    def of_object(self, value: Any) -> WorkbenchError:
        """Return the error for an error object that came with status 200, as inside a stream."""
        return self.of_status(status_of(value), orjson.dumps(value), {})

    def of_choice(self, value: Any, finish_reason: object) -> NoAnswerError:
        """Return the error for a choice with an error object, or with `error` as its finish reason."""
        status, words = status_of(value), self._without_key(_message(value).encode())
        message = _excerpt(words, 300) or f"finish_reason is {finish_reason!r}"
        return NoAnswerError(
            f"{self.url} answered with an error: {message}",
            reason="error",
            hint="ask again; if it stays, try another model",
            status=200,
            retryable=status in {408, 429} or status >= 500,
        )

    def no_answer(self, fault: str, came: bytes, *, reason: str = "malformed") -> NoAnswerError:
        """Return the error for an answer with status 200 that holds no answer; `came` is quoted."""
        hint = "is base_url the address of an OpenAI-compatible API? It usually ends in /v1"
        if reason == "no_choices":
            hint = "ask again; if it stays, read the endpoint's own log"
        quoted = _excerpt(self._without_key(came), 80)
        what = f"{self.url} answered 200, but not with {fault}: {quoted!r}"
        return NoAnswerError(what, reason=reason, hint=hint, status=200)

    def not_json(self, fault: str, came: bytes) -> NoAnswerError | UnavailableError:
        """Return the error for a body that is not JSON: UnavailableError if its end is missing."""
        error, text = self.no_answer(fault, came), came.strip(b" \t\r\n\0")
        if not text or (text.startswith((b"{", b"[")) and not text.endswith((b"}", b"]"))):
            return UnavailableError(error.message, hint="ask again", status=200)
        return error

    def cut_off(self) -> UnavailableError:
        """Return the error for a stream without its end."""
        what = f"{self.url} cut its stream off before the end"
        return UnavailableError(what, hint="ask again", status=200)

    def too_many(self, limit: int) -> NoAnswerError:
        """Return the error for a stream of more than `limit` events."""
        return NoAnswerError(
            f"{self.url} streamed more than {limit} events; the rest was not read",
            reason="too_large",
            hint="set max_tokens, or ask without stream=True",
            status=200,
        )

    def too_large(self, limit: int) -> NoAnswerError:
        """Return the error for an answer of more than `limit` bytes."""
        return NoAnswerError(
            f"{self.url} answered with more than {limit} bytes; the rest was not read",
            reason="too_large",
            hint="ask for less, or raise limits.max_response_bytes on the model's card",
            status=200,
        )

    def _of(self, status: int, message: str, body: Any, headers: Mapping[str, str]) -> WorkbenchError:
        what = f"{self.url} answered {status}" + (f": {message}" if message else "")
        if status == 429:
            return _rate_limited(what, body, headers)
        if status in {401, 403}:
            key = f"{self.key_name} in the environment" if self.key_name else "the API key"
            hint = f"{'check' if self.key else 'set'} {key}"
            return RefusedError(what, hint=hint, status=status, body=body)
        if status == 408 or (status >= 500 and status != 501):
            return UnavailableError(what, hint="ask again", status=status)
        hint = "check base_url and the model's name on its card" if status == 404 else ""
        return RefusedError(what, hint=hint, status=status, body=body)

    def _without_key(self, text: bytes) -> bytes:
        return text.replace(self.key.encode(), b"[key]") if self.key else text


def _excerpt(text: bytes, most: int) -> str:
    """Return the beginning of a server's text on one line, at most `most` characters."""
    return " ".join(text[:8_000].decode("utf-8", "replace").split())[:most]


def _rate_limited(what: str, body: Any, headers: Mapping[str, str]) -> RateLimitedError:
    spent = "insufficient_quota" in _words(body)
    hint = "check the account's plan and billing" if spent else "ask later or less often"
    error = RateLimitedError(what, hint=hint, retry_after_s=_retry_after_s(headers))
    error.retryable = not spent
    return error


def status_of(value: Any) -> int:
    """Return the HTTP status that an error object states, as a number or a word; 500 if it states none."""
    for word in _words(value):
        status = int(word) if word.isdecimal() and len(word) == 3 else _STATUS_OF.get(word, 0)
        if 400 <= status < 600:
            return status
    return 500


def states_error(value: Mapping[str, Any]) -> bool:
    """Return whether an object without the key `error` is an error: a message with a code, or a `detail`."""
    if not isinstance(value.get("message"), str):
        return bool(value.get("detail"))
    words = _words(value)
    return any(
        "error" in word or word in _STATUS_OF or (word.isdecimal() and 400 <= int(word) < 600)
        for word in words
        if len(word) < 80
    )


def _words(value: Any) -> list[str]:
    """Return the code, status and type of an error object, in lower case."""
    while isinstance(value, dict) and isinstance(value.get("error"), dict):
        value = value["error"]
    stated = (value.get(name) for name in ("code", "status", "type")) if isinstance(value, dict) else ()
    return [str(word).lower() for word in stated if word is not None]


def _message(value: Any) -> str:
    """Return the text of an error object, in the shapes that servers and their frameworks use."""
    if isinstance(value, dict):
        stated = [text for name in _MESSAGE_KEYS if (text := _message(value.get(name)))]
        if isinstance(value.get("loc"), list) and stated:  # FastAPI names the field apart
            return f"{'.'.join(map(str, value['loc']))}: {stated[0]}"
        if stated or value.keys() & set(_MESSAGE_KEYS):
            return "".join(stated[:1])
        return orjson.dumps(value).decode() if value else ""
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, value[:3])))
    return "" if value is None else str(value)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, stated as seconds or as an HTTP date read against the server's clock."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None
