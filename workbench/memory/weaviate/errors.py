"""Translate errors of the server and its client into the workbench's own.

The server's messages quote names, filters and sometimes texts, so none of them is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from workbench.errors import ConfigError, CorruptError, RefusedError, UnavailableError, WorkbenchError

#: The oldest version with all that the store uses: object TTL, aliases, tenant activation.
OLDEST = (1, 36)
_START = "make weaviate   # starts one here; `workbench doctor` names the server of params.yaml"
_RESTORE = "wait a few seconds and try again; when it stays so, workbench memory restore a snapshot"
#: What to type when a memory is damaged, and so takes no snapshot under its own name.
ANOTHER = "workbench memory restore FOLDER: a snapshot, into a memory of another name or version"
_WAIT = "wait a few seconds and run the same command again"
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


def meaning(text: str) -> str:
    """Return the meaning of a message of the server, in one word; "other" for an unknown one."""
    lowered = text.lower()
    return next((word for pattern, word in _MEANINGS if re.search(pattern, lowered)), "other")


class AbsentError(UnavailableError):
    """The server has no such collection or tenant; `what` says which of the two."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            f"the Weaviate at {where} has lost the {what} of this memory, or is starting", hint=_RESTORE
        )
        self.what = what


class InactiveError(UnavailableError):
    """The tenant is being deactivated; a second request activates it."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the tenant is being deactivated in the Weaviate at {where}, and was not activated in time",
            hint="workbench memory deactivate, then the same command again",
        )


class BusyError(UnavailableError):
    """A tenant is in use and cannot be deactivated; until that is repeated, reads may be refused."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"a tenant is in use in the Weaviate at {where}, and cannot be deactivated yet",
            hint=_WAIT,
        )


class ExistsError(UnavailableError):
    """The server has an object of that name already: another process was first."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the Weaviate at {where} has an object of that name already", hint=_WAIT, status=422
        )


def translated(error: Exception, where: str) -> WorkbenchError:
    """Return the workbench's error for one of the client's; `where` names the server."""
    from weaviate import exceptions as vendor

    if isinstance(error, WorkbenchError):
        return error
    if isinstance(error, TimeoutError | vendor.WeaviateTimeoutError):
        return slow(where)
    status = getattr(error, "status_code", None)
    if isinstance(error, vendor.InsufficientPermissionsError) or status in {401, 403}:
        return refused(where, meaning_of_status(status, str(error)))
    if isinstance(error, vendor.WeaviateStartUpError | vendor.WeaviateConnectionError) or _transport(error):
        return down(where)
    if status is not None and status >= 500:
        crowded = meaning(str(error)) == "crowded"
        return named("crowded" if crowded else "starting" if status == 503 else "other", where, status)
    return named(meaning(str(error)), where, status)


def meaning_of_status(status: Any, text: str) -> str:
    """Return whether a refusal concerns the key itself or its permissions."""
    return "key" if status == 401 or meaning(text) == "key" else "refused"


def down(where: str) -> UnavailableError:
    """Return the error for an address at which no server listens."""
    return UnavailableError(f"no Weaviate answers at {where}: the connection was refused", hint=_START)


def slow(where: str) -> UnavailableError:
    """Return the error for an answer that did not come within the deadline."""
    return UnavailableError(f"the Weaviate at {where} did not answer in time", hint=_WAIT)


def starting(where: str) -> UnavailableError:
    """Return the error for a server that listens and cannot read yet."""
    return UnavailableError(f"the Weaviate at {where} is starting: it cannot read its schema yet", hint=_WAIT)


def silent_grpc(where: str, port: int) -> UnavailableError:
    """Return the error for a server that answers HTTP and not gRPC."""
    return UnavailableError(
        f"the Weaviate at {where} answers HTTP, but nothing answers gRPC on port {port}",
        hint="open the server's GRPC_PORT, or name it as grpc_port beside the URL",
    )


def too_old(where: str, version: str) -> ConfigError:
    """Return the error for a server older than the store needs."""
    oldest = ".".join(map(str, OLDEST))
    return ConfigError(
        f"the Weaviate at {where} is version {version}; {oldest} or later is needed",
        hint="make weaviate   # builds and starts a fitting one",
    )


def refused(where: str, word: str) -> RefusedError:
    """Return the error for a key that is invalid, or valid without permission."""
    if word == "key":
        return RefusedError(
            f"the Weaviate at {where} does not accept the key",
            hint="export the variable that memory_api_key_env (api_key_env of an address) names",
            status=401,
        )
    return RefusedError(
        f"the key may not do this in the Weaviate at {where}",
        hint="use a key whose role covers this tenant and this verb",
        status=403,
    )


def other_dimensions(where: str) -> ConfigError:
    """Return the error for vectors of another embedding than the stored ones."""
    return ConfigError(
        f"the vectors have other dimensions than those stored in this memory in the Weaviate at {where}",
        hint="never mix two embeddings: give the new one a memory of its own",
    )


def partly(where: str, number: int) -> UnavailableError:
    """Return the error for objects that the server refused in several attempts."""
    return UnavailableError(
        f"the Weaviate at {where} refused {number} items in several attempts",
        hint="run the same command again; what was taken is kept",
    )


def overtaken(where: str) -> UnavailableError:
    """Return the error for a tenant that another machine wrote meanwhile."""
    return UnavailableError(
        f"another writer changed this tenant in the Weaviate at {where} meanwhile: its record stays as it is",
        hint="run the same command again; what was written is kept",
    )


def record_lost(where: str) -> CorruptError:
    """Return the error for a tenant that has rows and no record of its versions."""
    return CorruptError(
        f"a tenant has items in the Weaviate at {where}, and the record of its versions is lost",
        hint=ANOTHER,
    )


def _transport(error: Exception) -> bool:
    """Return whether the connection failed; httpx and grpc belong to the client, so names are compared."""
    if type(error).__name__ in {"WeaviateRetryError", "WeaviateGRPCUnavailableError"}:
        return True
    words = ("failed to connect", "connection refused", "connecterror", "readerror", "socket closed",
             "remoteprotocolerror", "statuscode.unavailable", "connection reset")  # fmt: skip
    said = f"{type(error).__name__} {error}".lower()
    return type(error).__module__.startswith(("httpx", "httpcore")) or any(word in said for word in words)


def named(word: str, where: str, status: int | None = None) -> WorkbenchError:
    """Return the error for a word of `meaning`."""
    plain: dict[str, Callable[[str], WorkbenchError]] = {
        "slow": slow, "starting": starting, "dimensions": other_dimensions, "exists": ExistsError,
        "inactive": InactiveError, "busy": BusyError,
    }  # fmt: skip
    if word in plain:
        return plain[word](where)
    if word in {"key", "refused"}:
        return refused(where, word)
    if word in {"collection", "tenant"}:
        return AbsentError(where, word)
    if word in {"read-only", "full"}:
        return UnavailableError(
            f"the Weaviate at {where} takes no writes: it is read-only, or its disk or memory is full",
            hint="free disk or memory, then PUT status READY to its shards; reads are answered meanwhile",
            status=status,
        )
    if word == "crowded":
        return UnavailableError(
            f"the Weaviate at {where} has too many active tenants: each takes about twenty open files",
            hint="workbench memory deactivate frees them; or raise the server's limit of open files",
            status=status,
        )
    return UnavailableError(f"the Weaviate at {where} could not do this", hint=_WAIT, status=status)
