"""The last transition of each endpoint's breaker, in small files that other processes show."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import files
from workbench.endpoints.circuit import Transition
from workbench.endpoints.rates import key_of
from workbench.errors import WorkbenchError

#: Bytes of a state file that are read.
_MOST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """The last known transition of one endpoint's breaker; `pid` is the process that it happened in."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    url: str
    model: str
    state: str
    since: str = ""
    reason: str = ""
    probe_at: str = ""
    pid: int = 0


def writer_of(folder: Path, url: str, model: str) -> Callable[[Transition], None]:
    """Return a function that writes each transition of an endpoint into its file, if it can be written."""
    path = folder / f"{key_of(url, model)}.json"

    def write(change: Transition) -> None:
        # A full or read-only disk fails no call: the state is only shown.
        with contextlib.suppress(OSError, WorkbenchError):
            told = {"url": url, "model": model, "pid": os.getpid(), **dataclasses.asdict(change)}
            files.write_atomic(path, files.pretty(told))

    return write


def read_states(folder: Path) -> list[EndpointState]:
    """Return the state of every endpoint with a file in `folder`; a damaged file is left out."""
    import orjson

    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, WorkbenchError):
            raw = orjson.loads(files.read_bytes(path, limit=_MOST_BYTES))
            found.append(files.parse(EndpointState, raw, where=str(path)))
    return found
