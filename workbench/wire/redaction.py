"""Mask identifiers and secrets in texts on their way to a record, a span, a log or a message."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from workbench.errors import WorkbenchError
from workbench.wire.contents import with_contents
from workbench.wire.passages import occurrences, replaced
from workbench.wire.pseudonyms import mask

#: Errors in a chain whose texts are read.
_MOST_CAUSES: Final = 8


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
    """Replaces what `find` finds, unless `passes` lets its kind and class pass.

    A mask stands in for a value, or what `pseudonym` returns for it, its kind and its class.
    """

    def __init__(
        self,
        find: Callable[[str], Sequence[Found]],
        *,
        passes: Callable[[str, str], bool],
        pseudonym: Callable[[str, str, str], str | None] | None = None,
    ) -> None:
        self._find = find
        self._passes = passes
        self._pseudonym = pseudonym
        #: Of short texts that come again and again, as names do.
        self.name = functools.lru_cache(maxsize=1024)(self.text)

    def with_find(self, find: Callable[[str], Sequence[Found]]) -> Redaction:
        """Return one that replaces what another function finds."""
        return Redaction(find, passes=self._passes, pseudonym=self._pseudonym)

    def text(self, text: str) -> str:
        """Return a text with masks; the same object if nothing is masked."""
        found = self._find(text)
        return replaced(text, occurrences(text, found, {}), self.stand_in) if found else text

    def value(self, value: Any) -> Any:
        """Return a JSON value with masks in all its texts; the same object if nothing is masked."""
        return with_contents(value, self.text, free=True)

    def stand_in(self, value: str, item: Found) -> str | None:
        """Return what stands in for a value, None for one that passes."""
        if self._passes(item.kind, item.data_class):
            return None
        keyed = self._pseudonym(value, item.kind, item.data_class) if self._pseudonym is not None else None
        return keyed or mask(item.kind)


def clean_error(error: BaseException, change: Callable[[str], str]) -> None:
    """Apply `change` to the texts of a WorkbenchError and of the errors that caused it."""
    cause: Any = error
    for _ in range(_MOST_CAUSES):
        if isinstance(cause, WorkbenchError) or cause is not error:
            cause.args = tuple(with_contents(list(cause.args), change))
            for name in ("message", "hint", "body", "violations", "__notes__"):
                if value := getattr(cause, name, None):
                    changed = with_contents(value, change)
                    setattr(cause, name, tuple(changed) if isinstance(value, tuple) else changed)
        cause = cause.__cause__ or cause.__context__
        if cause is None:
            return
