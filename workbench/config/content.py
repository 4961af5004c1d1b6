"""How long sealed content of a use case is kept: the section `content` of a use case."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError

#: A number of days in words, or `off`, which some readers of YAML read as false. A bare number is refused
#: with its form.
Keep = str | int | Literal[False]
_DAYS = re.compile(r"([1-9]\d{0,4}) days?")
_MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentKeeping:
    """For how long requests and answers are kept, sealed: `keep`, and `classes` by class of data."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    keep: Keep = False
    classes: dict[str, Keep] = field(default_factory=dict)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return not all(map(_is_off, (self.keep, *self.classes.values())))

    def days(self, data_class: str) -> int | None:
        """Return the days for which content of a class is kept, None for content that is not."""
        return _days(self.classes.get(data_class, self.keep))


def check_content(path: Path, name: str, content: ContentKeeping) -> None:
    """Raise ConfigError unless every duration is a number of days or `off`."""
    for key, value in _durations(content):
        days = _days(value)
        if not _is_off(value) and (days is None or days > _MOST_DAYS):
            number = value if type(value) is int and 0 < value <= _MOST_DAYS else 30
            raise ConfigError(
                f"{path}: use_cases.{name}.content.{key} is {_shown(value)}, not days",
                hint=f"{key}: {number} days, or {key}: off",
            )


def _durations(content: ContentKeeping) -> Iterator[tuple[str, Keep]]:
    yield "keep", content.keep
    for name, value in content.classes.items():
        yield f"classes.{name}", value


def _is_off(value: Keep) -> bool:
    return value is False or value == "off"


def _shown(value: Keep) -> str:
    return repr(files.shortened(value)) if isinstance(value, str) else str(value)


def _days(value: Keep) -> int | None:
    found = _DAYS.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found else None
