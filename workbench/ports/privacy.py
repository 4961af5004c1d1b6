"""The privacy port: what a detector finds in a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """An identifier or a secret in a text: its half-open range in characters, its kind and its class.

    `kind` is a word such as `person`, `address`, `email`, `phone`, `card`, `iban`, `tax_number`, `ip` or
    `secret`. `data_class` is the class of data that it belongs to, `personal` or `secret` for the built-in
    kinds.
    """

    start: int
    end: int
    kind: str
    data_class: str = "personal"


@runtime_checkable
class Detector(Protocol):
    """Finds identifiers and secrets in texts, the same ones in the same text."""

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what was found, sorted by their start and without overlap."""
