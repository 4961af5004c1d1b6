"""The verbs of a workspace that its gateway answers: their arguments and results as JSON, at both ends."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import functools
import inspect
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from workbench import _sync
from workbench.content import OpenedContent
from workbench.context import Context
from workbench.errors import ConfigError, UnavailableError, nearest
from workbench.identity import Principal
from workbench.records.outcomes import RecordedOutcome
from workbench.types import Reply

if TYPE_CHECKING:
    import polars as pl

    from workbench.remote.connection import GatewayConnection

F = TypeVar("F", bound=Callable[..., Any])
#: The route of the verbs, to which the name of one is added.
ROUTE: Final = "/workbench/v1/verbs/"
#: The keys of values that JSON has no form for.
_FRAME, _LAZY, _REPLY, _VALUE, _COLUMNS = "$frame", "$lazy_frame", "$reply", "$value", "$columns"
#: Verbs that answer in another form than the workspace does: a reply stays with its caller.
_ANSWERS: Final = frozenset(
    {
        "calls", "costs", "sessions", "outcome", "outcomes", "why", "content", "impact", "released",
        "budget", "endpoints",
    }
)  # fmt: skip


class RemoteVerbs:
    """Asks the gateway at the other end of a connection for the verbs of a workspace of `use_case`.

    `own` is the principal that the gateway knows the caller as; a workspace of another one states it.
    """

    def __init__(self, connection: GatewayConnection, *, use_case: str, own: Principal) -> None:
        self._connection, self._use_case, self._own = connection, use_case, own

    def ask(self, verb: str, context: Context | None, **arguments: Any) -> Any:
        """Return the result of a verb; raise the error that the gateway raised."""
        return _sync.run(self.ask_async(verb, context, **arguments))

    async def ask_async(self, verb: str, context: Context | None, **arguments: Any) -> Any:
        """Return the result of a verb for a context; raise the error that the gateway raised."""
        asked: dict[str, Any] = {"use_case": self._use_case}
        if context is not None:
            names = ("tenant", "purpose", "session", "subject")
            asked |= {name: value for name in names if (value := getattr(context, name))}
            if context.principal != self._own:
                asked["principal"] = dataclasses.asdict(context.principal)
        asked["arguments"] = {name: encoded_argument(value) for name, value in arguments.items()}
        body = json.dumps(asked).encode()
        answer = await self._connection.request("POST", f"{ROUTE}{verb}", body)
        try:
            return decoded(json.loads(answer.body)["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"the gateway answered the verb {verb} with something else: {type(error).__name__}",
                hint="workbench gateway stop   # the next call starts it again",
            ) from None


class _AskingWorkspace(Protocol):
    """A workspace, as far as its verbs are asked of a gateway."""

    @property
    def context(self) -> Context:
        """Who asks."""

    @property
    def asks(self) -> RemoteVerbs | None:
        """What asks the gateway; None where this process answers."""


def by_gateway(method: F) -> F:
    """Return a verb that the gateway answers for a workspace that has one, and this process otherwise."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def verb(self: _AskingWorkspace, /, *args: Any, **kwargs: Any) -> Any:
        asks = self.asks
        if asks is None:
            return method(self, *args, **kwargs)
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        given.pop("self", None)
        found = asks.ask(method.__name__, self.context, **given)
        return _explained(found, given) if method.__name__ == "why" else found

    return cast("F", verb)


def check_verb(name: str) -> str:
    """Return the name of a verb; raise ConfigError for one that no gateway answers."""
    if name not in _ANSWERS:
        raise ConfigError(f"a gateway answers no verb {name[:80]!r} ({nearest(name[:80], _ANSWERS)})")
    return name


def encoded(value: Any) -> Any:
    """Return an argument or a result as JSON; raise ConfigError for a value without a form in it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) or hasattr(value, "collect_schema"):
        return _encoded_object(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): encoded(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [encoded(item) for item in value]
    raise ConfigError(f"a {type(value).__name__} cannot be sent to a gateway", hint="pass a text or a number")


def encoded_argument(value: Any) -> Any:
    """Return an argument as JSON, a frame as the values of its columns.

    A gateway reads no frame in Arrow's format: a small compressed one could fill its memory.
    """
    if not hasattr(value, "collect_schema"):
        return encoded(value)
    import polars as pl

    frame = value.collect() if isinstance(value, pl.LazyFrame) else value
    return {_COLUMNS: {name: _column(frame[name]) for name in frame.columns}}


def decoded_argument(value: Any) -> Any:
    """Return the value of an argument's JSON form; ValueError, KeyError and TypeError for another one."""
    if isinstance(value, list):
        return [decoded_argument(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _COLUMNS in value:
        return _frame_of_columns(value[_COLUMNS])
    if _REPLY in value:
        return _READERS[_REPLY](value)
    if _VALUE in value:
        raise ValueError(f"a {str(value[_VALUE])[:80]} is no argument")
    if _FRAME in value or _LAZY in value:
        raise ValueError("a frame is an argument by the values of its columns")
    return {name: decoded_argument(item) for name, item in value.items()}


def _column(values: pl.Series) -> list[Any]:
    """Return the type and the values of a column; values that are no numbers are texts."""
    import polars as pl

    if values.dtype.is_integer() or values.dtype == pl.Boolean:
        return ["integer" if values.dtype.is_integer() else "boolean", values.to_list()]
    if values.dtype.is_numeric():
        return ["number", values.cast(pl.Float64).to_list()]
    return ["text", [None if value is None else str(value) for value in values.to_list()]]


def _frame_of_columns(stated: Any) -> pl.DataFrame:
    import polars as pl

    kinds: dict[str, Any] = {
        "integer": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean, "text": pl.String,
    }  # fmt: skip
    try:
        return pl.DataFrame(
            [pl.Series(name, values, dtype=kinds[kind]) for name, (kind, values) in stated.items()]
        )
    except (AttributeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ValueError(str(error)) from None


def _encoded_object(value: Any) -> Any:
    """Return a frame, a reply or a result of a verb as JSON."""
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        return {_LAZY: _bytes_of(value.collect())}
    if isinstance(value, pl.DataFrame):
        return {_FRAME: _bytes_of(value)}
    if isinstance(value, Reply):
        return {_REPLY: value.trace_id}
    name = type(value).__name__
    return {_VALUE: name, "fields": _adapter(name).dump_python(value, mode="json")}


def decoded(value: Any) -> Any:
    """Return the value of a JSON form; ValueError, KeyError and TypeError for another one."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key, read in _READERS.items():
        if key in value:
            return read(value)
    return {name: decoded(item) for name, item in value.items()}


def _explained(record: Any, given: Mapping[str, Any]) -> Any:
    from workbench.records.explanation import Explanation

    return Explanation(reply=given["reply"], record=record)


def _bytes_of(frame: pl.DataFrame) -> str:
    """Return a frame in Arrow's format of files, compressed, as a text."""
    file = io.BytesIO()
    frame.write_ipc(file, compression="zstd")
    return base64.b64encode(file.getvalue()).decode()


def _frame_of(text: Any) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_ipc(io.BytesIO(base64.b64decode(text, validate=True)))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ValueError(str(error)) from None


def _kinds() -> dict[str, type]:
    """Return the classes of results by their names."""
    from workbench.budgets.report import BudgetReport
    from workbench.workspace.impact import Impact

    return {kind.__name__: kind for kind in (BudgetReport, Impact, OpenedContent, RecordedOutcome)}


@functools.cache
def _adapter(name: str) -> Any:
    """Return the reader and writer of a class; building it takes milliseconds."""
    from pydantic import TypeAdapter

    if name not in _kinds():
        raise ConfigError(f"a {name} cannot be sent to a gateway", hint="pass a text, a number or a frame")
    return TypeAdapter(_kinds()[name])


#: What reads each form that JSON has none for.
_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Any]]] = {
    _FRAME: lambda value: _frame_of(value[_FRAME]),
    _LAZY: lambda value: _frame_of(value[_LAZY]).lazy(),
    _REPLY: lambda value: Reply(text="", model="", trace_id=str(value[_REPLY])),
    _VALUE: lambda value: _adapter(value[_VALUE]).validate_python(value["fields"]),
}
