"""The privacy port: what a detector finds in a text, and the form of a call in recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from workbench.types import JSON


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredData:
    """What is declared of the data in a request: of a prompt's inputs and passages, of a case's columns.

    `classes` are the classes of its data. `identifiers` are values that are identifiers as a whole, each
    with its kind and class. `values` are texts with their class, which the request has if it contains them.
    """

    classes: tuple[str, ...] = ()
    identifiers: tuple[tuple[str, str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()


class RecordingForm(Protocol):
    """The form of one call in recordings: pseudonyms and masks in place of identifiers and secrets.

    The control `privacy` puts it into the span of a call, and controls that keep answers use it.
    """

    @property
    def unrecorded(self) -> bool:
        """Whether a class of the request may not be recorded."""

    def request(self, fields: JSON) -> JSON:
        """Return fields of the request as recordings hold them; the same object if nothing changes."""

    def answer(self, events: Sequence[JSON], operation: str) -> Sequence[JSON]:
        """Return the events of an answer as recordings hold them; the same object if nothing changes."""

    def answered_by_recording(self) -> None:
        """State that the answer comes from a recording that holds pseudonyms of this request."""

    def restored(self, data: JSON, *, as_json: bool = False) -> JSON:
        """Return a request or an answer as the caller reads it, with the values of pseudonyms.

        With `as_json` the text of an answer is JSON.
        """
