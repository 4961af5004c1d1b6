"""Find keys, tokens, passwords and private keys.

Keys are recognised by the prefixes and lengths that their issuers use, passwords by the word before them. No
rule goes by entropy, which takes words and digests for secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from workbench.privacy.shapes import Span


def in_tokens(text: str) -> Iterator[Span]:
    """Yield the keys and tokens of a text by the forms that their issuers use."""
    at = 0
    for word in [word for word in text.split() if len(word) >= _SHORTEST]:
        at = text.index(word, at)
        for match in _TOKEN.finditer(word):
            yield at + match.start(), at + match.end(), "secret"
        if text[max(0, at - 7) : at].strip().lower() in _SCHEMES and _OPAQUE.match(word):
            yield at, at + len(word), "secret"
        at += len(word)


def in_private_keys(text: str) -> Iterator[Span]:
    """Yield the private keys of a text from their first line to their last."""
    at = text.find(_BEGIN)
    while at >= 0:
        head = text.find("PRIVATE KEY", at, at + 64)
        end = at + len(_BEGIN)
        if head >= 0:
            foot = text.find(_END, head, head + _LONGEST_KEY)
            end = text.find("-----", foot + 9, foot + 73) + 5 if foot >= 0 else 0
            end = end if end > 5 else _BODY.match(text, head).end()  # type: ignore[union-attr]
            yield at, end, "secret"
        at = text.find(_BEGIN, end)


def in_assignments(text: str, lower: str) -> Iterator[Span]:
    """Yield the values that follow the names of passwords, keys and tokens, in a text and its lower case."""
    for stem in _STEMS:
        at = lower.find(stem)
        while at >= 0:
            match = _VALUE.match(text, at) or _SPOKEN.match(text, at)
            if match is not None and _is_secret(text[max(0, at - 20) : match.end("name")], match["value"]):
                yield *match.span("value"), "secret"
            at = lower.find(stem, at + len(stem))


def in_links(text: str) -> Iterator[Span]:
    """Yield the passwords of links such as `postgres://name:password@host`."""
    at = text.find("://")
    while at >= 0:
        match = _LINK.match(text, at)
        if match is not None and not _PLACEHOLDER.match(match["value"]):
            yield *match.span("value"), "secret"
        at = text.find("://", at + 3)


#: The fewest characters of a key without a name, and the most of a private key.
_SHORTEST, _LONGEST_KEY = 18, 20_000
_BEGIN: Final = "-----BEGIN"
_END: Final = "-----END"
_BODY: Final = re.compile(r"PRIVATE KEY[A-Z ]{0,10}-{0,5}[A-Za-z0-9+/=\s\\]{0,20000}")
_SCHEMES: Final = frozenset({"bearer", "basic", "token"})
_OPAQUE: Final = re.compile(r"(?=\S{0,199}\d)[\w.~+/-]{20}")
#: Prefixes and lengths of issuers' keys, bounded so that a text of any length is read in one pass.
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"sk-(?!ssh-|ecdsa-)(?=[\w-]{0,199}\d)[\w-]{20,200}"  # OpenAI, Anthropic, DeepSeek, OpenRouter and others
    r"|(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|gh[pousr]_\w{36,255}|github_pat_\w{22,255}"
    r"|gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent)-[\w-]{20,300}|GR1348941[\w-]{20,50}"
    r"|(?i:xox[abeoprs])-[\w-]{10,250}|xapp-\d-[\w-]{20,250}"
    r"|hf_[A-Za-z0-9]{30,40}|AIza[\w-]{35}|ya29\.[\w-]{20,500}|GOCSPX-[\w-]{20,40}"
    r"|gsk_[A-Za-z0-9]{40,60}|r8_[A-Za-z0-9]{37,40}|pplx-[A-Za-z0-9]{40,60}|xai-[A-Za-z0-9]{60,100}"
    r"|tgp_v1_[\w-]{30,60}|fw_[A-Za-z0-9]{22,40}|nvapi-[\w-]{40,100}|tvly-[\w-]{20,60}|lsv2_\w{2}_\w{30,60}"
    r"|co-[A-Za-z0-9]{36,44}(?![A-Za-z0-9])|vck_[A-Za-z0-9]{40,80}|pk-lf-[\w-]{30,40}"
    r"|(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,250}|whsec_[A-Za-z0-9+/=]{20,100}"
    r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|sq0(?:csp|atp)-[\w\\-]{20,50}|(?:AC|SK)[0-9a-f]{32}(?![0-9A-Za-z])"
    r"|pypi-[\w-]{50,400}|npm_[A-Za-z0-9]{36}|dckr_pat_[\w-]{20,40}|dop_v1_[0-9a-f]{64}|shpat_[0-9a-f]{32}"
    r"|[0-9a-z]{32}-us\d{1,2}(?!\w)|\d{8,10}:AA[\w-]{33}|[MNO][A-Za-z\d_-]{23,25}\.[\w-]{6}\.[\w-]{27,40}"
    r"|wbk_[a-z]{12}_[0-9a-f]{64}|wbo_[0-9a-f]{64}"  # keys of the workbench's own gateway
    r"|eyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000}"
    r"|hooks\.slack\.com/services/T\w{5,20}/B\w{5,20}/\w{10,40}"
    r"|AccountKey=[A-Za-z0-9+/]{80,90}={0,2}"
    r"|age-secret-key-1[a-z0-9]{50,60}|AGE-SECRET-KEY-1[A-Z0-9]{50,60}"
    r"|hvs\.[\w-]{20,200}|PMAK-[0-9a-f]{24}-[0-9a-f]{34}|ATATT3[\w-]{20,300}=?[0-9A-F]{0,8}"
    r")"
)
#: The words of which the names of secrets are made, in lower case.
_STEMS: Final = (
    "passw", "passphrase", "mot de passe", "kennwort", "contrasena", "wachtwoord", "senha", "haslo", "pwd",
    "secret", "token", "credential", "key", "pin",
)  # fmt: skip
_VALUE: Final = re.compile(
    r"(?P<name>[A-Za-z][\w-]{1,40}(?: de passe)?)(?:\\?[\"'])?\]?\s{0,9}"
    r"(?::\s{0,9}[\w.| ]{1,40}=|:=|=>|[:=])\s{0,9}[rbuRBU]{0,2}(?:\\?[\"'])?"
    r"(?P<value>[^\s\"'\\,;<>(){}\[\]]{4,200})"
)
_SPOKEN: Final = re.compile(
    r"(?P<name>[A-Za-z]{2,12}(?: de passe)?)\s(?i:is|ist|est|es|e|was"
    r"|lautet)\s[\"']?(?P<value>[^\s\"',;]{3,80}[^\s\"',;.!?])"
)
_LINK: Final = re.compile(r"://[^\s:/@{}<>$*\"']{0,64}:(?P<value>[^\s:/@{}<>$*\"']{1,128})@")
_PLACEHOLDER: Final = re.compile(
    r"[<{$%*]|[\W_xX]+$|[A-Z]+(?:_[A-Z0-9]+)+$"
    r"|(?i:your|change|todo|dummy|redacted|none$|null$|true$|false$|str$|string$)"
)
#: Names whose value is a password, which has any form.
_PASSWORD: Final = re.compile(r"(?i)pass|kennw|contras|wachtw|senha|haslo|pwd")
#: Names whose value is no secret: `token_count`, `key_file`.
_HARMLESS: Final = re.compile(
    r"(?i)[_-](?:ids?|names?|types?|files?|paths?|urls?|counts?|limits?)$|tokens$|keys$|tokeni[sz]"
)
#: Names before `key` that make its value a secret.
_KEY: Final = re.compile(r"(?i)(?:api|access|private|secret|account|auth|client|encryption|signing)[_ -]?key")


def _is_secret(name: str, value: str) -> bool:
    """Return whether a value is one: a password of any form, or a key with letters and digits."""
    if _PLACEHOLDER.match(value) or _HARMLESS.search(name):
        return False
    if _PASSWORD.search(name):
        return not value.replace(".", "").replace("_", "").isalpha()
    if name.lower().endswith("pin"):
        return value.isdigit() and not name[-4:-3].isalpha()
    if "key" in name.lower() and not _KEY.search(name):
        return False
    return len(value) >= 12 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
