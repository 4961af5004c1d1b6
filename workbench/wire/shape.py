"""The wire shape of one model operation: how its requests and answers are read, as a value of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from workbench.errors import NoAnswerError, UnavailableError
from workbench.types import JSON, Event, Usage

#: What a finish reason says of an answer, in lower case: the format's own words, and those of other servers.
ENDINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "max_length", "model_length"), "truncated"),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "blocklist",
            "prohibited_content", "spii", "sensitive",
        ),
        "filtered",
    ),
    "refusal": "refusal",
}  # fmt: skip
#: What an answer without text is, and what to do.
_NO_TEXT: Final[Mapping[str, tuple[str, str]]] = {
    "refusal": ("the model refused", "read `message.refusal` through ws.openai(), or ask otherwise"),
    "filtered": ("the content filter of the endpoint withheld it", "ask otherwise, or change the filter"),
    "truncated": ("it reached the limit of tokens before its text", "raise {limit}"),
    "tool_call": ("the model called a tool", "read the call in `raw` of ws.model().chat(…)"),
    "empty": ("the model sent none", "ask again, or ask otherwise"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The functions that read one operation's wire JSON. `path` is the route below an endpoint's base URL.

    `fold` combines the events of an answer into the whole answer; `unfold` is its inverse. `is_chunk` tells
    an event of a stream from a whole answer, `is_complete` whether events are an answer with its end.
    `piece_of` is the text that one event adds. `usage_of` reads a whole answer or an event, and is worth
    asking if `states_usage`. `text_of`, `finish_of`, `ending_of`, `reason_of` and `check_text` read a whole
    answer. `generates` is true if the model writes text.
    `max_output_tokens` is the request's own limit for all its answers, or None. `input_texts` yields every
    text of a request that counts as input, tools and schemas as JSON; `input_messages` is their number of
    messages. An image counts by the text of its URL.

    `request` makes the fields of a request of chat turns, with the JSON schema of its answer, and `continued`
    adds turns to a request. `output_format` is the type of the answer that a request demands, such as
    `json_schema`, and its schema. `outcomes_of` are the text of each answer and what it lacks. `stated` makes
    a whole answer of a model's name, a text and a time, which used no tokens.
    """

    operation: str
    path: str
    fold: Callable[[Iterable[Event]], JSON]
    unfold: Callable[..., list[JSON]]
    is_chunk: Callable[[Any], bool]
    is_complete: Callable[[Sequence[Event]], bool]
    piece_of: Callable[[JSON], str]
    states_usage: Callable[[JSON], bool]
    usage_of: Callable[[JSON], Usage]
    text_of: Callable[[JSON], str]
    finish_of: Callable[[JSON], str | None]
    ending_of: Callable[[JSON], str]
    reason_of: Callable[[JSON], str]
    check_text: Callable[..., str]
    max_output_tokens: Callable[[JSON], int | None]
    input_texts: Callable[[JSON], Iterator[str]]
    input_messages: Callable[[JSON], int]
    generates: bool = True
    #: Where a request states the schema of its answer.
    schema_at: str = ""
    request: Callable[[list[dict[str, Any]], JSON | None], dict[str, Any]] = lambda _turns, _schema: {}
    continued: Callable[[JSON, list[dict[str, Any]]], JSON] = lambda payload, _turns: payload
    output_format: Callable[[JSON], tuple[str, Any]] = lambda _payload: ("", None)
    outcomes_of: Callable[[JSON], list[tuple[Any, str]]] = lambda _answer: []
    stated: Callable[[str, str, int], dict[str, Any]] = lambda _model, _text, _created: {}
    #: Names of the other dialect's parameters, and what they are called in this one.
    foreign: Mapping[str, str] = field(default_factory=dict)


def count_of(value: object) -> int | None:
    """Return a number of tokens; None for another value, or one too large to be a count."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**53 else None


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def list_of(value: Any) -> Sequence[Any]:
    """Return a list or tuple as it is, and an empty one for any other value."""
    return value if isinstance(value, list | tuple) else ()


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text inside a JSON value, in its order; keys do not count."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list | tuple):
            waiting.extend(reversed(part))
        elif type(part) is dict or isinstance(part, Mapping):
            waiting.extend(reversed([*part.values()]))


def json_texts(payload: JSON, names: Iterable[str]) -> Iterator[str]:
    """Yield the JSON text of each named field that a request has, as tools are counted."""
    for name in names:
        if payload.get(name):
            yield orjson.dumps(payload[name], default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def is_deeper(encoded: bytes, value: Any, most: int) -> bool:
    """Return whether a JSON value has more than `most` levels, without recursion."""
    if encoded.count(b"{") + encoded.count(b"[") <= most:
        return False
    level = [value]
    for _ in range(most):
        level = [
            part
            for item in level
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def only_event(events: Iterable[Event]) -> JSON:
    """Return the data of the last event; raise UnavailableError for an answer without one."""
    found = [event.data for event in events]
    if not found:
        raise UnavailableError("the stream ended without an event")
    whole: JSON = found[-1]
    return whole


def no_text(reason: str, *, limit: str = "max_tokens") -> NoAnswerError:
    """Return the error for an answer whose text is missing for this reason, a result of `reason_of`.

    `limit` is the request's name for the limit of tokens.
    """
    what, hint = _NO_TEXT[reason]
    hint = hint.format(limit=limit)
    return NoAnswerError(f"the answer has no text: {what}", reason=reason, hint=hint)


def unstreamed(
    operation: str,
    path: str,
    *,
    usage_of: Callable[[JSON], Usage],
    input_texts: Callable[[JSON], Iterator[str]],
    input_messages: Callable[[JSON], int],
) -> Dialect:
    """Return the dialect of an operation that answers with one event, which has no text."""
    return Dialect(
        operation=operation,
        path=path,
        fold=only_event,
        unfold=lambda answer, **_: [answer],
        is_chunk=lambda _: False,
        is_complete=bool,
        piece_of=lambda _: "",
        states_usage=lambda data: bool(data.get("usage")),
        usage_of=usage_of,
        text_of=lambda _: "",
        finish_of=lambda _: None,
        ending_of=lambda _: "",
        reason_of=lambda _: "",
        check_text=lambda _, **__: "",
        max_output_tokens=lambda _: 0,
        input_texts=input_texts,
        input_messages=input_messages,
        generates=False,
    )
