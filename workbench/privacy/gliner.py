"""A GLiNER model that finds names and other entities, for those who install it and have its weights."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from workbench.errors import ConfigError
from workbench.ports.privacy import Detection

#: The labels that the model is asked for, and the kinds that they are here.
_LABELS: Final[Mapping[str, str]] = {
    "person": "person", "address": "address", "email": "email", "phone number": "phone",
    "credit card number": "card", "iban": "iban", "tax identification number": "tax_number",
    "social security number": "national_id", "passport number": "national_id", "ip address": "ip",
    "password": "secret", "api key": "secret",
}  # fmt: skip
#: Most characters of a piece of text, because the model reads some hundred words at once.
_MOST: Final = 1_500
_PIECE: Final = re.compile(rf"\S[\s\S]{{0,{_MOST - 1}}}(?=\s|$)|\S{{1,{_MOST}}}")


class GlinerDetector:
    """Finds entities with a GLiNER model in a folder of this machine; nothing is downloaded."""

    __slots__ = ("_model", "_score")

    def __init__(self, folder: Path, *, score: float = 0.5) -> None:
        self._score = score
        self._model = _load(folder)

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what was found, sorted by start and without overlap."""
        found: list[Detection] = []
        for start, piece in _pieces(text):
            entities = self._model.predict_entities(piece, list(_LABELS), threshold=self._score)
            for entity in sorted(entities, key=lambda each: (each["start"], -each["end"])):
                begin, end = start + entity["start"], start + entity["end"]
                if not found or begin >= found[-1].end:
                    kind = _LABELS[entity["label"]]
                    data_class = "secret" if kind == "secret" else "personal"
                    found.append(Detection(start=begin, end=end, kind=kind, data_class=data_class))
        return tuple(found)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    for match in _PIECE.finditer(text):
        yield match.start(), match[0]


def _load(folder: Path) -> Any:
    try:
        gliner = importlib.import_module("gliner")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the detector 'gliner' needs a package that is not installed: {error.name}",
            hint="add gliner to dependencies in pyproject.toml, then: make lock && make env",
        ) from None
    if not folder.is_dir():
        raise ConfigError(
            f"the model of the detector 'gliner' is not there: {folder} is no folder",
            hint="name the folder that holds the weights of a GLiNER model",
        )
    return gliner.GLiNER.from_pretrained(str(folder), local_files_only=True)
