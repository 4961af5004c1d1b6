"""Translate errors of the Weaviate server and its client into the workbench's own.

The server's messages quote names, filters and sometimes texts, so none of them is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workbench.errors import ConfigError, CorruptError, RefusedError, UnavailableError, WorkbenchError

#: The oldest version with all that the store uses: object TTL, aliases, tenant activation.
OLDEST = (1, 36)
#: The hint for a damaged memory, which takes no snapshot under its own name.
ANOTHER = "workbench memory restore FOLDER: a snapshot, into a memory of another name or version"
_START = "make weaviate   # starts one here; `workbench doctor` names the server of params.yaml"
_WAIT = "wait a few seconds and run the same command again"
_AGAIN = "run the same command again; the written rows are kept"
#: Patterns of the server's messages, in the order in which they are tried, and their meanings.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"read.?only", "read-only"),
    (r"unauthenticated|anonymous access not enabled|invalid api key|unauthorized", "key"),
    (r"forbidden|permission|rbac", "refused"),
    (r"dimension|vector lengths don't match", "dimensions"),
    (r"could not find class|class not found|class .* not found in schema", "collection"),
    (r"tenant not found|tenant .* does not exist", "tenant"),
    (r"tenant not active|inactive|cold|already shut or dropped|shutdown in progress", "inactive"),
    (r"deadline exceeded|timed out|timeout", "slow"),
    (r"memory pressure|not enough memory|disk|no space left", "full"),
    (r"too many open files", "crowded"),
    (r"leader not found|not ready|starting|no leader|shutting down", "starting"),
    (r"already exists", "exists"),
    (r"still in use", "busy"),
)
#: Parts of the names and messages of errors with which httpx and grpc report a failed connection.
_TRANSPORT = re.compile(
    "failed to connect|connection refused|connecterror|readerror|socket closed|remoteprotocolerror|"
    "statuscode.unavailable|connection reset|weaviateretryerror|weaviategrpcunavailableerror"
)


class AbsentError(UnavailableError):
    """The server has no such collection or tenant."""


class InactiveError(UnavailableError):
    """The tenant is being deactivated; a second request activates it."""


class BusyError(UnavailableError):
    """A tenant is in use and cannot be deactivated; until that is repeated, reads may be refused."""


class ExistsError(UnavailableError):
    """The server has an object of that name already: another process was first."""


_LOST = (
    AbsentError,
    "the Weaviate at {where} has lost the {word} of this memory, or is starting",
    "wait a few seconds and try again; if the error remains, workbench memory restore a snapshot",
)
_NO_WRITES = (
    UnavailableError,
    "the Weaviate at {where} takes no writes: it is read-only, or its disk or memory is full",
    "free disk or memory, then PUT status READY to its shards; reads are answered meanwhile",
)
#: The class, the message and the hint of each error, by a word of `_MEANINGS` or of a caller.
_ERRORS: Mapping[str, tuple[type[WorkbenchError], str, str]] = {
    "down": (UnavailableError, "no Weaviate answers at {where}: the connection was refused", _START),
    "slow": (UnavailableError, "the Weaviate at {where} did not answer in time", _WAIT),
    "starting": (
        UnavailableError, "the Weaviate at {where} is starting: it cannot read its schema yet", _WAIT,
    ),
    "grpc": (
        UnavailableError, "the Weaviate at {where} answers HTTP, but nothing answers gRPC on port {port}",
        "open the server's GRPC_PORT, or name it as grpc_port beside the URL",
    ),
    "old": (
        ConfigError, "the Weaviate at {where} is version {version}; {oldest} or later is needed",
        "make weaviate   # builds and starts a fitting one",
    ),
    "key": (
        RefusedError, "the Weaviate at {where} does not accept the key",
        "export the variable that memory_api_key_env (api_key_env of an address) names",
    ),
    "refused": (
        RefusedError, "the key may not do this in the Weaviate at {where}",
        "use a key whose role covers this tenant and this verb",
    ),
    "dimensions": (
        ConfigError,
        "the vectors have other dimensions than those stored in this memory in the Weaviate at {where}",
        "never mix two embeddings: give the new one a memory of its own",
    ),
    "collection": _LOST,
    "tenant": _LOST,
    "record": (
        CorruptError,
        "a tenant has items in the Weaviate at {where}, and the record of its versions is lost", ANOTHER,
    ),
    "inactive": (
        InactiveError,
        "the tenant is being deactivated in the Weaviate at {where}, and was not activated in time",
        "workbench memory deactivate, then the same command again",
    ),
    "busy": (
        BusyError, "a tenant is in use in the Weaviate at {where}, and cannot be deactivated yet", _WAIT,
    ),
    "exists": (ExistsError, "the Weaviate at {where} has an object of that name already", _WAIT),
    "partly": (
        UnavailableError, "the Weaviate at {where} refused {number} items in several attempts", _AGAIN,
    ),
    "overtaken": (
        UnavailableError,
        "another writer changed this tenant in the Weaviate at {where}: its record was not replaced", _AGAIN,
    ),
    "read-only": _NO_WRITES,
    "full": _NO_WRITES,
    "crowded": (
        UnavailableError,
        "the Weaviate at {where} has too many active tenants: each takes about twenty open files",
        "workbench memory deactivate frees them; or raise the server's limit of open files",
    ),
    "other": (UnavailableError, "the Weaviate at {where} could not do this", _WAIT),
}  # fmt: skip
_STATUS = {"key": 401, "refused": 403, "exists": 422}


def named(word: str, where: str, *, status: int | None = None, **values: object) -> WorkbenchError:
    """Return the error for a word of `_ERRORS`; `where` names the server, `values` fill the message."""
    kind, message, hint = _ERRORS[word]
    error = kind(message.format(where=where, word=word, **values), hint=hint)
    if isinstance(error, RefusedError | UnavailableError):
        error.status = _STATUS.get(word, status)
    return error


def meaning(text: str) -> str:
    """Return the meaning of a message of the server, in one word; "other" for an unknown one."""
    lowered = text.lower()
    return next((word for pattern, word in _MEANINGS if re.search(pattern, lowered)), "other")


def translated(error: Exception, where: str) -> WorkbenchError:
    """Return the workbench's error for one of the client's; `where` names the server."""
    from weaviate import exceptions as vendor

    if isinstance(error, WorkbenchError):
        return error
    status = getattr(error, "status_code", None)
    return named(_word(error, status, vendor), where, status=status)


def _word(error: Exception, status: int | None, vendor: Any) -> str:
    if isinstance(error, TimeoutError | vendor.WeaviateTimeoutError):
        return "slow"
    word = meaning(str(error))
    if isinstance(error, vendor.InsufficientPermissionsError) or status in {401, 403}:
        return "key" if status == 401 or word == "key" else "refused"
    if isinstance(error, vendor.WeaviateStartUpError | vendor.WeaviateConnectionError) or _transport(error):
        return "down"
    if status is not None and status >= 500:
        return word if word == "crowded" else "starting" if status == 503 else "other"
    return word


def _transport(error: Exception) -> bool:
    """Return whether the connection failed; httpx and grpc belong to the client, so names are compared."""
    kind = type(error)
    text = f"{kind.__name__} {error}".lower()
    return kind.__module__.startswith(("httpx", "httpcore")) or bool(_TRANSPORT.search(text))
