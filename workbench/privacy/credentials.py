"""Find keys, tokens, passwords and private keys.

Keys are recognised by the prefixes and lengths that their issuers use, passwords by the word before them. No
rule goes by entropy, which takes words and digests for secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int, str]


def in_credentials(text: str) -> Iterator[Span]:
    """Yield keys and tokens by their form, and private keys."""
    for match in _TOKEN.finditer(text):
        yield match.start(), match.end(), "secret"
    for match in _PRIVATE_KEY.finditer(text):
        yield match.start(), match.end(), "secret"


def in_assignments(text: str) -> Iterator[Span]:
    """Yield the values of passwords, keys and tokens after their name, and those inside an address."""
    for match in _NAMED.finditer(text):
        if _is_secret(match["name"], match["value"]):
            yield *match.span("value"), "secret"
    for match in _SPOKEN.finditer(text):
        if any(sign.isdigit() or not sign.isalnum() for sign in match["value"]):
            yield *match.span("value"), "secret"
    for match in _ADDRESS.finditer(text):
        if not _PLACEHOLDER.match(match["value"]):
            yield *match.span("value"), "secret"


#: Prefixes and lengths of issuers' keys, bounded so that a text of any length is read in one pass.
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"sk-(?!ssh-|ecdsa-)(?=[\w-]{0,199}\d)[\w-]{20,200}"  # OpenAI, Anthropic, DeepSeek, OpenRouter and others
    r"|(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}"
    r"|gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent)-[\w-]{20,300}|GR1348941[\w-]{20,50}"
    r"|xox[abeoprs]-[\w-]{10,250}|xapp-\d-[\w-]{20,250}"
    r"|hf_[A-Za-z0-9]{30,40}|AIza[\w-]{35}|ya29\.[\w-]{20,500}|GOCSPX-[\w-]{20,40}"
    r"|gsk_[A-Za-z0-9]{40,60}|r8_[A-Za-z0-9]{37,40}|pplx-[A-Za-z0-9]{40,60}|xai-[A-Za-z0-9]{60,100}"
    r"|tgp_v1_[\w-]{30,60}|fw_[A-Za-z0-9]{22,40}|nvapi-[\w-]{40,100}|tvly-[\w-]{20,60}|lsv2_\w{2}_\w{30,60}"
    r"|co-[A-Za-z0-9]{36,44}(?![A-Za-z0-9])|vck_[A-Za-z0-9]{40,80}|pk-lf-[\w-]{30,40}"
    r"|(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,250}|whsec_[A-Za-z0-9+/=]{20,100}"
    r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|sq0(?:csp|atp)-[\w-]{20,50}|(?:AC|SK)[0-9a-f]{32}(?![0-9A-Za-z])"
    r"|pypi-[\w-]{50,400}|npm_[A-Za-z0-9]{36}|dckr_pat_[\w-]{20,40}|dop_v1_[0-9a-f]{64}|shpat_[0-9a-f]{32}"
    r"|[0-9a-z]{32}-us\d{1,2}(?!\w)|\d{8,10}:AA[\w-]{33}|[MNO][A-Za-z\d_-]{23,25}\.[\w-]{6}\.[\w-]{27,40}"
    r"|eyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000}"
    r"|(?:Bearer|Basic)[ \t]{1,9}(?=[^\s\"']{0,199}\d)[\w.~+/-]{20,4000}={0,2}"
    r"|hooks\.slack\.com/services/T\w{5,20}/B\w{5,20}/\w{10,40}"
    r"|AccountKey=[A-Za-z0-9+/]{80,90}={0,2}"
    r"|age-secret-key-1[a-z0-9]{50,60}|AGE-SECRET-KEY-1[A-Z0-9]{50,60}"
    r"|hvs\.[\w-]{20,200}|PMAK-[0-9a-f]{24}-[0-9a-f]{34}|ATATT3[\w-]{20,300}=?[0-9A-F]{0,8}"
    r")"
)
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s\\:,.-]{0,20000}?"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|(?![A-Za-z0-9+/=\s\\:,.-]))"
    r"|-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s\\]{0,20000}"
)
_WORDS: Final = (
    r"password|passwd|passphrase|passwort|kennwort|contrasena|mot[ _]de[ _]passe|wachtwoord|senha|haslo"
    r"|pwd|secret|token"
    r"|credentials?|(?:api|access|private|secret|account|auth|client|encryption|signing)[_ -]?key"
)
_NAMED: Final = re.compile(
    rf"(?<![\w-])(?P<name>[\w-]{{0,60}}?(?i:{_WORDS})[\w-]{{0,20}})(?:\\?[\"'])?\]?\s{{0,9}}(?:[:=]|=>"
    rf"|:=)\s{{0,9}}"
    r"(?:[rbuRBU]{0,2}\\?[\"'](?P<quoted>))?(?P<value>[^\s\"'\\,;&<>(){}\[\]]{4,200})"
)
_SPOKEN: Final = re.compile(
    rf"(?i:\b(?:{_WORDS}|pin(?: code)?|cvv|cvc)\s(?:is|ist|est|es|e|was"
    rf"|lautet)\s(?:now\s)?)[\"']?(?P<value>[^\s\"',;]{{3,80}}[^\s\"',;.!?])"
)
_ADDRESS: Final = re.compile(
    r"(?<![\w+.-])[A-Za-z][\w+.-]{1,20}://[^\s:/@{}<>$*\"']{0,64}:(?P<value>[^\s:/@{}<>$*\"']{1,128})@"
)
_PLACEHOLDER: Final = re.compile(
    r"[<{$%*]|[\W_xX]+$|[A-Z]+(?:_[A-Z0-9]+)+$|(?i:your|change|todo|dummy|redacted|none$|null$|true$"
    r"|false$|str$|string$)"
)


def _is_secret(name: str, value: str) -> bool:
    """Return whether a value is one: a password of any form, or a key with letters and digits."""
    if _PLACEHOLDER.match(value) or re.search(r"(?i)_(?:id|name|type|file|path|url|count|limit)s?$", name):
        return False
    long = len(value) >= 12 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return bool(long) or (
        bool(re.search(r"(?i)pass|kennw|contras|pwd|senha|haslo|wachtw", name)) and not value.isalpha()
    )
