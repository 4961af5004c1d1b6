"""Find texts that are too long, and characters that no keyboard types: hidden, reversing or undefined."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from workbench.moderation.exchange import CheckResult, Exchange

#: Controls but tabs and line ends; overrides of direction; tags, which spell hidden texts; runs of variation
#: selectors, which encode bytes; private and undefined characters.
_ODD: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|[\u202d\u202e]|[\u206a-\u206f]"
    "|[\U000e0000-\U000e007f]+|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3,}"
    "|[\ue000-\uf8ff\U000f0000-\U0010ffff]|[\ud800-\udfff]|[\ufff0-\ufffb\ufffe\uffff]"
)
#: Marks on one letter: no language writes more than four.
_PILED: Final = re.compile(r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{5,}")
#: Invisible characters inside of a word; between letters of most scripts they mean nothing.
_INVISIBLE: Final = re.compile(
    r"(?<=[a-zA-Z0-9])[\u200b-\u200d\u2061-\u2064\ufeff\u180e\u3164]+(?=[a-zA-Z0-9])"
)
#: Flags of regions are written with tags after this sign.
_FLAG: Final = "\U0001f3f4"
_PLAIN: Final = re.compile("[\t\n\r\x20-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSize:
    """Fires on a text of more than `most` characters; the score is its length."""

    most: int

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:  # noqa: ARG002 - as every check
        """Return the length and the range beyond the limit, or None."""
        if len(text) <= self.most:
            return None
        return CheckResult(score=float(len(text)), spans=((self.most, len(text)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class OddCharacters:
    """Fires on a text with more than `most` places of odd characters; the score is their number."""

    most: int = 0

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:  # noqa: ARG002 - as every check
        """Return the number and the ranges of the odd characters, or None."""
        if _PLAIN.fullmatch(text):
            return None
        spans = [found.span() for found in _ODD.finditer(text) if not _is_flag(text, found.start())]
        spans += [found.span() for form in (_PILED, _INVISIBLE) for found in form.finditer(text)]
        undefined = (
            n for n, sign in enumerate(text) if ord(sign) > 0x377 and unicodedata.category(sign) == "Cn"
        )
        known = {at for start, end in spans for at in range(start, end)}
        spans += [(at, at + 1) for at in undefined if at not in known]
        return CheckResult(score=float(len(spans)), spans=tuple(spans)) if len(spans) > self.most else None


def _is_flag(text: str, at: int) -> bool:
    return at > 0 and text[at - 1] == _FLAG
