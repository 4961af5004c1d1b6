"""Find postal addresses by the words for streets, in the forms of several countries.

This is weak by nature, as names are: an address without a word for its street is missed, except a British
postcode and a post-office box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: The half-open range and the kind of what was found.
Span = tuple[int, int, str]


def in_addresses(text: str) -> Iterator[Span]:
    """Yield postal addresses: a street with its number, and the town or postal code that follows."""
    for pattern in _ADDRESSES:
        for match in pattern.finditer(text):
            yield match.start(), match.end(), "address"


_NUMBER: Final = r"\d{1,5}(?: ?[A-Za-z](?![A-Za-z]))?(?:[/-]\d{1,4}[A-Za-z]?)?"
_NAME: Final = r"[A-Z][A-Za-z'-]{1,29}"
_TOWN: Final = rf"{_NAME}(?:[ -]{_NAME}){{0,2}}"
#: A postal code of the United Kingdom.
_POSTCODE: Final = (
    r"(?:GIR 0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d{1,2}|\d[A-HJKS-UW]|[A-HK-Y]\d[ABEHMNPRV-Y])"
    r" \d[ABD-HJLNP-UW-Z]{2})"
)
#: What may follow a street: a flat, a postal code and a town.
_REST: Final = (
    r"(?:,? (?:Apt|Apartment|Suite|Unit|Flat)\.? ?#?\w{1,6})?"
    rf"(?:,?[ \n](?:\d{{4,5}}(?:-\d{{3}})?|[A-Z]-\d{{4,5}}) {_TOWN}"
    rf"|,[ \n]{_TOWN}(?:,? (?:[A-Z]{{2}} \d{{5}}(?:-\d{{4}})?|{_POSTCODE}))?)?"
)
_STREET: Final = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace"
    r"|Close"
    r"|Crescent|Way|Highway|Hwy|Parkway|Pkwy|Row|Gardens|Mews)"
)
_GERMANIC: Final = (
    r"(?:straße|strasse|str\.|weg|platz|gasse|allee|ring|damm|ufer|straat|laan|gracht|plein|gatan|vagen"
    r"|vej|gate|veien)"
)
_ENGLISH_FORM: Final = (
    rf"(?<![\w.])\d{{1,5}}[A-Za-z]? (?:[NSEW]\.? )?(?:(?:[A-Z][A-Za-z'.-]{{1,29}}|\d{{1,3}}(?:st|nd|rd"
    rf"|th)) ){{1,3}}"
    rf"{_STREET}\b\.?{_REST}"
)
_GERMANIC_FORM: Final = (
    rf"(?<!\w)(?:[A-Z][a-zA-Zß'-]{{1,29}}[ -]){{0,2}}"
    rf"(?:[A-Z][a-zß-]{{1,29}}{_GERMANIC}|(?:Straße|Strasse|Str\.|Weg|Platz|Allee)) {_NUMBER}(?!\w){_REST}"
)
_FRENCH_FORM: Final = (
    r"(?<![\w.])\d{1,4}(?: ?(?:bis|ter))?,? (?i:rue|avenue|boulevard|bd|place|chemin|impasse|allee|quai"
    r"|route|cours)"
    r" (?:(?:de|du|des|la|le|les|d'|l'|de la|saint|sainte)[ ]?){0,3}"
    rf"{_NAME}(?:[ -](?:de |du |des |la )?{_NAME}){{0,3}}{_REST}"
)
_ROMANCE_FORM: Final = (
    r"(?<!\w)(?i:calle|c/|avenida|avda\.|paseo|plaza|via|viale|piazza|corso|rua|praca|travessa|ulica|ul\."
    r"|al\.)"
    r" (?:(?:de|del|la|las|los|da|do|dos|das|di|dei|della|delle|san|santa)[ ]){0,3}"
    r"[A-Z][A-Za-z'.-]{1,29}(?: (?:de |del |la |e |y )?[A-Z][A-Za-z'.-]{1,29}){0,3}"
    rf",? (?:n\.? ?[o°]? ?)?{_NUMBER}(?!\w){_REST}"
)
_BOX: Final = r"(?<!\w)(?:P\.? ?O\.? Box|Postfach|Apartado|Postbus) \d{1,6}(?: ?\d{1,4})?"
_ADDRESSES: Final = tuple(
    re.compile(form)
    for form in (
        _ENGLISH_FORM,
        _GERMANIC_FORM,
        _FRENCH_FORM,
        _ROMANCE_FORM,
        _BOX,
        rf"(?<![A-Za-z0-9]){_POSTCODE}(?![A-Za-z0-9])",
    )
)
