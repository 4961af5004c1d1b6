"""What the server and its client say, as the workbench's own errors.

The server's words quote names, filters and sometimes texts, so none of them is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from workbench.errors import ConfigError, CorruptError, RefusedError, UnavailableError, WorkbenchError

#: The oldest server with all that the store uses: object TTL, aliases, tenant activation.
OLDEST = (1, 36)
_START = "make weaviate   # starts one here; `workbench doctor` says which server is meant"
_RESTORE = "wait a few seconds and try again; when it stays so, workbench memory restore a snapshot"
#: What to type when a memory is not whole any more, and so takes nothing under its own name.
ANOTHER = "workbench memory restore FOLDER: a snapshot, into a memory of another name or version"
_WAIT = "wait a few seconds and run the same command again"
#: What the server says, in the order in which it is looked for, and what it means.
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
    """What the server's words mean, in one word; "other" for those nobody has met."""
    lowered = text.lower()
    return next((word for pattern, word in _MEANINGS if re.search(pattern, lowered)), "other")


class AbsentError(UnavailableError):
    """The server says that it has no such collection or tenant; `what` says which of the two."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            f"the Weaviate at {where} has lost the {what} of this memory, or is starting", hint=_RESTORE
        )
        self.what = what


class InactiveError(UnavailableError):
    """The tenant is being put to rest at this moment; asked again it wakes up."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the tenant is being put to rest in the Weaviate at {where}, and does not wake up",
            hint="workbench memory rest   # puts it to rest for good; then run the same command again",
        )


class BusyError(UnavailableError):
    """A tenant is being asked and cannot be put to rest; until it is told again, reads may be denied."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"a tenant is being asked at this moment in the Weaviate at {where}, and does not rest yet",
            hint=_WAIT,
        )


class ExistsError(UnavailableError):
    """The server has one of that name already: somebody else was first."""

    def __init__(self, where: str) -> None:
        super().__init__(f"the Weaviate at {where} has that already", hint=_WAIT, status=422)


def translated(error: Exception, where: str) -> WorkbenchError:
    """The workbench's error for one of the client's; `where` names the server."""
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
    """Whether a refusal is about the key itself or about what it may do."""
    return "key" if status == 401 or meaning(text) == "key" else "refused"


def down(where: str) -> UnavailableError:
    """Nobody listens there."""
    return UnavailableError(f"no Weaviate answers at {where}: the connection was refused", hint=_START)


def slow(where: str) -> UnavailableError:
    """No answer within the time given."""
    return UnavailableError(f"the Weaviate at {where} did not answer in time", hint=_WAIT)


def starting(where: str) -> UnavailableError:
    """It listens and cannot read yet."""
    return UnavailableError(f"the Weaviate at {where} is starting: it cannot read its schema yet", hint=_WAIT)


def silent_grpc(where: str, port: int) -> UnavailableError:
    """HTTP answers and gRPC does not."""
    return UnavailableError(
        f"the Weaviate at {where} answers HTTP, but nothing answers gRPC on port {port}",
        hint="open the server's GRPC_PORT, or name it as grpc_port beside the URL",
    )


def too_old(where: str, version: str) -> ConfigError:
    """A server that lacks what the store uses."""
    oldest = ".".join(map(str, OLDEST))
    return ConfigError(
        f"the Weaviate at {where} is version {version}; {oldest} or later is needed",
        hint="make weaviate   # builds and starts a fitting one",
    )


def refused(where: str, word: str) -> RefusedError:
    """The server knows the caller or does not, and says no."""
    if word == "key":
        return RefusedError(
            f"the Weaviate at {where} does not accept the key",
            hint="set the environment variable that the memory's api_key_env names to a valid key",
            status=401,
        )
    return RefusedError(
        f"the key may not do this in the Weaviate at {where}",
        hint="use a key whose role covers this tenant and this verb",
        status=403,
    )


def other_dimensions(where: str) -> ConfigError:
    """Vectors of another embedding than those that are there."""
    return ConfigError(
        f"the vectors have other dimensions than those of this memory in the Weaviate at {where}",
        hint="never mix two embeddings: give the new one a memory of its own",
    )


def partly(where: str, number: int) -> UnavailableError:
    """Objects the server did not take, in several attempts."""
    return UnavailableError(
        f"the Weaviate at {where} did not take {number} items, tried several times",
        hint="run the same command again; what was taken is kept",
    )


def overtaken(where: str) -> UnavailableError:
    """Another machine wrote the same tenant meanwhile."""
    return UnavailableError(
        f"another writer changed this tenant in the Weaviate at {where} meanwhile: its record stays as it is",
        hint="run the same command again; what was written is kept",
    )


def record_lost(where: str) -> CorruptError:
    """A tenant's rows without the record that says which of them are in force."""
    return CorruptError(
        f"a tenant has items in the Weaviate at {where}, and the record of its versions is lost",
        hint=ANOTHER,
    )


def _transport(error: Exception) -> bool:
    """Whether the connection itself failed; httpx and grpc are the client's, so their names must do."""
    if type(error).__name__ in {"WeaviateRetryError", "WeaviateGRPCUnavailableError"}:
        return True
    words = ("failed to connect", "connection refused", "connecterror", "readerror", "socket closed",
             "remoteprotocolerror", "statuscode.unavailable", "connection reset")  # fmt: skip
    said = f"{type(error).__name__} {error}".lower()
    return type(error).__module__.startswith(("httpx", "httpcore")) or any(word in said for word in words)


def named(word: str, where: str, status: int | None = None) -> WorkbenchError:
    """The error for what `meaning` found."""
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
            hint="give it room, then PUT status READY to its shards; reading goes on meanwhile",
            status=status,
        )
    if word == "crowded":
        return UnavailableError(
            f"the Weaviate at {where} has too many tenants awake: each takes some twenty open files",
            hint="workbench memory rest puts tenants to rest; or raise the server's limit of open files",
            status=status,
        )
    return UnavailableError(f"the Weaviate at {where} could not do this", hint=_WAIT, status=status)
