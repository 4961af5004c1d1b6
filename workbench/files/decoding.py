"""Decode a text file as people save it: UTF-8, UTF-16 or UTF-32, or the Windows code page cp1252."""

from __future__ import annotations

import codecs
import re

from workbench.errors import ConfigError

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


def _marked(data: bytes) -> str:
    """Return the encoding that a byte order mark states, or ""."""
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")


def _unmarked(data: bytes, where: str) -> str:
    """Return the encoding of bytes without a mark; ConfigError when they are no text."""
    head = data[:4096]
    if b"\0" in head:
        zeros = (head[0::2].count(0), head[1::2].count(0))
        low, high = sorted(zeros)
        if 5 * low >= high or 4 * high < len(head):  # text of UTF-16 has its zeros in every second byte
            raise ConfigError(f"{where} is no text: it holds zero bytes", hint=_SAVE)
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return _code_page(data, where, error.start)
    return "utf-8"


def _code_page(data: bytes, where: str, start: int) -> str:
    """Return "cp1252" for a text of western Europe; ConfigError for bytes that read as none."""
    from charset_normalizer import from_bytes

    found = from_bytes(data, cp_isolation=["cp1252", "latin_1"]).best()
    if found is None:
        raise ConfigError(f"{where} is not UTF-8 text (byte {start}), nor UTF-16 or Latin-1", hint=_SAVE)
    return found.encoding
