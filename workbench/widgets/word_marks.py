"""Mark words of texts: those that only one of two texts has, and those that a search was for."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator

from workbench.widgets.cutting import LONGEST
from workbench.widgets.nodes import Mark, MarkedWords

#: Characters at the beginning of two texts that are compared; a person reads no more side by side.
COMPARED = 6_000
#: Words of a text above which frequent ones no longer anchor a comparison: its time would grow by the square.
_MOST_EXACT = 400
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
#: A word, a character of a script without spaces, or a sign; with the spaces after it.
_TOKEN = re.compile(rf"([{_UNSPACED}]|(?:(?![{_UNSPACED}])[\w\u0300-\u036f])+|[^\w\s])(\s*)")
#: Letters of a word that has no plural here, and of one that does not part two changes.
_PLURAL, _SLIGHT = 3, 3
#: Words of two texts, and the share of them in common, below which marks would cover nearly everything.
_FEW, _COMMON = 6, 0.2


def differing(before: str, after: str) -> tuple[MarkedWords, MarkedWords]:
    """Return two texts: words that only `before` has are `removed`, those that only `after` has `added`.

    The first `COMPARED` characters of each are compared; the rest has no marks. Neither have two texts of
    several words with hardly one in common: they are read, not compared.
    """
    ours, theirs = _tokens(before[:COMPARED]), _tokens(after[:COMPARED])
    exact = max(len(ours), len(theirs)) <= _MOST_EXACT
    matcher = difflib.SequenceMatcher(
        None, [word for word, _ in ours], [word for word, _ in theirs], autojunk=not exact
    )
    if min(len(ours), len(theirs)) >= _FEW and matcher.ratio() < _COMMON:
        return MarkedWords(parts=_merged([(before, "")])), MarkedWords(parts=_merged([(after, "")]))
    left: list[tuple[str, Mark]] = []
    right: list[tuple[str, Mark]] = []
    codes = matcher.get_opcodes()
    for place, (kind, i, j, k, m) in enumerate(codes):
        same = kind == "equal" and not (0 < place < len(codes) - 1 and _is_slight(ours[i:j]))
        left += _marked(ours[i:j], "" if same else "removed")
        right += _marked(theirs[k:m], "" if same else "added")
    left.append((before[COMPARED:], ""))
    right.append((after[COMPARED:], ""))
    return MarkedWords(parts=_merged(left)), MarkedWords(parts=_merged(right))


def matching(text: str, words: Collection[str], phrases: Iterable[str] = ()) -> MarkedWords:
    """Return a text in which `words` and `phrases` are marked, whatever their case; a plural matches too."""
    shown, wanted = text[:LONGEST], {stem(word) for word in words}
    tokens = _tokens(shown)
    stems = [stem(word) for word, _ in tokens]
    marked = {place for place, found in enumerate(stems) if found in wanted}
    for phrase in phrases:
        sought = [stem(word) for word, _ in _tokens(phrase) if word]
        marked.update(_places(stems, sought))
    parts: list[tuple[str, Mark]] = []
    for place, (word, spaces) in enumerate(tokens):
        parts += [(word, "match" if place in marked else ""), (spaces, "")]
    return MarkedWords(parts=_merged([*parts, (text[LONGEST:], "")]))


def stem(word: str) -> str:
    """Return a word for comparison: in lower case, without the `s` of a plural."""
    plain = word.casefold()
    return plain[:-1] if len(plain) > _PLURAL and plain.endswith("s") and not plain.endswith("ss") else plain


def _tokens(text: str) -> list[tuple[str, str]]:
    """Return words and signs, each with the spaces after it; together they are the text."""
    found = [(match[1], match[2]) for match in _TOKEN.finditer(text)]
    lead = text[: len(text) - len(text.lstrip())]
    return [("", lead), *found] if lead else found


def _places(stems: list[str], sought: list[str]) -> Iterator[int]:
    """Yield the places of the words `sought`, wherever they follow each other."""
    n = len(sought)
    if n:
        for start in range(len(stems) - n + 1):
            if stems[start] == sought[0] and stems[start : start + n] == sought:
                yield from range(start, start + n)


def _is_slight(tokens: list[tuple[str, str]]) -> bool:
    """Return whether tokens between two changes are one sign or a word like `of`."""
    return len(tokens) == 1 and len(tokens[0][0]) <= _SLIGHT and not tokens[0][0].isdigit()


def _marked(tokens: list[tuple[str, str]], mark: Mark) -> list[tuple[str, Mark]]:
    """Return tokens as one part with a mark, and the spaces after it without."""
    text = "".join(map("".join, tokens))
    return [(text.rstrip(), mark), (text[len(text.rstrip()) :], "")]


def _merged(parts: Iterable[tuple[str, Mark]]) -> tuple[tuple[str, Mark], ...]:
    """Return the parts, those with one mark as one part; spaces between two of them are in it."""
    known = [part for part in parts if part[0]]
    for place in range(1, len(known) - 1):
        text, mark = known[place]
        if not mark and text.isspace() and known[place - 1][1] == known[place + 1][1]:
            known[place] = (text, known[place - 1][1])
    grouped = itertools.groupby(known, key=lambda part: part[1])
    return tuple(("".join(text for text, _ in group), mark) for mark, group in grouped)
