"""One value for each endpoint: the targets that share an address and a model share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
_LOCK = threading.Lock()
#: What the workspaces of this process share, as long as one of them uses it.
_SHARED: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
#: An endpoint's address and model.
Key = tuple[str, str]


class EndpointCard(Protocol):
    """What names the endpoint of a model card."""

    @property
    def provider(self) -> str:
        """Who serves the model."""

    @property
    def base_url(self) -> str | None:
        """The address of a remote endpoint."""

    @property
    def model(self) -> str:
        """The model's name on the wire."""


C = TypeVar("C", bound=EndpointCard)


class PerEndpoint(Generic[C, T]):
    """Values that `make` creates when an endpoint is called first; a card that it returns None for has none.

    `card` returns the card of a target. Any thread may ask; two that ask at once get the same value.
    """

    def __init__(self, card: Callable[[str], C], make: Callable[[C, Key], T | None]) -> None:
        self._card = card
        self._make = make
        self._targets: dict[str, T | None] = {}
        self.made: dict[Key, T] = {}

    def of(self, target: str) -> T | None:
        """Return the value of a target's endpoint, None if it has none."""
        try:
            return self._targets[target]
        except KeyError:
            return self._targets.setdefault(target, self._found(target))

    def _found(self, target: str) -> T | None:
        card = self._card(target)
        key = (card.base_url or card.provider, card.model)
        if key not in self.made:
            made = self._make(card, key)
            return None if made is None else self.made.setdefault(key, made)
        return self.made[key]


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """Return the process's value of `key`, which `make` creates if no workspace uses one."""
    with _LOCK:
        found: T | None = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = make()
        return found
