"""Find e-mail addresses and the addresses of machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from workbench.privacy.shapes import Span


def in_mail(text: str, lower: str) -> Iterator[Span]:
    """Yield the e-mail addresses of a folded text, also those that spell their signs out."""
    for sign in _SIGNS:
        at = lower.find(sign)
        while at >= 0:
            upto = at + len(sign)
            local = _LOCAL.match(text[max(0, at - _MOST_LOCAL - 1) : at][::-1])
            domain = _DOMAIN.match(text, upto)
            if local is not None and domain is not None and (length := len(local[0].rstrip(_EDGES))):
                if not _is_other(text, at - length, at, domain[0]):
                    yield at - length, domain.end(), "email"
                upto = domain.end()
            at = lower.find(sign, upto)


def in_machines(text: str, shape: bytes) -> Iterator[Span]:
    """Yield the addresses of machines of a folded text and its shape."""
    for four in _FOUR.finditer(shape):
        yield from _checked(text, _IP4.search(text, max(0, four.start() - 2), four.end() + 3))
    at = 0
    while (begin := text.find(":", at)) >= 0:
        at = begin + 1
        if text[at : at + 1] == ":" or _SIX.match(text, at):
            match = _IP6.search(text, max(0, begin - 4), begin + 41)
            yield from _checked(text, match)
            at = max(at, match.end() if match else 0)


#: What stands between the parts of an address, in lower case.
_SIGNS: Final = ("@", "%40", "&#64;", " (at) ", " [at] ", "(at)", "[at]")
_MOST_LOCAL: Final = 64
#: Signs that may stand inside a local part, not at its ends.
_EDGES: Final = ".+%'-"
_LOCAL: Final = re.compile(r"[\w.+%'-]{1,64}")
_DOMAIN: Final = re.compile(
    r"(?:[\w-]{1,63}(?:\.| ?[\[(](?:dot|DOT)[\])] ?)){1,6}(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,40})(?![\w@])"
)
#: Endings of files, which are no domains: `icon@2x.png`.
_FILE: Final = re.compile(
    r"(?i)\.(?:css|csv|gif|html|ipynb|jpe?g|js|json|parquet|png|prompty|svg|txt|webp|ya?ml)$"
)
_FOUR: Final = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
_IP4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_SIX: Final = re.compile(r"[0-9A-Fa-f]{1,4}:")
_IP6: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION: Final = re.compile(r"(?i:version|release|v|section|chapter|build)[ .:]?$")


def _is_other(text: str, start: int, at: int, domain: str) -> bool:
    """Return whether a sign `@` is that of a link, of a repository of Git, or of a file's name."""
    return text[max(0, start - 3) : start] == "://" or text[start:at] == "git" or bool(_FILE.search(domain))


def _checked(text: str, match: re.Match[str] | None) -> Iterator[Span]:
    """Yield a machine's address unless it is this machine's, a mask, or the number of a version."""
    if match is None or match[0].startswith("255."):
        return
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return
    if address.is_loopback or address.is_unspecified:
        return
    if _VERSION.search(text[max(0, match.start() - 9) : match.start()]) is None:
        yield match.start(), match.end(), "ip"
