"""The forms and checksums of tax and identity numbers, by country, and the words that announce one.

`python-stdnum` holds the checksums; its modules are imported when a number has their form.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from typing import Final

NO_SEPARATORS: Final = str.maketrans("", "", " \t\n.()/+-")
#: Forms in digits that one country uses: the modules of `stdnum` that know the checksum.
DIGITS: Final[Mapping[bytes, tuple[str, ...]]] = {
    b"000-00-0000": ("us.ssn", "us.itin"),
    b"000.000.000-00": ("br.cpf",),
    b"00.000.000/0000-00": ("br.cnpj",),
    b"000.0000.0000.00": ("ch.ssn",),
    b"00.00.00-000.00": ("be.nn",),
    b"000000-0000": ("se.personnummer",),
    b"00000000-0000": ("se.personnummer",),
    b"000000-0000000": ("kr.rrn",),
    b"0 00 00 00 000 000 00": ("fr.nir",),
    b"0 00 00 00 000 000": ("fr.nir",),
    b"000000000000000": ("fr.nir",),
    b"00 000 000 000": ("de.idnr",),
    b"000000 00000": ("no.fodselsnummer",),
    b"00.000.000-0": ("cl.rut",),
    b"00-00000000-0": ("ar.cuit",),
    b"000000000000000000": ("cn.ric",),
}
#: Numbers that count after a word such as "tax" or "SSN", by how many digits they have.
BY_LENGTH: Final[Mapping[int, tuple[str, ...]]] = {
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
#: Forms in letters and digits, as `DIGITS`.
CODES: Final[Mapping[bytes, tuple[str, ...]]] = {
    b"00000000A": ("es.dni",),
    b"00000000-A": ("es.dni",),
    b"A0000000A": ("es.nie",),
    b"A-0000000-A": ("es.nie",),
    b"AAAAAA00A00A000A": ("it.codicefiscale",),
    b"AA000000A": ("gb_nino",),
    b"AA 00 00 00 A": ("gb_nino",),
    b"AAAAA0000A": ("in_.pan",),
    b"000000-000A": ("fi.hetu",),
    b"000000A000A": ("fi.hetu",),
    b"AAAA000000AAAAAA00": ("mx.curp",),
    b"AAAA000000AAAAAAA0": ("mx.curp",),
    b"AAAA000000AA0": ("mx.rfc",),
    b"AAAA000000A00": ("mx.rfc",),
    b"00000000000000000A": ("cn.ric",),
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


def kind_of(rule: str) -> str:
    """Return the kind of the numbers of a rule: `tax_number` or `national_id`."""
    return "tax_number" if rule in _TAX else "national_id"


def holds(rule: str, written: str) -> bool:
    """Return whether a number has a valid checksum and more than one digit."""
    return len(set(written.translate(NO_SEPARATORS))) > 1 and _check(rule)(written)


def is_vat(code: str) -> bool:
    """Return whether a code in capitals is a VAT number of a European country."""
    return _VAT.fullmatch(code) is not None and _check("eu.vat" if code[:2] != "GB" else "gb.vat")(code)


@functools.cache
def _check(rule: str) -> Callable[[str], bool]:
    if rule == "gb_nino":
        return lambda code: _NINO.fullmatch(code.upper().replace(" ", "")) is not None
    check: Callable[[str], bool] = importlib.import_module(f"stdnum.{rule}").is_valid
    return check
