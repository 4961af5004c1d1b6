"""Find payment cards, telephone numbers, and tax and identity numbers that are written in digits.

A number counts when its form belongs to one kind alone and its checksum holds, or when a word before it says
what it is. `phonenumbers` holds the numbering plans of the countries.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Final

from workbench.privacy import lexicon, registers
from workbench.privacy.shapes import Span


def in_numbers(text: str, shape: bytes) -> Iterator[Span]:
    """Yield the cards, telephone numbers, and tax and identity numbers of a folded text and its shape."""
    for run in _RUN.finditer(shape):
        groups = [group.span() for group in _GROUP.finditer(shape, *run.span())]
        if shape[run.start() - 1 : run.start()] in _WORD:
            del groups[0]
        extension = _EXTENSION.match(text, run.end())
        if extension is None and shape[run.end() : run.end() + 1] in _WORD:
            del groups[-1:]
        for start, end, kind in _DigitRun(text, shape, groups).found() if groups else ():
            extended = extension is not None and kind == "phone" and end == run.end()
            yield start, extension.end() if extension and extended else end, kind


def is_card(written: str) -> bool:
    """Return whether a number is grouped as on a card, begins as an issuer's, and has Luhn's check digit."""
    if _GROUPED.fullmatch(written) is None:
        return False
    digits = written.translate(registers.NO_SEPARATORS)
    return _ISSUED.fullmatch(digits) is not None and _luhn(digits)


# -- runs of digits ---------------------------------------------------------------------------------

#: Seven digits or more with at most three separators between two. More than 41 are read in pieces.
_RUN: Final = re.compile(rb"0(?:[ \t\n.()/-]{0,3}0){6,40}")
_GROUP: Final = re.compile(rb"0+")
_EXTENSION: Final = re.compile(r" ?(?:x|ext\.?|extension|poste) ?\d{1,6}(?!\w)")
#: What may not stand beside a number.
_WORD: Final = frozenset({b"0", b"A", b"a", b"_"})
#: Most attempts that ask a numbering plan or a country's checksum about the same run.
_MOST_ASKED: Final = 4
#: Most groups of digits of one number, and most digits.
_MOST_GROUPS, _MOST_DIGITS = 8, 19


class _DigitRun:
    """One run of digits, of which parts are read as numbers of a kind."""

    __slots__ = ("_asked", "_card", "_groups", "_identity", "_phone", "_shape", "_text", "_upto")

    def __init__(self, text: str, shape: bytes, groups: list[tuple[int, int]]) -> None:
        self._text, self._shape, self._groups = text, shape, groups
        #: How many digits stand before each group, and after the last.
        self._upto = [0, *itertools.accumulate(end - start for start, end in groups)]
        words = _words_before(text, shape, groups[0][0])
        self._identity = not lexicon.names("identity_words").isdisjoint(words)
        self._card = not lexicon.names("card_words").isdisjoint(words)
        self._phone = not lexicon.names("phone_words").isdisjoint(words)
        self._asked = 0

    def found(self) -> Iterator[Span]:
        """Yield the numbers of the run, the longest first at each of its groups."""
        groups = self._groups
        if 13 <= len(groups) == self._upto[-1] <= _MOST_DIGITS:  # one digit, a space, the next digit
            written = self._text[groups[0][0] : groups[-1][1]].translate(registers.NO_SEPARATORS)
            if is_card(written):
                yield groups[0][0], groups[-1][1], "card"
                return
        first = 0
        while first < len(groups):
            first, span = self._longest(first)
            if span is not None:
                yield span

    def _longest(self, first: int) -> tuple[int, Span | None]:
        """Return the next group to begin at, and the longest number that begins at this group, if any."""
        start = self._groups[first][0]
        announced = self._identity or self._phone or self._card
        loose = announced or self._text[start - 1 : start] == "+" or _ABROAD.match(self._text, start)
        for last in range(min(len(self._groups), first + _MOST_GROUPS), first, -1):
            digits = self._upto[last] - self._upto[first]
            if digits < 7:
                break
            end = self._groups[last - 1][1]
            if digits <= _MOST_DIGITS and (loose or digits >= 13 or self._shape[start:end] in _FORMS):
                span = self._read(start, end, digits)
                if span is not None:
                    return last, span
        return first + 1, None

    def _read(self, start: int, end: int, digits: int) -> Span | None:
        if digits >= 12 and self._is_card(self._text[start:end]) and not self._is_decimal(start, end):
            return start, end, "card"
        if (kind := self._number_kind(start, end, digits)) is not None:
            return start, end, kind
        while start and self._text[start - 1] in "(+":
            start -= 1
        return (start, end, "phone") if self._is_phone(start, end, digits) else None

    def _is_card(self, written: str) -> bool:
        return is_card(written) or (self._card and _luhn(written.translate(registers.NO_SEPARATORS)))

    def _is_decimal(self, start: int, end: int) -> bool:
        """Return whether digits in a row stand before or after the point of a number."""
        shape = self._shape
        return shape.count(b"0", start, end) == end - start and (
            shape[max(0, start - 2) : start] == b"0." or shape[end : end + 2] == b".0"
        )

    def _number_kind(self, start: int, end: int, digits: int) -> str | None:
        rules = registers.DIGITS.get(self._shape[start:end], ())
        if self._identity and self._may_ask():
            rules = (*rules, *registers.BY_LENGTH.get(digits, ()))
        written = self._text[start:end]
        return next((registers.kind_of(rule) for rule in rules if registers.holds(rule, written)), None)

    def _is_phone(self, start: int, end: int, digits: int) -> bool:
        written = self._text[start:end]
        if _TIME.search(written):
            return False
        if "+" in written:
            return (
                digits >= 8
                and not self._text[start - 1 : start].isalnum()
                and self._may_ask()
                and _is_international(written)
            )
        if _ABROAD.match(written) and digits >= 10 and self._may_ask():
            return _is_international("+" + written[2:])
        if self._phone and digits <= _MOST_PHONE:
            return _DATE.fullmatch(written) is None
        regions = _PHONE_FORMS.get(self._shape[start:end].lstrip(b"("), ())
        return bool(regions) and self._may_ask() and _is_national(written, regions)

    def _may_ask(self) -> bool:
        self._asked += 1
        return self._asked <= _MOST_ASKED


def _words_before(text: str, shape: bytes, start: int) -> list[str]:
    """Return the words before a number, in lower case, with no digit and no line end between."""
    begin = max(0, start - 48)
    begin = max(begin, shape.rfind(b"0", begin, start), shape.rfind(b"\n", begin, start))
    return _LETTERS.findall(text[begin:start].lower())


_LETTERS: Final = re.compile(r"[a-z]+")
_ABROAD: Final = re.compile(r"00[1-9]")
_TIME: Final = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")
_DATE: Final = re.compile(r"(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d|\d+\.\d+")


# -- payment cards ----------------------------------------------------------------------------------

#: Lengths and first digits that issuers use. Longer numbers count only in groups of four, as printed on a
#: card: 19 digits in a row are a 64-bit number.
_ISSUED: Final = re.compile(
    r"4\d{12}(?:\d{3}(?:\d{3})?)?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|(?:1800|2131)\d{11}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"
)
_GROUPED: Final = re.compile(
    r"\d{14,16}|\d{4}([ .\n-]{1,3})\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ .\n-])\d{6}\2\d{4,5}"
)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(doubled) + sum(int(d) for d in digits[::-2])) % 10 == 0


# -- telephone numbers ------------------------------------------------------------------------------

#: Most digits of a telephone number.
_MOST_PHONE: Final = 15
#: Forms that the regions use, so that they need no word before them. A bracket before them is left out.
_PHONE_FORMS: Final[Mapping[bytes, tuple[str, ...]]] = {
    form.encode(): tuple(regions.split())
    for regions, forms in {
        "US": "000) 000-0000|000)000-0000|000-000-0000|000.000.0000|0-000-000-0000|0 (000) 000-0000",
        "GB DE": "00000 000000|0000 000 0000|000 0000 0000|00000 000 000|000) 0000 0000",
        "FR": "00 00 00 00 00|00.00.00.00.00|00-00-00-00-00",
        "DE IT": "000 0000000|0000 0000000|0000/0000000|000/0000000|0000/000000|000/00000000|0000-0000000",
        "NL": "00-00000000|000-0000000",
        "ES": "000 00 00 00",
        "CH": "000 000 00 00",
        "AU": "0000 000 000",
        "IN": "00000 00000|00000-00000",
        "BR": "00) 00000-0000|00) 0000-0000",
        "JP KR": "000-0000-0000",
    }.items()
    for form in forms.split("|")
}
_FORMS: Final = frozenset({*registers.DIGITS, *_PHONE_FORMS})
_PLAIN: Final = re.compile(r"\+\d[\d .()/-]{6,24}")
_NORTH_AMERICAN: Final = re.compile(r"1?[2-9]\d\d[2-9]\d{6}")


def _is_international(written: str) -> bool:
    import phonenumbers

    written = written.replace("(0)", "").strip("( ")
    if _PLAIN.fullmatch(written) and _has_length(written.translate(registers.NO_SEPARATORS)):
        return True  # as the lines below say, which take five times as long
    try:
        number = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def _has_length(digits: str) -> bool:
    """Return whether digits have a country's code and a length of its numbers, however they are read."""
    import phonenumbers

    for upto in (1, 2, 3):
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:upto]))
        if regions is not None and digits[0] != "0":
            plan = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(
                int(digits[:upto]), regions[0]
            )
            if plan is None or plan.general_desc is None or plan.national_prefix_transform_rule:
                return False  # a rule of a prefix may make a number longer
            return len(digits) - upto in plan.general_desc.possible_length
    return False


def _is_national(written: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    digits = written.translate(registers.NO_SEPARATORS)
    for region in dict.fromkeys(regions):
        if region == "US":  # numbers that are reserved for fiction are read as well
            if _NORTH_AMERICAN.fullmatch(digits):
                return True
        elif phonenumbers.is_valid_number(phonenumbers.parse(digits, region)):
            return True
    return False
