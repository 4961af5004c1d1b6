"""Find what an answer would carry out: data in links, canaries, the names of other tenants."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

from workbench.moderation.exchange import CheckResult, Exchange
from workbench.moderation.folding import encoded_texts, folded

#: The word by which the canaries of prompts and memories are known: `canary-` and 8 or more signs.
_CANARY: Final = re.compile(r"\bcanary-[0-9a-z]{8,64}\b", re.IGNORECASE)
#: A pseudonym, which the caller's answer has as the value that it stands for.
_NAMED: Final = r"<[A-Z][A-Z_]{0,62}_[0-9]{1,9}>"
_PSEUDONYM: Final = re.compile(_NAMED, re.IGNORECASE)
_LINK: Final = re.compile(
    r"(?P<image>!\[[^\]\n]{0,300}\]\(\s{0,5}<?|<img\b[^>]{0,300}?\bsrc\s{0,3}=\s{0,3}[\"']?)?"
    rf"(?P<url>(?:https?:|ftp:|wss?:)?//(?P<host>(?:[^\s/?#\"'<>()\[\]\\]|{_NAMED}){{1,255}})"
    rf"(?P<rest>(?:[^\s\"'<>\]\\]|{_NAMED}){{0,8192}}))",
    re.IGNORECASE,
)
#: A run that encodes something: hexadecimal, Base64 or percent signs, with no word in it.
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/_=-]{24,}|(?:%[0-9A-Fa-f]{2}){6,}")
_WORD: Final = re.compile(r"\w+")
#: Consecutive words of the request in a link, and characters of a query, that are too many.
_WORDS, _QUERY = 3, 80
_SHORTEST_TENANT: Final = 4
#: Scores of what was found.
_SURE, _LIKELY = 1.0, 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Exfiltration:
    """Fires on a link that carries data to another host than `allow`, on a canary, on another tenant's name.

    A link that stands in the request as it is carries nothing. A pseudonym in a link is data, because the
    caller gets its value, and so is what `identifies` finds in the query. `canaries` are further texts that
    may not leave. The name of a tenant counts from 4 letters on, unless the user wrote it.
    """

    allow: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()
    identifies: Callable[[str], bool] | None = field(default=None, repr=False, compare=False)

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:
        """Return the score and the ranges of the links, canaries and names, or None."""
        found = [*self._links(text, exchange), *self._canaries(text, exchange), *_tenants(text, exchange)]
        if not found:
            return None
        return CheckResult(score=max(score for score, _ in found), spans=tuple(span for _, span in found))

    def _links(self, text: str, exchange: Exchange) -> Iterator[tuple[float, tuple[int, int]]]:
        if "//" not in text:
            return
        asked = "\n".join(piece.text for piece in exchange.pieces)
        words: str | None = None
        for link in _LINK.finditer(text):
            url = link["url"].rstrip(").,;:!*_`")
            if _is_of(link["host"], self.allow) or url in asked:
                continue
            if words is None:
                words = _in_words(asked)
            if (score := self._carried(link, url, words)) > 0:
                end = link.start("url") + len(url)
                closed = link["image"] and text[end : end + 1] == ")"
                yield score, (link.start(), end + bool(closed))

    def _carried(self, link: re.Match[str], url: str, words: str) -> float:
        """Return how surely a link carries data of the request: 0 for one that does not."""
        rest = url[link.end("host") - link.start("url") :]
        query = rest.partition("?")[2] + rest.partition("#")[2]
        sent = unquote_plus(f"{link['host']} {rest}")
        if _PSEUDONYM.search(html.unescape(sent)) or _repeats(link["host"], rest, words):
            return _SURE
        encoded = any(_looks_encoded(found[0]) for found in _ENCODED.finditer(f"{link['host']} {rest}"))
        if encoded or len(query) >= _QUERY or (query and link["image"]):
            return _LIKELY
        return _LIKELY if query and self.identifies and self.identifies(unquote_plus(query)) else 0.0

    def _canaries(self, text: str, exchange: Exchange) -> Iterator[tuple[float, tuple[int, int]]]:
        known = {
            found[0]
            for each in exchange.texts("system", "passage", "tool")
            for found in _CANARY.finditer(each)
        }
        known |= set(self.canaries)
        if not known:
            return
        plain = folded(text)
        hidden = [(folded(decoded).text, span) for decoded, span in encoded_texts(text)]
        for canary in known:
            wanted = folded(canary).text
            at = plain.text.find(wanted)
            if at >= 0:
                yield _SURE, plain.span(at, at + len(wanted))
            elif re.sub(r"\W", "", wanted) in re.sub(r"[\W_]", "", plain.text) or wanted[::-1] in plain.text:
                yield _SURE, (0, len(text))
            for decoded, span in hidden:
                if wanted in decoded:
                    yield _SURE, span


def _tenants(text: str, exchange: Exchange) -> Iterator[tuple[float, tuple[int, int]]]:
    others = [name for name in exchange.tenants if name != exchange.tenant and len(name) >= _SHORTEST_TENANT]
    if not others:
        return
    plain, asked = folded(text), folded("\n".join(exchange.texts("user", "system"))).text
    for name in others:
        form = _form_of(name)
        if form.search(asked) is None:
            for found in form.finditer(plain.text):
                yield _LIKELY, plain.span(*found.span())


@functools.lru_cache(maxsize=1_024)
def _form_of(tenant: str) -> re.Pattern[str]:
    """Return what finds the name of a tenant, also with spaces between its parts."""
    parts = "[-_ ]?".join(map(re.escape, re.split("[-_]", tenant)))
    return re.compile(rf"(?<!\w){parts}(?!\w)")


def _is_of(host: str, allowed: Sequence[str]) -> bool:
    """Return whether a host, with or without user and port, is an allowed one or below it."""
    name = host.rpartition("@")[2].partition(":")[0].lower().rstrip(".")
    return any(name == each.lower() or name.endswith(f".{each.lower()}") for each in allowed)


def _repeats(host: str, rest: str, words: str) -> bool:
    """Return whether a link has consecutive words of the request."""
    sent = unquote_plus(f"{host.rpartition('.')[0]} {rest}")
    sent = " ".join([sent, *(decoded for decoded, _ in encoded_texts(f"{rest} {sent}".replace("/", " ")))])
    told = _WORD.findall(folded(sent.replace("_", " ").replace("-", " ")).text)
    runs = (" ".join(told[at : at + _WORDS]) for at in range(len(told) - _WORDS + 1))
    return any(f" {run} " in words for run in runs if len(run) >= 3 * _WORDS)


def _looks_encoded(run: str) -> bool:
    """Return whether a run of letters and digits is no words: hexadecimal, or mixed as Base64 is."""
    if run.startswith("%"):
        return True
    longest = max(re.split(r"[/_-]", run), key=len)
    if len(longest) < 24:
        return False
    kinds = [re.search(form, longest) is not None for form in ("[a-z]", "[A-Z]", "[0-9]")]
    return sum(kinds) >= 2


def _in_words(text: str) -> str:
    """Return the words of a text, folded, with single spaces, also around."""
    return f" {' '.join(_WORD.findall(folded(text.replace('_', ' ')).text))} "
