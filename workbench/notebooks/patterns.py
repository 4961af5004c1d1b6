"""Patterns for secrets, personal data and local paths in the lines of a frozen notebook.

A match refuses a promotion, so each pattern is narrow and prefers a miss to a false alarm. Personal data is
what the detector of `workbench.privacy` finds, except names, addresses and what a sample may hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from workbench.ports.privacy import Detection
from workbench.privacy import PatternDetector

#: The line number, counted from 1, the description of the match, and its fix.
Found = tuple[int, str, str]
#: The description, the fix, the regular expression, and a predicate that confirms a match.
_Pattern = tuple[str, str, re.Pattern[str], Callable[[re.Match[str]], bool]]


def in_text(lines: Iterable[str]) -> Iterator[Found]:
    """Yield the matches in each of the lines, without their values."""
    for number, line in enumerate(lines, start=1):
        secret = False
        for what, fix, pattern, holds in _PATTERNS:
            if any(holds(match) for match in pattern.finditer(line)):
                secret = secret or fix is _REVOKE
                yield number, what, fix
        found = {each.kind for each in _DETECTOR.find(line) if _is_narrow(line, each)}
        for kind, (what, fix) in _KINDS.items():
            if kind in found and not (secret and kind == "secret"):
                yield number, what, fix


def _is_narrow(line: str, found: Detection) -> bool:
    """Return whether a finding is sure enough to refuse a promotion, and no sample."""
    value, before = line[found.start : found.end], line[: found.start][-1:]
    if found.kind == "email":
        labels = value.rpartition("@")[2].lower().split(".")
        return "@" in value and "example" not in labels and labels[-1] not in _RESERVED
    if found.kind == "phone":
        return value.startswith("+")
    if found.kind in {"national_id", "tax_number"}:
        return any(not sign.isdigit() for sign in value)
    return found.kind != "card" or before not in {"+", "-"}


def _is_secret(match: re.Match[str]) -> bool:
    """Whether a value is real: a password of any form, or a long key with letters and digits."""
    value = match["value"]
    if re.match(r"[<{$%]|[\W_xX]+$|[A-Z]+(?:_[A-Z0-9]+)+$|(?i:your|change|todo|dummy|redacted)", value):
        return False
    long = len(value) >= 12 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return bool(long) or "pass" in match["name"].lower()


_REVOKE: Final = "take it out and revoke it; a model card's `api_key` names the variable that holds a key"
_SYNTHETIC: Final = "take it out; for a sample use a made-up one, such as ada@example.org"
_RELATIVE: Final = "name it relative to the repository, or make it a parameter"


_DETECTOR: Final = PatternDetector()
#: The kinds of the detector that refuse a promotion, each with its description and its fix.
_KINDS: Final = {
    "email": ("an e-mail address", _SYNTHETIC),
    "iban": ("an IBAN", _SYNTHETIC),
    "card": ("a payment card's number", _SYNTHETIC),
    "phone": ("a telephone number", _SYNTHETIC),
    "national_id": ("an identity number", _SYNTHETIC),
    "tax_number": ("a tax number", _SYNTHETIC),
    "secret": ("a password, key or token", _REVOKE),
}
#: Domains of the top level that no address has.
_RESERVED: Final = frozenset({"invalid", "test", "localhost"})


def _pattern(what: str, fix: str, *parts: str, holds: Callable[[re.Match[str]], bool] = bool) -> _Pattern:
    return what, fix, re.compile("".join(parts)), holds


#: The patterns of a line, separate from the tape's: promotion does not import the controls, and
#: recordings are searched for keys only. Repetitions are bounded, because an output's line may be
#: megabytes long.
_PATTERNS: Final = (
    _pattern("an AWS access key", _REVOKE, r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _pattern("a GitHub token", _REVOKE, r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})"),
    _pattern("a model provider's key", _REVOKE, r"(?<![\w-])sk-(?!ssh-|ecdsa-)(?=[\w-]{0,99}\d)[\w-]{20}"),
    _pattern("a provider's token", _REVOKE, r"\b(?:hf_[A-Za-z0-9]{34}|AIza[\w-]{35}|xox[abprs]-[\w-]{20})"),
    _pattern("a JSON web token", _REVOKE, r"\beyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8}"),
    _pattern("a private key", _REVOKE, r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY"),
    _pattern("a bearer token", _REVOKE, r"\bBearer\s{1,9}(?=\S{0,99}\d)[\w.~+/-]{20}"),
    _pattern(
        "a password in an address",
        _REVOKE,
        r"(?<![\w+.-])[A-Za-z][\w+.-]{1,20}://[^\s:/@{}<>$*]{0,64}:[^\s:/@{}<>$*]{1,64}@",
    ),
    _pattern(
        "a password, key or token written out",
        _REVOKE,
        r"(?<![\w-])(?P<name>[\w-]{0,60}(?i:password|passwd|passphrase|secret|token|credentials?",
        r"|(?:api|access|private|secret|account)[_-]?key))[\"']?\]?\s{0,9}(?::\s{0,9}[\w.| ]{1,40})?",
        r"[:=]\s{0,9}[rbuRBU]{0,2}[\"'](?P<value>[^\"'\s]{4,200})[\"']",
        holds=_is_secret,
    ),
    _pattern(
        "a path of one machine",
        _RELATIVE,
        r"(?<![\w./~}\])<+*-])(?:file://)?/(?:(?:home|Users)/[\w.-]|(?:root|work|tmp|mnt|workspaces?",
        r"|Volumes|private/(?:tmp|var)|var/(?:folders|tmp))(?![\w-]))",
        r"|(?<!\w)[A-Za-z]:[\\/]{1,2}(?:Users|Windows|ProgramData|Temp)(?!\w)",
    ),
)
