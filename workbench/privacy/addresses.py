"""Find postal addresses by the words for streets, in the forms of several countries.

This is weak by nature, as names are: an address without a word for its street is missed, except a British
postcode and a post-office box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from workbench.privacy.shapes import Span


def in_addresses(text: str, shape: bytes) -> Iterator[Span]:
    """Yield the postal addresses of a folded text and its shape.

    An address is a street with its number, and the town or postal code that follows.
    """
    upto = 0
    for number in _HOUSE.finditer(shape):
        start, end = number.span()
        if start < upto or shape[start - 1 : start] in _BESIDE:
            continue
        match = _address(text, shape, start, end)
        if match is not None and upto <= match.start() <= start < match.end():
            yield match.start(), match.end(), "address"
            upto = match.end()
    at = shape.find(_BRITISH)
    while at >= 0:
        match = _POSTCODE_ALONE.search(text, max(0, at - 4), at + 5)
        if match is not None:
            yield match.start(), match.end(), "address"
        at = shape.find(_BRITISH, at + 4)


def _address(text: str, shape: bytes, start: int, end: int) -> re.Match[str] | None:
    """Return the address with this number, in the form that the words beside the number tell."""
    behind = shape[end : end + 6]
    match = None
    if shape[max(0, start - 2) : start] == b"0 " or (behind[:2] == b" 0" and b"a" not in behind):
        return None  # one group of several
    if (behind[:1] in _SPACE and behind[1:2] in _CAPITAL) or (behind[:1] in _LETTER and behind[1:3] == b" A"):
        match = _ENGLISH_FORM.match(text, start) or _STATED_FORM.match(text, start)
    elif behind[:1] in _SPACE and _FRENCH_WORD.match(text, end):
        match = _FRENCH_FORM.match(text, start)
    if match is None and shape[max(0, start - 2) : start] in _AFTER_WORD:
        before = text[max(0, start - 40) : start].lower()
        form = _form_before(before) or (_POSTAL_FORM if shape[end : end + 6] == b", 0000" else None)
        match = form.search(text, max(0, start - _BEFORE), end + _AFTER) if form else None
    return match


def _form_before(before: str) -> re.Pattern[str] | None:
    """Return the form of an address whose number follows these words, in lower case."""
    if before.endswith(_GERMANIC_ENDS):
        return _GERMANIC_FORM
    if before.endswith(_BOXES):
        return _BOX_FORM
    return _ROMANCE_FORM if any(word in before for word in _ROMANCE_WORDS) else None


#: The number of a house, and how many characters before and after it an address may have.
_HOUSE: Final = re.compile(rb"00{0,5}(?!0)")
_BEFORE, _AFTER = 100, 160
_BRITISH: Final = b" 0AA"
_BESIDE: Final = frozenset({b"0", b"A", b"_", b"."})
_SPACE: Final = frozenset({b" ", b","})
_LETTER: Final = frozenset({b"A", b"a"})
_AFTER_WORD: Final = frozenset({b"a ", b"A ", b". ", b", ", b"x ", b") ", b"? "})
_CAPITAL: Final = frozenset({b"A", b"0"})
_BOXES: Final = ("box ", "postfach ", "apartado ", "postbus ")
_ROMANCE_WORDS: Final = (
    "calle ", "c/ ", "avenida ", "avda. ", "paseo ", "plaza ", "ronda ", "camino ", "via ", "viale ",
    "vicolo ", "piazza ", "corso ", "strada ", "contrada ", "largo ", "rua ", "praca ", "travessa ",
    "estrada ", "alameda ", "ulica ", "ul. ", "aleja ", "al. ", "plac ", "pl. ",
)  # fmt: skip
_FRENCH_WORD: Final = re.compile(
    r"(?: ?(?:bis|ter))?,? (?i:rue|avenue|boulevard|bd|place|chemin|impasse|allee|quai|route|cours) "
)
_NUMBER: Final = r"\d{1,5}(?: ?[A-Za-z](?![A-Za-z]))?(?:[/-]\d{1,4}[A-Za-z]?)?"
_NAME: Final = r"[A-Z][A-Za-z'-]{1,29}"
_TOWN: Final = rf"{_NAME}(?:[ -]{_NAME}){{0,2}}"
#: A postal code of the United Kingdom.
_POSTCODE: Final = (
    r"(?:GIR 0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d{1,2}|\d[A-HJKS-UW]|[A-HK-Y]\d[ABEHMNPRV-Y])"
    r" \d[ABD-HJLNP-UW-Z]{2})"
)
#: What may follow a street: a flat, a postal code and a town.
_FLAT: Final = r"(?:,? (?:Apt|Apartment|Suite|Unit|Flat|Piso|Puerta|Appartamento)\.? ?#?\w{1,6})?"
_CODE: Final = r"(?:\d{4} ?[A-Z]{2}|\d{5}-\d{3,4}|\d{2}-\d{3}|\d{3} \d{2}|[A-Z]{1,2}-\d{4,5}|\d{4,5})"
_STATED: Final = rf"(?:[A-Z]{{2}} \d{{5}}(?:-\d{{4}})?|{_POSTCODE})"
_REST: Final = (
    rf"{_FLAT}(?: ?,?[ \n]{_CODE},?[ \n]{_TOWN}(?: ?[(/] ?[A-Z]{{2}}\)?)?"
    rf"| ?,[ \n]{_TOWN}(?:,? {_STATED}|, {_CODE}(?!\d))?)?"
)
_STREET: Final = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace"
    r"|Close"
    r"|Crescent|Way|Highway|Hwy|Parkway|Pkwy|Row|Gardens|Mews)"
)
_GERMANIC: Final = (
    r"(?:strase|strasse|str\.|weg|platz|gasse|allee|damm|ufer|straat|laan|gracht|plein|steeg|singel|kade"
    r"|gatan|vagen|grand|torget|stigen|vej|veien|(?:ring|gate)(?= \d{1,4}[a-z]?,? \d{4,5} [A-Z]))"
)
_ENGLISH_FORM: Final = re.compile(
    rf"(?<![\w.])\d{{1,5}}[A-Za-z]? (?:[NSEW]\.? )?(?:(?:[A-Z][A-Za-z'.-]{{1,29}}|\d{{1,3}}(?:st|nd|rd"
    rf"|th)) ){{1,3}}"
    rf"{_STREET}\b\.?(?: (?:NW|NE|SW|SE|[NSEW])\b)?{_REST}"
)
_GERMANIC_FORM: Final = re.compile(
    rf"(?<!\w)(?:(?:[A-Z][a-zA-Z'-]{{1,29}}[ -]){{0,2}}[A-Z][a-z-]{{1,29}}{_GERMANIC}"
    rf"|(?!(?:Der|Die|Das|Eine?|Am|Im) )(?:[A-Z][a-zA-Z'-]{{1,29}}[ -]){{1,2}}"
    rf"(?:Strase|Strasse|Str\.|Weg|Platz|Allee)) {_NUMBER}(?!\w){_REST}"
)
#: Without a word for the street: a postal code and a town tell.
_POSTAL_FORM: Final = re.compile(
    rf"(?<!\w)(?:[A-Z][a-zA-Z'.-]{{1,29}} (?:[a-z]{{2,4}} )?){{1,3}}{_NUMBER},[ \n]{_CODE} {_TOWN}"
)
#: Without a word for the street: a state or postcode of an English-speaking country tells.
_STATED_FORM: Final = re.compile(
    rf"(?<![\w.])\d{{1,5}}[A-Za-z]?,? (?:{_NAME} ){{0,3}}{_NAME}{_FLAT},[ \n]{_TOWN},? {_STATED}(?!\w)"
)
_FRENCH_FORM: Final = re.compile(
    r"(?<![\w.])\d{1,4}(?: ?(?:bis|ter))?,? (?i:rue|avenue|boulevard|bd|place|chemin|impasse|allee|quai"
    r"|route|cours)"
    r" (?:(?:de|du|des|la|le|les|d'|l'|de la|saint|sainte)[ ]?){0,3}"
    rf"{_NAME}(?:[ -](?:de |du |des |la )?{_NAME}){{0,3}}{_REST}"
)
_ROMANCE_FORM: Final = re.compile(
    r"(?<!\w)(?i:calle|c/|avenida|avda\.|paseo|plaza|ronda|camino|via|viale|vicolo|piazza|corso|strada"
    r"|contrada"
    r"|largo|rua|praca|travessa|estrada|alameda|ulica|ul\.|aleja|al\.|plac|pl\.)"
    r" (?:(?:de|del|la|las|los|da|do|dos|das|di|dei|della|delle|san|santa)[ ]){0,3}"
    r"[A-Z][A-Za-z'.-]{1,29}(?: (?:de |del |la |e |y )?[A-Z][A-Za-z'.-]{1,29}){0,3}"
    rf",? (?:n\.? ?[o°]? ?)?{_NUMBER}(?!\w){_REST}"
)
_BOX_FORM: Final = re.compile(
    r"(?<!\w)(?:P\.? ?O\.? Box|Postfach|Apartado|Postbus) \d{1,6}(?: ?\d{1,4})?", re.IGNORECASE
)
_POSTCODE_ALONE: Final = re.compile(rf"(?<![A-Za-z0-9]){_POSTCODE}(?![A-Za-z0-9])")
_GERMANIC_ENDS: Final = (
    "strase ", "strasse ", "str. ", "weg ", "platz ", "gasse ", "allee ", "ring ", "damm ", "ufer ",
    "straat ", "laan ", "gracht ", "plein ", "steeg ", "singel ", "kade ", "gatan ", "vagen ", "grand ",
    "torget ",
    "stigen ", "vej ", "gate ", "veien ",
)  # fmt: skip
