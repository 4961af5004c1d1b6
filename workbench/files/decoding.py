"""Decode text as people save it: UTF-8, UTF-16, UTF-32, a Windows code page or another legacy encoding.

`decode` is strict, for tables: it takes cp1252 alone of the legacy encodings, and no control character.
`decode_document` also takes other legacy encodings, by the words that they give, and few control characters.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workbench.errors import ConfigError

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatches

#: The first bytes of files that are not text, and what the file is.
_SIGNATURES = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a ZIP archive, as XLSX and DOCX files are",
    b"%PDF-": "a PDF file",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"SQLite format 3\0": "a SQLite database",
    b"\xd0\xcf\x11\xe0": "an Office file of before 2007, such as .xls",
    b"\x7fELF": "a program",
    b"ARROW1": "an Arrow file",
}
#: Each mark and its encoding; the mark of UTF-32 begins with the mark of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f]")
#: Control characters that documents do not have; a form feed and an escape do occur.
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
#: Legacy encodings that are told apart by the words they give; cp1252 contains Latin-1's texts.
_LEGACY = ["cp1252", "cp1250", "cp1251", "cp1253", "cp932", "gb18030", "euc_kr", "big5", "koi8_r"]
#: How much of a document its encoding is told from.
_SAMPLE = 100_000
_SAVE = "save it as UTF-8: in a spreadsheet choose CSV UTF-8 (comma delimited)"


def decode(data: bytes, *, where: str, encoding: str = "") -> tuple[str, str]:
    """Return the text of a file's bytes, without a byte order mark, and the name of its encoding.

    A mark decides; without one the text is UTF-8, else UTF-16, else cp1252, which includes Latin-1.
    ConfigError names `where` and the byte or line of what is no text. `encoding` replaces the search.
    """
    binary = next((what for start, what in _SIGNATURES.items() if data.startswith(start)), "")
    if binary:
        raise ConfigError(f"{where} is no text but {binary}", hint="give it the ending of its format")
    name = encoding or _marked(data) or _unmarked(data, where)
    try:
        text = data.decode(name)
    except LookupError:
        raise ConfigError(f"{where}: there is no encoding {name!r}", hint="encoding='utf-8'") from None
    except UnicodeError as error:  # a codec may name no byte
        byte = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise ConfigError(f"{where} is not {name} text{byte}", hint=_SAVE) from None
    control = _CONTROL.search(text)
    if control:
        line = len(re.findall(r"\r\n|\r|\n", text[: control.start()])) + 1
        problem = f"the control character U+{ord(control[0]):04X} is in no text"
        raise ConfigError(f"{where}:{line}: {problem}", hint="is it a binary file with a wrong ending?")
    return text, name


def decode_document(data: bytes, *, stated: str = "") -> str:
    """Return the text of `data`, by its byte order mark, the encoding `stated` inside it, or its words.

    Raise ValueError, which says why, for bytes that are no text.
    """
    text = next(filter(None, _decodings(data, stated)), "")
    if data and not text.strip("\ufeff"):
        raise ValueError("it is no text in a known encoding")
    if len(_BINARY.findall(text, 0, _SAMPLE)) * 1000 > len(text[:_SAMPLE]):
        raise ValueError("it holds control characters, so it is no text")
    return text


def _marked(data: bytes) -> str:
    """Return the encoding that a byte order mark states, or ""."""
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")


def _utf16(data: bytes) -> str:
    """Return the byte order of UTF-16 without a mark, or "": Western text has zeros in every second byte."""
    even, odd = data[0::2].count(0), data[1::2].count(0)
    low, high = sorted((even, odd))
    if 5 * low >= high or 5 * high <= len(data):
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _unmarked(data: bytes, where: str) -> str:
    """Return the encoding of bytes without a mark; ConfigError when they are no text."""
    head = data[:4096]
    if b"\0" in head:
        name = _utf16(head)
        if not name:
            raise ConfigError(f"{where} is no text: it holds zero bytes", hint=_SAVE)
        return name
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return _code_page(data, where, error.start)
    return "utf-8"


def _code_page(data: bytes, where: str, start: int) -> str:
    """Return "cp1252" for a text of western Europe; ConfigError for bytes that read as none."""
    found = _matches(data, ["cp1252", "latin_1"]).best()
    if found is None:
        raise ConfigError(f"{where} is not UTF-8 text (byte {start}), nor UTF-16 or Latin-1", hint=_SAVE)
    return found.encoding


def _decodings(data: bytes, stated: str) -> Iterator[str]:
    """Yield the possible texts of the bytes, the likeliest first; "" where an encoding does not fit."""
    name = _marked(data)
    if name:
        yield _strictly(data, name)
        return
    if b"\0" in data:
        yield _strictly(data, _utf16(data))
        return
    if stated and not stated.startswith(("utf-16", "utf-32")):
        yield _strictly(data, stated)
    yield _strictly(data, "utf-8")
    yield _strictly(data, _legacy(data))


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (ValueError, LookupError):  # LookupError: no such encoding, or one that gives no text
        return ""


def _legacy(data: bytes) -> str:
    """Return the likeliest legacy encoding: cp1252 unless the words say that it is another one."""
    sample = data[:_SAMPLE]
    found = [
        (match.chaos, -match.coherence, name != "cp1252", name)
        for match in _matches(sample, _LEGACY)
        for name in match.could_be_from_charset
    ]
    western = sum(byte >= 0x80 for byte in sample) * 3 < len(sample)
    if not found or (western and not any(coherence for _, coherence, _, _ in found)):
        return "cp1252"
    return min(found)[-1]


def _matches(data: bytes, encodings: list[str]) -> CharsetMatches:
    from charset_normalizer import from_bytes

    return from_bytes(data, cp_isolation=encodings)
