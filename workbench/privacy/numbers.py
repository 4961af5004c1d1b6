"""Find payment cards, bank accounts, telephone numbers, and tax and identity numbers by form and checksum.

A number counts when its form belongs to one kind alone and its checksum holds, or when a word before it says
what it is. `python-stdnum` holds the checksums of the countries and `phonenumbers` their numbering plans.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

#: The half-open range and the kind of an identifier.
Span = tuple[int, int, str]


def in_numbers(text: str) -> Iterator[Span]:
    """Yield cards, telephone numbers, and tax and identity numbers that are written in digits."""
    for run in _RUN.finditer(text):
        yield from _in_run(text, run)


def in_codes(text: str) -> Iterator[Span]:
    """Yield bank accounts, and tax and identity numbers that are written in letters and digits."""
    for match in _ACCOUNT.finditer(text):
        if length := _iban_length(match[0]):
            yield match.start(), match.start() + length, "iban"
    for match in _CODE.finditer(text):
        code = match[0].upper()
        rules = _CODES.get(code.translate(_SHAPE), ())
        if any(_holds(name, code) for name in rules):
            yield match.start(), match.end(), _kind(rules[0])
        elif _is_vat(code) or (_is_mixed(code) and _DOCUMENT_WORD.search(_before(text, match.start()))):
            yield match.start(), match.end(), "tax_number" if _is_vat(code) else "national_id"


def is_card(written: str) -> bool:
    """Return whether a number is grouped as on a card, begins as an issuer's, and has Luhn's check digit."""
    if _GROUPED.fullmatch(written) is None:
        return False
    digits = written.translate(_NO_SEPARATORS)
    return _ISSUED.fullmatch(digits) is not None and _luhn(digits)


def is_iban(written: str) -> bool:
    """Return whether an account number, with or without spaces, has its country's length and checksum."""
    return _iban_length(written) == len(written)


# -- runs of digits ---------------------------------------------------------------------------------

#: Digits with at most three separators between two of them. A run of more digits is read in pieces.
_RUN: Final = re.compile(r"(?<![A-Za-z0-9_])(?:\+|\(\+?)?\d(?:[ \t.()/-]{0,3}\d){6,40}(?![A-Za-z0-9_])")
_GROUP: Final = re.compile(r"\d+")
_SHAPE: Final = str.maketrans("123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0" * 9 + "A" * 26)
_NO_SEPARATORS: Final = str.maketrans("", "", " \t.()/+-")
#: Most attempts that ask a numbering plan or a country's checksum about the same run.
_MOST_ASKED: Final = 4


def _in_run(text: str, run: re.Match[str]) -> Iterator[Span]:
    """Yield the identifiers of one run, the longest first at each of its groups."""
    groups = [group.span() for group in _GROUP.finditer(text, *run.span())]
    reader = _DigitRun(text, run.start(), run.end())
    first = 0
    while first < len(groups):
        for last in range(len(groups) - 1, first - 1, -1):
            span = reader.read(groups[first][0], groups[last][1], digits=_digits(groups, first, last))
            if span is not None:
                yield span
                first = last
                break
        first += 1


def _digits(groups: list[tuple[int, int]], first: int, last: int) -> int:
    return sum(end - start for start, end in groups[first : last + 1])


class _DigitRun:
    """One run of digits, of which parts are read as numbers of a kind."""

    __slots__ = ("_asked", "_identity", "_phone", "_text", "_upto")

    def __init__(self, text: str, start: int, upto: int) -> None:
        before = _before(text, start)
        self._text, self._upto = text, upto
        self._phone = _PHONE_WORD.search(before) is not None
        self._identity = _IDENTITY_WORD.search(before) is not None
        self._asked = 0

    def read(self, start: int, end: int, *, digits: int) -> Span | None:
        """Return the range and the kind of these digits, or None."""
        if not 7 <= digits <= 19:
            return None
        written = self._text[start:end]
        if digits >= 13 and is_card(written):
            return start, end, "card"
        if (kind := self._identity_kind(written, digits)) is not None:
            return start, end, kind
        start -= len(_OPENING.search(self._text, max(0, start - 3), start)[0])  # type: ignore[index]
        return (start, end, "phone") if self._is_phone(start, end, digits) else None

    def _identity_kind(self, written: str, digits: int) -> str | None:
        rules = _SHAPES.get(written.translate(_SHAPE), ())
        if self._identity and self._may_ask():
            rules = (*rules, *_BY_LENGTH.get(digits, ()))
        for name in rules:
            if _holds(name, written):
                return _kind(name)
        return None

    def _is_phone(self, start: int, end: int, digits: int) -> bool:
        written = self._text[start:end]
        if _DATE.search(written):
            return False
        if "+" in written:
            return digits >= 8 and self._may_ask() and _is_international(written)
        regions = _PHONE_SHAPES.get(written.translate(_SHAPE), ())
        if self._phone:
            regions = (*regions, *_REGIONS)
        return bool(regions) and self._may_ask() and _is_national(written, regions)

    def _may_ask(self) -> bool:
        self._asked += 1
        return self._asked <= _MOST_ASKED


def _before(text: str, start: int) -> str:
    """Return the words before a place, in lower case."""
    return text[max(0, start - 48) : start].lower()


_OPENING: Final = re.compile(r"(?:\(?\+|\(?\+? ?)$|$")
_DATE: Final = re.compile(r"(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d|^\d+\.\d+$")
_PHONE_WORD: Final = re.compile(
    r"(?:\b(?:tele)?(?:ph|f)ones?|\bt[eé]l(?:[eé]fono)?s?|\bmobil[e]?|\bcell(?:ular)?|\bfax"
    r"|\bcall(?: \w+)?|\bhandy|\bring"
    r"|\bm[oó]vil|\bcellulare|\btelefon[eo]?|\bwhatsapp|\bsms|\bdial|\brufnummer|\bportable"
    r"|\bcontact(?: number)?|\btext"
    r"|\btelemovel|\bkomorka|\bnumer)\b[^\d\n]{0,24}$"
)
_IDENTITY_WORD: Final = re.compile(
    r"\b(?:ssn|social security|tax|itin|ein|tin|nhs|utr|steuer\w*|sozialversicherung\w*|svnr|idnr|insee"
    r"|nir|s[eé]cu\w*|fiscal\w*"
    r"|dni|nie|nif|nuss|codice|bsn|burgerservicenummer|sofi|nrn|rijksregister\w*|pesel|nip|personnummer"
    r"|personummer|cpr"
    r"|f[oø]dselsnummer|fnr|hetu|henkil\w*|ahv|avs|cpf|cnpj|aadhaar|aadhar|uidai|pan|my number|sin|tfn"
    r"|curp|rfc"
    r"|t\.?c\.?|kimlik|rsa id|id (?:number|no)|identity|national id|cuit|cuil|rut|inn|snils|cnp|numerus"
    r"|numero de securite sociale"
    r"|contribuinte|passport|resident)\b[^\d\n]{0,32}$"
)
_DOCUMENT_WORD: Final = re.compile(
    r"\b(?:passport|reisepass|passeport|pasaporte|passaporto|paspoort|id card|personalausweis|ausweis\w*"
    r"|licen[cs]e|permis"
    r"|fuhrerschein|driver\w*|carte d'identite|nino|pps|ppsn|svnr|versicherungsnummer"
    r"|insurance number)\b[^\d\n]{0,24}$"
)


# -- payment cards and accounts ---------------------------------------------------------------------

#: Lengths and first digits that issuers use. Longer numbers count only in groups of four, as printed on a
#: card: 19 digits in a row are a 64-bit number.
_ISSUED: Final = re.compile(
    r"4\d{12}(?:\d{3}(?:\d{3})?)?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"
)
_GROUPED: Final = re.compile(
    r"\d{14,16}|\d{4}([ .-]{1,3})\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ .-])\d{6}\2\d{4,5}"
)
_ACCOUNT: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
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


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(doubled) + sum(int(d) for d in digits[::-2])) % 10 == 0


def _iban_length(written: str) -> int:
    """Return how many characters belong to an account number, 0 for none.

    Text may follow it after a space.
    """
    length = _IBAN_LENGTHS.get(written[:2].upper(), 0)
    compact, end = [], 0
    for end, sign in enumerate(written, start=1):  # noqa: B007 - read after the loop
        if sign not in " -":
            compact.append(sign)
        if len(compact) == length:
            break
    if not length or len(compact) < length or written[end : end + 1].isalnum():
        return 0
    number = "".join(compact[4:] + compact[:4])
    return end if int("".join(str(int(sign, 36)) for sign in number)) % 97 == 1 else 0


# -- telephone numbers ------------------------------------------------------------------------------

#: Regions whose numbering plans read a number without a country code after a word such as "phone".
_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "AU", "PL", "CH")
#: Forms that a region alone uses, so that they need no word before them.
_PHONE_SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    form: tuple(regions.split())
    for regions, forms in {
        "US": "(000) 000-0000|(000)000-0000|000-000-0000|000.000.0000|1-000-000-0000|1 (000) 000-0000",
        "GB DE": "00000 000000|0000 000 0000|000 0000 0000|00000 000 000|(000) 0000 0000",
        "FR": "00 00 00 00 00|00.00.00.00.00|00-00-00-00-00",
        "DE IT": "000 0000000|0000 0000000|0000/0000000|000/0000000|0000/000000|000/00000000|0000-0000000"
        "|030 000000",
        "NL": "00-00000000|000-0000000",
        "ES": "000 00 00 00",
        "CH": "000 000 00 00",
        "AU": "0000 000 000",
        "IN": "00000 00000|00000-00000",
        "BR": "(00) 00000-0000|(00) 0000-0000",
        "JP KR": "000-0000-0000",
    }.items()
    for form in forms.split("|")
}
_NORTH_AMERICAN: Final = re.compile(r"1?[2-9]\d\d[2-9]\d{6}")


def _is_international(written: str) -> bool:
    import phonenumbers

    try:
        number = phonenumbers.parse(written.replace("(0)", "").strip("( "))
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def _is_national(written: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    digits = written.translate(_NO_SEPARATORS)
    for region in dict.fromkeys(regions):
        if region == "US":  # numbers that are reserved for fiction are read as well
            if _NORTH_AMERICAN.fullmatch(digits):
                return True
        elif phonenumbers.is_valid_number(phonenumbers.parse(digits, region)):
            return True
    return False


# -- tax and identity numbers -----------------------------------------------------------------------

#: Forms in digits that one country uses: the modules of `stdnum` that know the checksum.
_SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "000-00-0000": ("us.ssn", "us.itin"),
    "000.000.000-00": ("br.cpf",),
    "00.000.000/0000-00": ("br.cnpj",),
    "000.0000.0000.00": ("ch.ssn",),
    "00.00.00-000.00": ("be.nn",),
    "000000-0000": ("se.personnummer",),
    "00000000-0000": ("se.personnummer",),
    "000000-0000000": ("kr.rrn",),
    "0 00 00 00 000 000 00": ("fr.nir",),
    "0 00 00 00 000 000": ("fr.nir",),
    "000000000000000": ("fr.nir",),
    "00 000 000 000": ("de.idnr",),
    "000000 00000": ("no.fodselsnummer",),
    "00.000.000-0": ("cl.rut",),
    "00-00000000-0": ("ar.cuit",),
    "000000000000000000": ("cn.ric",),
}
#: Numbers that count after a word such as "tax" or "SSN", by how many digits they have.
_BY_LENGTH: Final[Mapping[int, tuple[str, ...]]] = {
    8: ("ar.dni",),
    9: ("us.ssn", "us.ein", "us.itin", "nl.bsn", "pt.nif", "ca.sin", "au.tfn", "ie.pps"),
    10: ("gb.nhs", "gb.utr", "pl.nip", "se.personnummer", "dk.cpr"),
    11: ("de.idnr", "pl.pesel", "no.fodselsnummer", "tr.tckimlik", "br.cpf", "be.nn", "ar.cuit"),
    12: ("in_.aadhaar", "se.personnummer", "ru.inn"),
    13: ("za.idnr", "ch.ssn", "ro.cnp", "kr.rrn", "fr.nif"),
    14: ("br.cnpj",),
    15: ("fr.nir",),
    18: ("cn.ric",),
}
_CODE: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?=[A-Za-z]{0,6}\d)[A-Za-z0-9]{1,16}(?:[ -]?[A-Za-z0-9]{1,4}){0,4}(?![A-Za-z0-9_])"
)
#: Forms in letters and digits, as `_SHAPES`.
_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "00000000A": ("es.dni",),
    "00000000-A": ("es.dni",),
    "A0000000A": ("es.nie",),
    "A-0000000-A": ("es.nie",),
    "AAAAAA00A00A000A": ("it.codicefiscale",),
    "AA000000A": ("gb_nino",),
    "AA 00 00 00 A": ("gb_nino",),
    "AAAAA0000A": ("in_.pan",),
    "000000-000A": ("fi.hetu",),
    "000000A000A": ("fi.hetu",),
    "AAAA000000AAAAAA00": ("mx.curp",),
    "AAAA000000AAAAAAA0": ("mx.curp",),
    "AAAA000000AA0": ("mx.rfc",),
    "AAAA000000A00": ("mx.rfc",),
    "00000000000000000A": ("cn.ric",),
}
_NINO: Final = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")
_VAT: Final = re.compile(
    r"(?:AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI"
    r"|SK)(?=\w*\d{5})[A-Z0-9]{8,12}"
)
_TAX: Final = {
    "us.ein", "us.itin", "gb.utr", "de.idnr", "pt.nif", "br.cpf", "br.cnpj", "pl.nip", "ru.inn", "au.tfn",
    "ar.cuit", "in_.pan", "mx.rfc", "cl.rut", "it.codicefiscale", "fr.nif",
}  # fmt: skip


def _kind(rule: str) -> str:
    return "tax_number" if rule in _TAX else "national_id"


@functools.cache
def _check(name: str) -> Callable[[str], bool]:
    if name == "gb_nino":
        return lambda code: _NINO.fullmatch(code.replace(" ", "")) is not None
    check: Callable[[str], bool] = importlib.import_module(f"stdnum.{name}").is_valid
    return check


def _holds(name: str, written: str) -> bool:
    """Return whether a number has a valid checksum and more than one digit."""
    return len(set(written.translate(_NO_SEPARATORS))) > 1 and _check(name)(written)


def _is_vat(code: str) -> bool:
    return _VAT.fullmatch(code) is not None and _check("eu.vat" if code[:2] != "GB" else "gb.vat")(code)


def _is_mixed(code: str) -> bool:
    return sum(sign.isdigit() for sign in code) >= 5
