"""Clients of the `openai` package that answer a plain request without an HTTP request and response around it.

To build an HTTP request, to carry it to a transport and to read a response costs more than everything that
the controls do. A request that only an HTTP request can carry takes the ordinary way: one with headers, a
query, another timeout or raw response, and one whose body is not plain JSON. So does every request of a
client whose HTTP client has hooks, of one whose method `request` a tracer has replaced, and of a version of
`openai` whose requests have options that are not known here.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import httpx2
    import openai

T = TypeVar("T")
#: Answers a path and the body of a request within some seconds: with the body of the response, or with the
#: response of an error.
Answer = Callable[[str, bytes, float | None], "bytes | httpx2.Response"]
AnswerAsync = Callable[[str, bytes, float | None], "Awaitable[bytes | httpx2.Response]"]
#: The routes that are answered; others have other forms of an answer.
_PATHS: Final = frozenset({"/chat/completions", "/responses"})
#: Options of a request that take the ordinary way unless they have these values.
_UNSET: Final[Mapping[str, Any]] = {
    "params": {}, "files": None, "content": None, "idempotency_key": None, "follow_redirects": None,
    "extra_json": None,
}  # fmt: skip
#: orjson writes nothing that the wire format lacks: OPT_PASSTHROUGH_SUBCLASS, _DATETIME and _DATACLASS.
_STRICT: Final = 1 << 8 | 1 << 9 | 1 << 11
_NOT_GIVEN: Final = ("headers", "max_retries", "timeout", "post_parser")
#: Options that this path reads, or that change nothing without an HTTP request.
_READ: Final = frozenset(
    {"method", "url", "json_data", "security", "synthesize_event_and_data", "stream_mode"}
)
_KNOWN: Final = _READ | {*_UNSET, *_NOT_GIVEN}
#: The methods of a client that this path needs, and the module that has the original `request`.
_NEEDED: Final = ("_process_response_data", "_make_status_error_from_response", "_prepare_url", "is_closed")
_ORIGINAL: Final = "openai._base_client"


def client_class(answer: Answer, http: object) -> type[openai.OpenAI]:
    """Return a class of clients over the HTTP client `http` that gives plain requests to `answer`."""
    import openai

    class Client(openai.OpenAI):
        def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
            body = None if stream else _plain_body(self, http, cast_to, options)
            if body is None:
                ordinary: Any = super().request
                return ordinary(cast_to, options, stream=stream, stream_cls=stream_cls)
            return _read(self, cast_to, options.url, answer(options.url, body, self.timeout))  # type: ignore[arg-type]  # `_plain_body` saw a number

    return _named_as(Client, openai.OpenAI)


def async_client_class(answer: AnswerAsync, http: object) -> type[openai.AsyncOpenAI]:
    """Return the async twin of `client_class`."""
    import openai

    class Client(openai.AsyncOpenAI):
        async def request(
            self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
        ) -> Any:
            body = None if stream else _plain_body(self, http, cast_to, options)
            if body is None:
                ordinary: Any = super().request
                return await ordinary(cast_to, options, stream=stream, stream_cls=stream_cls)
            return _read(self, cast_to, options.url, await answer(options.url, body, self.timeout))  # type: ignore[arg-type]  # `_plain_body` saw a number

    return _named_as(Client, openai.AsyncOpenAI)


def _named_as(made: type[T], like: type) -> type[T]:
    """Return the class with the name that libraries look for in the type of a client."""
    made.__name__, made.__qualname__, made.__module__ = like.__name__, like.__qualname__, like.__module__
    return made


def _plain_body(client: Any, http: object, cast_to: type, options: Any) -> bytes | None:
    """Return the JSON of a request that needs no HTTP request; None for one that does."""
    import openai
    import orjson

    if options.url not in _PATHS or options.method.lower() != "post" or type(options.json_data) is not dict:
        return None
    fields = options.__dict__
    given = any(fields.get(name, value) != value for name, value in _UNSET.items())
    if given or any(not isinstance(fields.get(name, openai.NOT_GIVEN), _absent()) for name in _NOT_GIVEN):
        return None
    ours = client._client is http and _is_known(type(client), options)  # noqa: SLF001 - of a subclass
    ours = ours and not client.is_closed() and not any(http.event_hooks.values())  # type: ignore[attr-defined]
    plain = ours and isinstance(client.timeout, int | float | None)
    if not plain or not (isinstance(cast_to, type) and issubclass(cast_to, openai.BaseModel)):
        return None
    try:
        body = orjson.dumps(options.json_data, option=_STRICT)
    except TypeError:
        return None
    return None if b"null" in body else body  # a number that is not finite becomes null


def _is_known(kind: type, options: Any) -> bool:
    """Return whether `openai` is as this path knows it, and nothing has replaced its `request`."""
    request = kind.__mro__[1].request  # type: ignore[attr-defined]
    original = isinstance(request, FunctionType) and request.__globals__.get("__name__") == _ORIGINAL
    return original and _KNOWN.issuperset(options.__dict__) and _has_needed(kind)


@functools.cache
def _has_needed(kind: type) -> bool:
    return all(callable(getattr(kind, name, None)) for name in _NEEDED)


@functools.cache
def _absent() -> tuple[type, ...]:
    """Return the types of values that stand for an option that was not given."""
    import openai

    return tuple(
        {
            type(openai.NOT_GIVEN),
            type(getattr(openai, "not_given", openai.NOT_GIVEN)),
            getattr(openai, "Omit", type(openai.NOT_GIVEN)),
        }
    )


def _read(client: Any, cast_to: type[T], path: str, answered: bytes | httpx2.Response) -> T:
    """Return the answer as the client's own type; raise the client's own error."""
    import orjson

    if isinstance(answered, bytes):
        made: T = client._process_response_data(data=orjson.loads(answered), cast_to=cast_to, response=None)  # noqa: SLF001
        return made
    answered.request = client._client.build_request("POST", client._prepare_url(path))  # noqa: SLF001
    raise client._make_status_error_from_response(answered) from None  # noqa: SLF001
