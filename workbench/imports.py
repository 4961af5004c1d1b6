"""Import a library without an optional part of it that is never used here and slow to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports inside the block find no module of these names; what is imported already stays."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what Python calls a module that is not there
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
