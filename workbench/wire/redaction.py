"""Mask identifiers and secrets in texts on their way to a record, a span, a log or a message."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from workbench.wire.contents import with_contents
from workbench.wire.passages import occurrences, replaced
from workbench.wire.pseudonyms import mask


class Found(Protocol):
    """What a detector found: a range in a text, its kind and its class of data."""

    @property
    def start(self) -> int:
        """The first character."""

    @property
    def end(self) -> int:
        """The character after the last."""

    @property
    def kind(self) -> str:
        """The kind, such as `email`."""

    @property
    def data_class(self) -> str:
        """The class of data, such as `personal`."""


class Redaction:
    """Masks what `find` finds, unless `passes` lets its kind and class pass."""

    def __init__(self, find: Callable[[str], Sequence[Found]], *, passes: Callable[[str, str], bool]) -> None:
        self._find = find
        self._passes = passes
        #: Of short texts that come again and again, as names do.
        self.name = functools.lru_cache(maxsize=1024)(self.text)

    def text(self, text: str) -> str:
        """Return a text with masks; the same object if nothing is masked."""
        found = self._find(text)
        return replaced(text, occurrences(text, found, {}), self._mask) if found else text

    def value(self, value: Any) -> Any:
        """Return a JSON value with masks in all its texts; the same object if nothing is masked."""
        return with_contents(value, self.text, free=True)

    def _mask(self, _value: str, item: Found) -> str | None:
        return None if self._passes(item.kind, item.data_class) else mask(item.kind)
