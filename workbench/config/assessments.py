"""The classes of data that a use case handles, which its models must be assessed for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench import files
from workbench.config.forms import NAME
from workbench.errors import ConfigError, nearest


def check_handled(where: str, handled: Sequence[str] | None) -> None:
    """Raise ConfigError for an empty list of classes, a name that is none, and a class that stands twice."""
    if handled is None:
        return
    example = "for example handles: [internal, personal]"
    if not handled:
        raise ConfigError(
            f"{where} names no class of data", hint=f"{example}; without the key, none is stated"
        )
    for item in handled:
        if not NAME.fullmatch(item):
            raise ConfigError(f"{where}: {files.shortened(item)!r} cannot name a class of data", hint=example)
    if len(set(handled)) < len(handled):
        raise ConfigError(f"{where} names a class twice: {', '.join(handled)}", hint=example)


def check_known_classes(where: str, named: Sequence[str] | None, known: Iterable[str]) -> None:
    """Raise ConfigError for a class that is neither built in nor declared under `data_classes`."""
    classes = tuple(known)
    for item in named or ():
        if item not in classes:
            raise ConfigError(
                f"{where}: no class of data is called {item!r} ({nearest(item, classes)})",
                hint=f"declare it: data_classes: {{{item}: {{like: personal}}}} in params.yaml",
            )
