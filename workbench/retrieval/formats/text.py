"""Read plain text and reStructuredText of any common encoding."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from workbench.retrieval.formats.document import Document, UnreadableError, one_line, whole

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Legacy encodings that are told apart by the words they give; cp1252 contains Latin-1's texts.
_LEGACY = ["cp1252", "cp1250", "cp1251", "cp1253", "cp932", "gb18030", "euc_kr", "big5", "koi8_r"]
#: How much of a text its encoding is told from.
_SAMPLE = 100_000
#: Control characters that texts do not have; a form feed and an escape do occur.
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
#: A line of one sign, which in reStructuredText underlines a heading.
_RULE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}")


def read(data: bytes) -> Document:
    """Return a text as it is. A heading is a line that the next one underlines, as in reStructuredText."""
    text = decoded(data)
    return whole(_underlined(text), text)


def decoded(data: bytes, *, stated: str = "") -> str:
    """Return the text of `data`, by its byte order mark, the encoding `stated` inside it, or its words.

    UnreadableError for bytes that are no text.
    """
    text = next(filter(None, _decodings(data, stated)), "")
    if data and not text.strip("\ufeff"):
        raise UnreadableError("it is no text in a known encoding")
    if len(_BINARY.findall(text, 0, _SAMPLE)) * 1000 > len(text[:_SAMPLE]):
        raise UnreadableError("it holds control characters, so it is no text")
    return text


def _decodings(data: bytes, stated: str) -> Iterator[str]:
    """Yield what the bytes may mean, the likeliest first, "" where they have no such meaning."""
    marked = next(((name, data[len(mark) :]) for mark, name in _MARKS if data.startswith(mark)), None)
    if marked is not None:
        yield _strictly(marked[1], marked[0])
        return
    if b"\0" in data:  # UTF-16 without a mark: every other byte of Western text
        odd, even = data[1::2].count(0), data[::2].count(0)
        if max(odd, even) * 5 > len(data) and min(odd, even) * 20 <= max(odd, even):
            yield _strictly(data, "utf-16-le" if odd > even else "utf-16-be")
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
    from charset_normalizer import from_bytes

    sample = data[:_SAMPLE]
    found = [
        (match.chaos, -match.coherence, name != "cp1252", name)
        for match in from_bytes(sample, cp_isolation=_LEGACY)
        for name in match.could_be_from_charset
    ]
    western = sum(byte >= 0x80 for byte in sample) * 3 < len(sample)
    if not found or (western and not any(coherence for _, coherence, _, _ in found)):
        return "cp1252"
    return min(found)[-1]


def _underlined(text: str) -> str:
    before = ""
    for line in text.splitlines()[:200]:
        if before and _RULE.fullmatch(line.rstrip()) and len(line.rstrip()) >= len(before):
            return one_line(before)
        before = "" if _RULE.fullmatch(line.rstrip()) else line.strip()
    return ""
