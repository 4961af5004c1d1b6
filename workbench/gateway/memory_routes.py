"""The routes of memories: search, remember, forget, and what a memory holds, as JSON."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from workbench import registry
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.gateway.exchange import GatewayExchange
from workbench.gateway.gateway import Gateway, ServedCaller
from workbench.retrieval import MemoryHandle
from workbench.retrieval.items import Days

#: The verbs of a memory that a request may name, and the method of each. Those that read or write files of
#: the gateway's machine are not among them.
VERBS: Final[Mapping[str, str]] = {
    "search": "POST", "remember": "POST", "forget": "POST", "hold": "POST", "release": "POST",
    "purge": "POST", "count": "GET", "items": "GET", "versions": "GET", "stats": "GET",
}  # fmt: skip
#: Arguments that a request calls otherwise than the method does.
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {"search": {"query": "text"}}


async def answer_memories(gateway: Gateway, exchange: GatewayExchange, caller: ServedCaller) -> None:
    """List the memories that the caller may name."""
    permitted = caller.grant.scope.memories
    names = [
        name for name in registry.names(gateway.root, "memory") if permitted is None or name in permitted
    ]
    data = [{"id": name, "object": "memory"} for name in names]
    await exchange.whole(200, orjson.dumps({"object": "list", "data": data}))


async def answer_memory(gateway: Gateway, exchange: GatewayExchange, caller: ServedCaller) -> None:
    """Answer a verb of a memory with its result; raise NotFoundError for a verb that there is not."""
    name, verb = exchange.scope["path_params"]["name"], exchange.scope["path_params"]["verb"]
    method = VERBS.get(verb)
    if method is None:
        raise NotFoundError(
            f"a memory has no verb {verb[:40]!r} here ({nearest(verb[:40], VERBS)})",
            hint="GET /openapi.json lists the routes",
        )
    if exchange.method != method:
        raise ConfigError(f"the verb {verb} is asked with {method}, not with {exchange.method[:20]}")
    body = await exchange.body(most=gateway.most_bytes)
    stated = _arguments(verb, body)
    async with exchange.watched():
        result = await _called(caller.ws.memory(name), verb, stated)
        await exchange.whole(200, orjson.dumps(_plain(result), default=_plain))


async def _called(memory: MemoryHandle, verb: str, stated: Mapping[str, Any]) -> Any:
    if verb == "items":
        if stated:
            raise ConfigError(f"items takes no {next(iter(stated))[:40]!r}", hint="it takes nothing")
        return {"items": await memory.view.items()}
    method = getattr(memory, f"{verb}_async")
    named, known = _checked(verb, method, stated)
    try:
        found = await method(**named)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise ConfigError(
            f"{verb}: an argument has the wrong type", hint=f"it takes {', '.join(known)}"
        ) from error
    if isinstance(found, list):
        return {{"search": "hits"}.get(verb, verb): found}
    return {"count": found} if isinstance(found, int) else found


def _checked(
    verb: str, method: Callable[..., Any], stated: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of a method, and the names of all; raise ConfigError for one that it lacks."""
    ours = _NAMES.get(verb, {})
    theirs = {name: wire for wire, name in ours.items()}
    parameters = inspect.signature(method).parameters
    known = [theirs.get(name, name) for name, item in parameters.items() if item.kind is not item.VAR_KEYWORD]
    if len(known) < len(parameters):
        known += Days.__annotations__
    if unknown := [name for name in stated if name not in known]:
        raise ConfigError(
            f"{verb} takes no {unknown[0][:40]!r} ({nearest(unknown[0][:40], known)})",
            hint=f"it takes {', '.join(known) or 'nothing'}",
        )
    needed = [name for name, item in parameters.items() if item.default is item.empty]
    for name in needed:
        if theirs.get(name, name) not in stated and parameters[name].kind is not parameters[name].VAR_KEYWORD:
            raise ConfigError(f"{verb} needs {theirs.get(name, name)}", hint=f"it takes {', '.join(known)}")
    return {ours.get(name, name): value for name, value in stated.items()}, known


def _arguments(verb: str, body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise ConfigError(f"{verb}: the body is not JSON: {error}", hint='{"query": "…", "k": 5}') from None
    if not isinstance(found, dict):
        raise ConfigError(f"{verb}: the body is no object", hint='{"query": "…", "k": 5}')
    return found


def _plain(value: Any) -> Any:
    """Return a result in the types that JSON has; vectors are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.name != "vector" and not item.name.startswith("_")
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value
