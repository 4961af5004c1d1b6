"""Find identifiers and secrets in a text: one fast look at what it could hold, then the patterns.

The look reads every character a few times in C and rules out most texts; a pattern is tried only where the
text has what the pattern needs. The result depends on the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from workbench.folding import fold
from workbench.ports.privacy import Detection, Detector
from workbench.privacy import addresses, codes, contacts, credentials, lexicon, names, numbers
from workbench.privacy.shapes import Span, shape_of
from workbench.privacy.terms import Terms

#: Kinds in the order in which they win where two findings overlap.
KINDS: Final = (
    "secret",
    "email",
    "iban",
    "card",
    "tax_number",
    "national_id",
    "phone",
    "ip",
    "address",
    "person",
)


class PatternDetector:
    """Finds identifiers and secrets by patterns, checksums, lists of names and the words around them.

    `terms` are further words to find, in the folded form, each with its kind: the list that a user keeps.
    """

    __slots__ = ("_terms",)

    def __init__(self, *, terms: Mapping[str, str] | None = None) -> None:
        self._terms = Terms(terms) if terms else None

    @classmethod
    def with_lexicon(cls, path: Path) -> PatternDetector:
        """Return a detector that finds the terms of a user's list too.

        Raise ConfigError when the list is malformed.
        """
        return cls(terms=lexicon.read(path))

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what was found, sorted by start and without overlap."""
        folded = fold(text)
        spans = list(_spans(folded.text))
        if self._terms is not None:
            spans += self._terms.found(folded.text.lower())
        return _detections([(*folded.span(start, end), kind) for start, end, kind in spans])


class CombinedDetector:
    """Finds what any of several detectors finds; where findings overlap, their union."""

    __slots__ = ("_detectors",)

    def __init__(self, *detectors: Detector) -> None:
        self._detectors = detectors

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what was found, sorted by start and without overlap."""
        found = [each for detector in self._detectors for each in detector.find(text)]
        return _detections([(each.start, each.end, each.kind) for each in found])


def _detections(spans: list[Span]) -> tuple[Detection, ...]:
    return tuple(
        Detection(start=start, end=end, kind=kind, data_class="secret" if kind == "secret" else "personal")
        for start, end, kind in (_apart(spans) if spans else ())
    )


#: What is left out at the first look: lower-case letters and spaces.
_SMALL: Final = bytes(range(97, 123)) + b" \n"
_NO_DIGITS: Final = bytes(sign for sign in range(256) if not 48 <= sign <= 57)
_CAPITALISED: Final = re.compile(r"[A-Z][A-Za-z]*")
#: White space as zeros, all else as ones, so that long words are found by arithmetic.
_INK: Final = bytes(0 if sign in b" \t\n\r" else 255 for sign in range(256))


def _spans(text: str) -> Iterator[Span]:
    """Yield what the patterns find, each tried when the text has what it needs."""
    data = text.encode("ascii", "replace")
    rest = data.translate(None, _SMALL)
    lower = text.lower()
    if digits := len(rest.translate(None, _NO_DIGITS)):
        yield from _in_digits(text, data, rest, digits)
    if (digits or b"_" in rest or b"AI" in rest or b"IA" in rest) and _has_long_word(data):
        yield from credentials.in_tokens(text)
    if b"@" in rest or b"%40" in rest or b"()" in rest or b"[]" in rest:
        yield from contacts.in_mail(text, lower)
    if b"-----BEGIN" in rest:
        yield from credentials.in_private_keys(text)
    if b":" in rest or b"=" in rest or "pass" in lower or (digits and "pin " in lower):
        yield from credentials.in_assignments(text, lower)
        if b"://" in rest:
            yield from credentials.in_links(text)
    words = _CAPITALISED.findall(text)
    if not names.signals().isdisjoint(words):
        yield from names.in_names(text, words)
    if names.introduces(lower):
        yield from names.in_introductions(text, lower)


def _in_digits(text: str, data: bytes, rest: bytes, digits: int) -> Iterator[Span]:
    shape = shape_of(data)
    if digits >= 7:
        yield from numbers.in_numbers(text, shape)
    if digits >= 4:
        yield from codes.in_codes(text, shape)
        if b"." in rest or b":" in rest:
            yield from contacts.in_machines(text, shape)
    yield from addresses.in_addresses(text, shape)


def _has_long_word(data: bytes) -> bool:
    """Return whether 16 characters or more stand without white space between them."""
    ink = int.from_bytes(data.translate(_INK), "little")
    for shift in (8, 16, 32, 64):
        ink &= ink >> shift
    return ink != 0


def _apart(spans: list[Span]) -> Iterator[Span]:
    """Yield the findings in their order; where some overlap, their union with the kind that wins."""
    spans.sort()
    start, end, kind = spans[0]
    for other in spans[1:]:
        if other[0] >= end:
            yield start, end, kind
            start, end, kind = other
        else:
            end = max(end, other[1])
            kind = min(kind, other[2], key=_rank)
    yield start, end, kind


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else -1
