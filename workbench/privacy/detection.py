"""Find identifiers and secrets in a text: one fast look at what it could hold, then the patterns.

The look reads every character a few times in C and rules out most texts; a pattern is tried only where the
text has what the pattern needs. The result depends on the text alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from workbench.ports.privacy import Detection
from workbench.privacy import addresses, credentials, lexicon, names, numbers
from workbench.privacy.folding import fold

Span = tuple[int, int, str]
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

    __slots__ = ("_kinds", "_terms")

    def __init__(self, *, terms: Mapping[str, str] | None = None) -> None:
        self._kinds = {term.lower(): kind for term, kind in (terms or {}).items()}
        self._terms = _any_of(self._kinds) if self._kinds else None

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
            spans += self._own(folded.text)
        if not spans:
            return ()
        return tuple(
            Detection(
                start=start, end=end, kind=kind, data_class="secret" if kind == "secret" else "personal"
            )
            for start, end, kind in _apart([(*folded.span(start, end), kind) for start, end, kind in spans])
        )

    def _own(self, text: str) -> Iterator[Span]:
        assert self._terms is not None  # noqa: S101 - the caller asked
        for match in self._terms.finditer(text):
            yield match.start(), match.end(), self._kinds[" ".join(match[0].split()).lower()]


def _any_of(terms: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of all terms, the longest first, that begin and end between words."""
    longest = sorted(terms, key=lambda term: (-len(term), term))
    return re.compile(
        r"(?<!\w)(?:" + "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in longest) + r")(?!\w)",
        re.IGNORECASE,
    )


#: What remains of a text for the first look: everything but lower-case letters and spaces.
_SMALL: Final = bytes(range(97, 123)) + b" \n"
_NO_DIGITS: Final = bytes(sign for sign in range(256) if not 48 <= sign <= 57)
#: Words with a capital, and single signs that a pattern needs.
_STARTS: Final = re.compile(r"[A-Z@:=][a-z]*")
_LONG: Final = re.compile(r"[0-9A-Z_-]{6}|[0-9]+[A-Z_-]+[0-9]+|[A-Z]+[0-9_-]+[A-Z]+")


def _spans(text: str) -> Iterator[Span]:
    data = text.encode("ascii", "replace")
    rest = data.translate(None, _SMALL)
    starts = set(_STARTS.findall(text))
    if b"@" in rest or b"%40" in rest:
        yield from _in_mail(text)
    digits = len(rest.translate(None, _NO_DIGITS))
    if digits >= 4:
        if digits >= 7:
            yield from numbers.in_numbers(text)
            yield from numbers.in_codes(text)
        yield from _in_addresses_of_machines(text)
    if digits:
        yield from addresses.in_addresses(text)
    yield from credentials.in_credentials(text)
    yield from credentials.in_assignments(text)
    if not names.signals().isdisjoint(starts) or any(word.isupper() for word in starts):
        yield from names.in_names(text)
    yield from names.in_introductions(text)


_MAIL: Final = re.compile(
    r"(?<![\w.+%-])[\w][\w.+%'-]{0,63}(?:@|%40| ?[\[(](?:at|AT)[\])] ?)"
    r"(?:[\w-]{1,63}(?:\.| ?[\[(](?:dot|DOT)[\])] ?)){1,6}[^\W\d_]{2,24}(?![\w@])"
)


def _in_mail(text: str) -> Iterator[Span]:
    for match in _MAIL.finditer(text):
        yield match.start(), match.end(), "email"


_IP4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IP6: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION: Final = re.compile(r"(?i:version|release|v|section|chapter|build)[ .:]?$")


def _in_addresses_of_machines(text: str) -> Iterator[Span]:
    for pattern in (_IP4, _IP6):
        for match in pattern.finditer(text):
            if _is_address(match[0]) and not _VERSION.search(text, max(0, match.start() - 9), match.start()):
                yield match.start(), match.end(), "ip"


def _is_address(written: str) -> bool:
    """Return whether it is the address of a machine: not of this one, and no mask."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or written.startswith("255."))


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
