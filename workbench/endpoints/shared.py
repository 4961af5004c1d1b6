"""The queues and circuit breakers that all workspaces of a process share, one for each endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

_Shared = TypeVar("_Shared")
_LOCK = threading.Lock()
#: An entry lasts as long as a workspace uses it.
_SHARED: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()


def shared(key: Hashable, make: Callable[[], _Shared]) -> _Shared:
    """Return the process's object of `key`, which `make` returns if no workspace has it."""
    with _LOCK:
        found: _Shared | None = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = make()
        return found
