"""Name pages after their files: small letters and digits of any script, joined by hyphens."""

from __future__ import annotations

import functools
import re
import unicodedata

#: Stands between the name of a file and the number of its page, as in a PDF's address.
PAGE = "#page="


@functools.lru_cache(maxsize=50_000)
def slug(path: str) -> str:
    """Return the name of the page in the file at a relative path.

    The file `Über uns/Plan 1.PDF` has the page `über-uns/plan-1.pdf`. A name of only other signs, such as
    an emoji, becomes their code points.
    """
    return "/".join(map(_part, path.split("/")))


def file_of(source: str) -> str:
    """Return the name of the file that a page is from, without the number of the page."""
    return source.partition(PAGE)[0]


def _part(name: str) -> str:
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())  # "‥" becomes ".."
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    kept = re.sub("-{2,}", "-", "".join(_signs(stem))).strip("-.")
    return (kept or "-".join(f"u{ord(sign):x}" for sign in stem)) + dot + "".join(_signs(ending))


def _signs(text: str) -> list[str]:
    """Return the text's characters, each that is no letter, digit, `.`, `-` or `_` as a hyphen."""
    signs: list[str] = []
    for sign in text:
        kind = unicodedata.category(sign)[0]
        mark = kind == "M" and bool(signs) and signs[-1] != "-"  # a vowel of its letter
        signs.append(sign if kind in {"L", "N"} or mark or sign in "._-" else "-")
    return signs
