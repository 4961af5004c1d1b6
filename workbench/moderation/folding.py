"""Fold a text for matching: case, accents, invisible characters and look-alikes do not count."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from array import array
from collections.abc import Iterator
from typing import Final

from workbench.folding import Folded, fold

#: Letters of other alphabets that look like Latin ones; they are folded in words that mix alphabets.
_LOOK: Final = dict(
    zip(
        "авеԁкмнорстухіјѕԛԝһӏɡαβεικνορτυχгпбзѵ",
        "abedkmhopctyxijsqwhlgabeiknoptuxrn63v",
        strict=True,
    )
)
_MIXED: Final = re.compile(r"(?=\w*[a-z])(?=\w*[^\W\da-z_])\w+")
_LEET: Final = str.maketrans("013457@$", "oieastas")
_LEET_WORD: Final = re.compile(
    r"(?<![\w@$])(?=[0-9@$]{0,30}[a-z])(?=[a-z]{0,30}[013457@$])[a-z013457@$]{4,30}"
)
#: Single letters with a sign between them, as in `i g n o r e`.
_DIGIT: Final = re.compile("[013457@$]")
_MAYBE_LEET: Final = re.compile(r"[a-z][013457@$]{1,8}[a-z]|[013457@$][a-z]{3}")
_MAYBE_SPACED: Final = re.compile(r"[ .\-_*|][^\W\d_][ .\-_*|]{1,3}[^\W\d_][ .\-_*|]")
_SPACED: Final = re.compile(r"(?<!\w)(?:[^\W\d_][ .\-_*|]{1,3}){5,200}[^\W\d_](?!\w)")
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{24,8192}={0,2}(?![A-Za-z0-9+/=_-])")
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{24}")
#: Words of instructions that are written backwards, and in ROT13.
_REVERSED: Final = ("noitcurtsni", "erongi", "tpmorp", "dragersid")
_ROTATED: Final = ("vafgehpgvba", "vtaber", "cebzcg", "qvfertneq")
#: Characters whose folded form is remembered.
_MOST_CHARACTERS: Final = 20_000
#: Encoded texts that are decoded in one text.
_MOST_DECODED: Final = 32


class _LowerCase(dict[int, str]):
    """Each character in lower case, and characters such as ligatures as the letters that they stand for."""

    def __missing__(self, code: int) -> str:
        wide = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        kept = "".join(part for part in wide if unicodedata.category(part) not in {"Mn", "Cf", "Me"})
        plain = kept or " "
        if len(self) < _MOST_CHARACTERS:
            self[code] = plain
        return plain


_CHARACTERS: Final = _LowerCase()


def folded(text: str) -> Folded:
    """Return the text in lower case, without accents and invisible characters, Latin for its look-alikes."""
    if text.isascii():
        return Folded(text=text.lower())
    plain = fold(text)
    wide = plain.text.translate(_CHARACTERS)
    origin = plain.origin
    if len(wide) != len(plain.text):
        origin = array("Q")
        for at, character in enumerate(plain.text):
            origin.extend([plain.span(at, at)[0]] * len(_CHARACTERS[ord(character)]))
        origin.append(len(text))
    found = _MIXED.sub(lambda word: "".join(_LOOK.get(letter, letter) for letter in word[0]), wide)
    return Folded(text=found, origin=origin)


def disguised(text: str, plain: Folded) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield what a text hides, folded, with its range: spaced, reversed or rotated letters, digits, Base64.

    What is of the whole text and as long as the folded text has its characters at the same places.
    """
    for found in _SPACED.finditer(plain.text) if _MAYBE_SPACED.search(plain.text) else ():
        joined = re.sub(r"[ .\-_*|]{2}", " ", found[0])
        words = (
            re.sub(r"(?<=\w)[ .\-_*|](?=\w(?:[ .\-_*|]|$))", "", joined) if joined != found[0] else found[0]
        )
        yield re.sub(r"[ .\-_*|]", "", found[0]), plain.span(*found.span())
        if words != found[0]:
            yield re.sub(r"[.\-_*|]", "", words), plain.span(*found.span())
    if _DIGIT.search(plain.text) and _MAYBE_LEET.search(plain.text):
        swapped = _LEET_WORD.sub(lambda word: word[0].translate(_LEET), plain.text)
        if swapped != plain.text:
            yield swapped, (0, len(text))
    if any(mark in plain.text for mark in _REVERSED):
        yield f"{plain.text[::-1]} ", (0, len(text))
    if any(mark in plain.text for mark in _ROTATED):
        yield codecs.decode(plain.text, "rot13"), (0, len(text))
    for decoded, span in encoded_texts(text):
        yield folded(decoded).text, span


def encoded_texts(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the texts that are Base64 inside of a text, with their ranges."""
    runs = _BASE64.finditer(text) if _LONG_RUN.search(text) else ()
    for number, found in enumerate(runs):
        if number == _MOST_DECODED:
            return
        data = found[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            decoded = base64.b64decode(data + "=" * (-len(data) % 4)).decode()
        except (binascii.Error, ValueError):
            continue
        if sum(part.isprintable() or part.isspace() for part in decoded) == len(decoded):
            yield decoded, found.span()
