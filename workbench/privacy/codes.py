"""Find bank accounts, and tax and identity numbers that are written in letters and digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from workbench.privacy import lexicon, registers
from workbench.privacy.shapes import Span


def in_codes(text: str, shape: bytes) -> Iterator[Span]:
    """Yield the bank accounts and the coded numbers of a folded text and its shape."""
    upper = shape.replace(b"a", b"A")
    for match in _ACCOUNT.finditer(upper):
        if end := _account_end(text, match.start()):
            yield match.start(), end, "iban"
    for form in _SEPARATED:
        at = upper.find(form)
        while at >= 0:
            end = at + len(form)
            if upper[at - 1 : at] not in _BESIDE and upper[end : end + 1] not in _BESIDE:
                yield from _checked(text, at, end, registers.CODES[form])
            at = upper.find(form, end)
    for match in _DIGITS.finditer(upper):
        yield from _around(text, shape, upper, match)


def _around(text: str, shape: bytes, upper: bytes, match: re.Match[bytes]) -> Iterator[Span]:
    """Yield the coded number of which some digits are a part: a word of letters and digits."""
    start, end = match.span()
    while start and upper[start - 1] in _ALNUM and match.start() - start < 8:
        start -= 1
    while end < len(upper) and upper[end] in _ALNUM and end - match.end() < 14:
        end += 1
    if upper[start - 1 : start] in _BESIDE or upper[end : end + 1] in _BESIDE or b"A" not in upper[start:end]:
        return
    code = text[start:end].upper()
    found = tuple(_checked(text, start, end, registers.CODES.get(upper[start:end], ())))
    yield from found
    if not found and registers.is_vat(code):
        yield start, end, "tax_number"
    elif not found and upper.count(b"0", start, end) >= 5 and _is_document(text, shape, start):
        yield start, end, "national_id"


def _checked(text: str, start: int, end: int, rules: tuple[str, ...]) -> Iterator[Span]:
    code = text[start:end].upper()
    for rule in rules:
        if registers.holds(rule, code):
            yield start, end, registers.kind_of(rule)
            return


def _is_document(text: str, shape: bytes, start: int) -> bool:
    begin = max(0, start - 40)
    begin = max(begin, shape.rfind(b"0", begin, start), shape.rfind(b"\n", begin, start))
    words = _LETTERS.findall(text[begin:start].lower())
    return not lexicon.names("document_words").isdisjoint(words)


#: How an account number begins. Letters of both cases are `A` in all of these.
_ACCOUNT: Final = re.compile(rb"AA00")
#: Codes with separators.
_SEPARATED: Final = (b"AA 00 00 00 A", b"A-0000000-A", b"00000000-A", b"000000-000A")
#: The digits that every code without separators has.
_DIGITS: Final = re.compile(rb"0(?:0{5,18}|000A|0A00A000A)")
_ALNUM: Final = frozenset(b"0A")
_BESIDE: Final = frozenset({b"0", b"A", b"_"})
_LETTERS: Final = re.compile(r"[a-z]+")
_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}


def _account_end(text: str, start: int) -> int:
    """Return the end of an account number that has its country's length and checksum, 0 for none.

    Text may follow it after a space.
    """
    if start < 0 or text[start - 1 : start].isalnum() or text[start : start + 2].upper() not in _IBAN_LENGTHS:
        return 0
    length = _IBAN_LENGTHS[text[start : start + 2].upper()]
    written = text[start : start + 2 * length]
    compact, end = [], 0
    for end, sign in enumerate(written, start=1):  # noqa: B007 - read after the loop
        if sign not in " -":
            compact.append(sign)
        if len(compact) == length:
            break
    if len(compact) < length or written[end : end + 1].isalnum():
        return 0
    number = "".join(compact[4:] + compact[:4])
    if not (number.isascii() and number.isalnum()):
        return 0
    return start + end if int("".join(str(int(sign, 36)) for sign in number)) % 97 == 1 else 0
