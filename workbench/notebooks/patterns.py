"""Patterns for secrets, personal data and local paths in the lines of a frozen notebook.

A match refuses a promotion, so each pattern is narrow and prefers a miss to a false alarm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

#: The line number, counted from 1, the description of the match, and its fix.
Found = tuple[int, str, str]
#: The description, the fix, the regular expression, and a predicate that confirms a match.
_Pattern = tuple[str, str, re.Pattern[str], Callable[[re.Match[str]], bool]]


def in_text(lines: Iterable[str]) -> Iterator[Found]:
    """Yield the matches in each of the lines, without their values."""
    for number, line in enumerate(lines, start=1):
        for what, fix, pattern, holds in _PATTERNS:
            if any(holds(match) for match in pattern.finditer(line)):
                yield number, what, fix


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(doubled) + sum(int(d) for d in digits[::-2])) % 10 == 0


#: Lengths and first digits that issuers use. Longer numbers count only in groups of four, as printed
#: on a card: 19 digits in a row are a 64-bit number.
_ISSUED: Final = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"
)
_GROUPED: Final = re.compile(
    r"\d{14,16}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5}"
)


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"[ -]", "", match[0])
    return bool(_GROUPED.fullmatch(match[0]) and _ISSUED.fullmatch(digits)) and _luhn(digits)


_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}


def _is_iban(match: re.Match[str]) -> bool:
    written = match[0].replace(" ", "")
    length = _IBAN_LENGTHS.get(written[:2], len(written) + 1)
    if len(written) < length or (len(written) > length and " " not in match[0]):
        return False
    number = written[4:length] + written[:4]
    return int("".join(str(int(sign, 36)) for sign in number)) % 97 == 1


_FILE: Final = re.compile(r"css|csv|gif|html|ipynb|jpg|js|json|parquet|png|prompty|svg|txt|webp|ya?ml")


def _is_personal(match: re.Match[str]) -> bool:
    """Whether an address is a person's: no reserved domain, no `icon@2x.png`, no `git@host`."""
    labels = match["domain"].lower().split(".")
    reserved = "example" in labels or labels[-1] in {"invalid", "test", "localhost"}
    return not (reserved or _FILE.fullmatch(labels[-1]) or match["local"] == "git")


def _is_phone(match: re.Match[str]) -> bool:
    number = match[0].partition("  ")[0]  # two spaces: the next column
    groups = re.findall(r"\d+", number)
    digits = sum(map(len, groups))
    if re.search(r"\d{4}-\d\d-\d\d", number) or not all(len(g) > 1 or g == "0" for g in groups[1:]):
        return False
    return 9 <= digits <= 15 if len(groups) > 1 else 11 <= digits <= 14


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
        "an e-mail address",
        _SYNTHETIC,
        r"(?<![\w.+%-])(?P<local>[A-Za-z0-9][\w.+%-]{0,63})@",
        r"(?P<domain>(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?![\w@-]|\.\w)",
        holds=_is_personal,
    ),
    _pattern(
        "an IBAN", _SYNTHETIC, r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![a-z])", holds=_is_iban
    ),
    _pattern(
        "a payment card's number",
        _SYNTHETIC,
        r"(?<![\w.,+/-])(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d| \d)",
        holds=_is_card,
    ),
    _pattern(
        "a telephone number",
        _SYNTHETIC,
        r"(?<![\w+.-])\+(?:1(?=\D?\D?[2-9])|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]",
        r"|(?:2[1-69]|3[578]|42|5[09]|6[78]|8[0578]|9[679])\d)[\d ()/-]{6,20}(?<=\d)(?![\w.,]?\d)",
        holds=_is_phone,
    ),
    _pattern(
        "a path of one machine",
        _RELATIVE,
        r"(?<![\w./~}\])<+*-])(?:file://)?/(?:(?:home|Users)/[\w.-]|(?:root|work|tmp|mnt|workspaces?",
        r"|Volumes|private/(?:tmp|var)|var/(?:folders|tmp))(?![\w-]))",
        r"|(?<!\w)[A-Za-z]:[\\/]{1,2}(?:Users|Windows|ProgramData|Temp)(?!\w)",
    ),
)
