"""Fence untrusted text: marks around it whose boundary the text cannot contain."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

#: Hexadecimal digits of a boundary.
_DIGITS: Final = 16
_OPEN: Final = re.compile(rf"<untrusted ([0-9a-f]{{{_DIGITS}}})(?: [^<>\n]{{1,300}})?>\n")
#: What a reader could take for a mark, with the look-alikes of `<` and with spaces.
_LIKE: Final = re.compile("([<\uff1c\u2039\u3008\ufe64])(?=[ \t]{0,8}/?[ \t]{0,8}untrusted)", re.IGNORECASE)
#: U+2060, the word joiner: invisible, and no reader takes a mark across it for a mark.
_JOINER: Final = "\u2060"
#: What a title may not hold: the ends of a mark and of a line.
_TITLE: Final = re.compile(r"[<>\s]+")
_MOST_TITLE: Final = 200


def fence(texts: Sequence[str], titles: Sequence[str] = ()) -> str:
    """Return the texts, each between an opening and a closing mark with one boundary for all of them.

    The boundary is made of the digest of the texts, so that the same texts give the same result. None of the
    texts contains it. What looks like a mark inside of a text gets a word joiner (U+2060) after its `<`.
    `titles` stand in the opening marks, in the order of the texts.
    """
    inner = [_LIKE.sub(lambda found: found[0] + _JOINER, text) for text in texts]
    named = [_TITLE.sub(" ", title).strip()[:_MOST_TITLE].strip() for title in titles]
    named += [""] * (len(inner) - len(named))
    boundary = _boundary([*inner, *named])
    return "\n\n".join(
        f"<untrusted {boundary}{f' {title}' if title else ''}>\n{text}\n</untrusted {boundary}>"
        for text, title in zip(inner, named, strict=True)
    )


def fenced_parts(text: str) -> list[tuple[int, int]]:
    """Return the half-open ranges of what is fenced in a text.

    An opening mark without its closing one fences the rest.
    """
    found, at = [], 0
    while (opened := _OPEN.search(text, at)) is not None:
        end = text.find(f"\n</untrusted {opened[1]}>", opened.end() - 1)
        end = len(text) if end < 0 else max(end, opened.end())
        found.append((opened.end(), end))
        at = end
    return found


def _boundary(texts: Sequence[str]) -> str:
    """Return hexadecimal digits that are in none of the texts; the digest of the texts decides which."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    while True:
        boundary = digest.hexdigest()[:_DIGITS]
        if not any(boundary in text.lower() for text in texts):
            return boundary
        digest.update(b"again")
