"""The section `privacy` of params.yaml: what finds identifiers and secrets besides the built-in patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import files
from workbench.config.forms import check_inside


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """A list of terms, and optional detectors whose packages a repository adds to its dependencies.

    `lexicon` is a text file with one term a line; `presidio` the language that Presidio reads; `gliner` the
    folder of a GLiNER model.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    lexicon: str | None = None
    presidio: str | None = None
    gliner: str | None = None


def check_detectors(settings: DetectorSettings, *, where: str) -> None:
    """Raise ConfigError with the key for a path outside the repository."""
    for key in ("lexicon", "gliner"):
        if (path := getattr(settings, key)) is not None:
            check_inside(path, where=f"{where}: privacy.{key}")
