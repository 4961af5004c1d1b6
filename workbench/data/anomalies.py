"""Detectors of anomalies in single values and texts: outliers, new values, languages, damaged encodings."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from workbench.errors import nearest

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

#: Fewer values than this have no outliers: their spread is unknown.
LEAST_VALUES = 20
#: A language is decided for texts of this many letters and at this probability; else it stays undecided.
LEAST_LETTERS, LEAST_PROBABILITY = 40, 0.9
#: A normal distribution's standard deviation per median absolute deviation, and per mean absolute deviation
#: (Iglewicz & Hoaglin 1993, How to detect and handle outliers).
_MEDIAN_SCALE, _MEAN_SCALE = 1.4826, 1.2533


def _misread(*codes: int) -> str:
    """Return the characters that cp1252 and Latin-1 read from bytes."""
    return "".join(sorted({bytes([n]).decode(c, "ignore") for n in codes for c in ("cp1252", "latin-1")}))


_CONTINUED = f"[{_misread(*range(0x80, 0xC0))}]"
#: UTF-8 read as cp1252 or Latin-1: Latin letters begin with C2, C3 and C5, punctuation with E2, a byte order
#: mark with EF BB BF and symbols with F0. Intact texts have these letters too, but not before these signs,
#: apart from a quotation mark after Å.
_MOJIBAKE = re.compile(
    rf"[{_misread(0xC2, 0xC3)}]{_CONTINUED}"
    rf"|{_misread(0xC5)}(?![\u2018-\u201d]){_CONTINUED}"
    rf"|{_misread(0xE2)}[{_misread(0x80, 0x82, 0x84, 0x86, 0x88, 0x99)}]{_CONTINUED}"
    rf"|{_misread(0xEF)}{_misread(0xBB)}{_CONTINUED}"
    rf"|{_misread(0xF0)}{_CONTINUED}{{3}}"
)
_UNDECODED = re.compile("[\ufffd\x80-\x84\x86-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A value that a detector found: its index from 0 and the reason, which quotes no free text."""

    index: int
    reason: str


def outliers(values: Sequence[float | None], *, spread: float = 6.0, scale: str = "plain") -> list[Suspect]:
    """Return the values further than `spread` robust standard deviations from the median.

    None is no value; on the scale `log` neither is a number up to 0. Fewer than 20 values have no outliers.
    The deviation is the median one, and the mean one where more than half of the values are equal.
    """
    if scale == "log":
        values = [None if value is None or value <= 0 else math.log(value) for value in values]
    known = sorted(value for value in values if value is not None)
    if len(known) < LEAST_VALUES:
        return []
    middle = _median(known)
    deviations = sorted(abs(value - middle) for value in known)
    unit = _MEDIAN_SCALE * _median(deviations) or _MEAN_SCALE * sum(deviations) / len(deviations)
    restore = math.exp if scale == "log" else float
    return [
        Suspect(
            index=index,
            reason=f"{restore(value):g} is {abs(value - middle) / unit:.3g} spreads from {restore(middle):g}",
        )
        for index, value in enumerate(values)
        if value is not None and abs(value - middle) > spread * unit
    ]


def unusual_lengths(texts: Sequence[str | None], *, spread: float = 6.0) -> list[Suspect]:
    """Return the texts whose number of characters is an outlier on the scale of logarithms."""
    sizes = [None if text is None else len(text) for text in texts]
    median = _median(sorted(size for size in sizes if size is not None) or [0])
    return [
        Suspect(index=item.index, reason=f"{sizes[item.index]} characters, the median is {median:g}")
        for item in outliers(sizes, spread=spread, scale="log")
    ]


def unknown_values(values: Sequence[str | None], known: Collection[str]) -> list[Suspect]:
    """Return the values that are not `known`, each with the nearest known ones."""
    accepted = frozenset(known)
    return [
        Suspect(index=index, reason=f"{value[:40]!r} is new ({nearest(value[:200], accepted)})")
        for index, value in enumerate(values)
        if value is not None and value not in accepted
    ]


def other_languages(texts: Sequence[str | None], accepted: Collection[str]) -> list[Suspect]:
    """Return the texts in a language that is not accepted (codes of ISO 639).

    A text of fewer than 40 letters, and one whose language has a probability below 0.9, is undecided and
    not returned.
    """
    found = []
    for index, text in enumerate(texts):
        if text is None or sum(map(str.isalpha, text)) < LEAST_LETTERS:
            continue
        code, probability = _identifier().classify(text)
        if code not in accepted and probability >= LEAST_PROBABILITY:
            names = ", ".join(sorted(accepted))
            found.append(Suspect(index=index, reason=f"its language is {code!r}, not {names}"))
    return found


@cache
def _identifier() -> LanguageIdentifier:
    """Return the reader of py3langid, which takes a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def damaged(texts: Sequence[str | None]) -> list[Suspect]:
    """Return the texts with undecodable characters, or with UTF-8 that was read as cp1252 or Latin-1."""
    found = []
    for index, text in enumerate(texts):
        if not text or text.isascii():
            continue
        if match := _UNDECODED.search(text):
            name = "U+FFFD" if match[0] == "\ufffd" else f"the control character U+{ord(match[0]):04X}"
            found.append(Suspect(index=index, reason=f"{name} at character {match.start() + 1}"))
        elif match := _MOJIBAKE.search(text):
            reason = f"{match[0]!r} at character {match.start() + 1} is UTF-8 in a wrong decoding"
            found.append(Suspect(index=index, reason=reason))
    return found


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
