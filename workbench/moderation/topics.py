"""Find topics: words and patterns that a file or params.yaml lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]  # Python has no other reader of patterns
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError
from workbench.moderation.exchange import CheckResult, Exchange
from workbench.moderation.folding import disguised, folded

#: The folder of topic lists, relative to the repository.
FOLDER: Final = "pipelines/moderation"
#: Bytes of a list, lines of it and characters of a line.
_MOST_BYTES, _MOST_LINES, _MOST_LINE = 1_000_000, 5_000, 500
#: Ways in which a pattern may match from one place; each is a step for every character of a text.
_MOST_WAYS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Fires on a text with one of the words or patterns; the score is the number of different ones.

    Words are matched whole, without case and accents, also with spaced letters, digits for letters and in
    Base64; spaces, hyphens or underscores may join their parts. Patterns are matched on the folded text.
    """

    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    _forms: tuple[re.Pattern[str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made = [re.compile(pattern) for pattern in self.patterns]
        if self.words:
            plain = sorted({folded(word).text for word in self.words}, key=len, reverse=True)
            choice = "|".join(re.escape(word).replace(r"\ ", r"[\s_-]+") for word in plain)
            made.append(re.compile(rf"(?<!\w)(?:{choice})(?!\w)"))
        object.__setattr__(self, "_forms", tuple(made))

    def __call__(self, text: str, exchange: Exchange) -> CheckResult | None:  # noqa: ARG002 - as every check
        """Return the number of different matches and their ranges, or None."""
        plain = folded(text)
        found = [(match[0], plain.span(*match.span())) for match in self._matches(plain.text)]
        for hidden, span in disguised(text, plain):
            found += [(match[0], span) for match in self._matches(hidden) if match[0] not in plain.text]
        if not found:
            return None
        return CheckResult(
            score=float(len({word for word, _ in found})), spans=tuple(span for _, span in found)
        )

    def _matches(self, text: str) -> list[re.Match[str]]:
        return [match for form in self._forms for match in form.finditer(text) if match[0]]


def read_topics(path: Path, *, where: str) -> Topics:
    """Return the topics of a file: words or a pattern between slashes on each line; `#` begins a comment.

    Raise ConfigError with the line for a pattern that is none, or that could take long.
    """
    text = files.read_text(path, limit=_MOST_BYTES, hint=f"write one word a line into {path.name}")
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        raise ConfigError(
            f"{where}: {path} has more than {_MOST_LINES:,} lines", hint="write patterns for them"
        )
    return topics_of(
        ((f"{where}: {path}, line {n}", line) for n, line in enumerate(lines, start=1)),
        where=f"{where}: {path}",
    )


def topics_of(lines: Iterable[tuple[str, str]], *, where: str = "topics") -> Topics:
    """Return the topics of lines, each with its place; raise ConfigError for a wrong one, and for none."""
    words, patterns = [], []
    for place, raw in lines:
        line = raw.partition(" #")[0].strip() if not raw.startswith("/") else raw.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > _MOST_LINE:
            raise ConfigError(f"{place}: longer than {_MOST_LINE} characters", hint="write several lines")
        if len(line) > 1 and line.startswith("/") and line.endswith("/"):
            patterns.append(checked_pattern(line[1:-1], where=place))
        else:
            words.append(line)
    if not words and not patterns:
        raise ConfigError(
            f"{where}: no words and no patterns", hint="write one word a line, or remove the check"
        )
    return Topics(words=tuple(words), patterns=tuple(patterns))


def checked_pattern(pattern: str, *, where: str) -> str:
    """Return a pattern; raise ConfigError for one that is none or whose matching is not bounded."""
    try:
        re.compile(pattern)
        ways = _ways(parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{where}: /{files.shortened(pattern)}/ is not a pattern: {error}",
            hint="docs.python.org/3/library/re.html has the form",
        ) from None
    if ways > _MOST_WAYS:
        raise ConfigError(
            f"{where}: /{files.shortened(pattern)}/ may try more than {_MOST_WAYS} ways at a place of a text",
            hint=r"write a bound, such as \w{0,40} in place of \w*, and no repetition inside of another",
        )
    return pattern


def _ways(parsed: Any) -> float:
    """Return in how many ways a parsed pattern may match from one place, infinite without a bound."""
    ways = 1.0
    for operation, argument in parsed:
        ways *= _ways_of(str(operation), argument)
        if ways > _MOST_WAYS:
            return float("inf")
    return ways


def _ways_of(operation: str, argument: Any) -> float:
    if operation in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        least, most, inner = argument
        if int(most) > _MOST_WAYS:
            return float("inf")
        once, times = _ways(inner), float(int(most) - int(least) + 1)
        return times if once == 1 else times * once ** min(int(most), _MOST_WAYS.bit_length())
    if operation == "BRANCH":
        return float(sum(_ways(branch) for branch in argument[1]))
    if operation in {"SUBPATTERN", "ASSERT", "ASSERT_NOT", "ATOMIC_GROUP"}:
        return _ways(argument if operation == "ATOMIC_GROUP" else argument[-1])
    return float("inf") if operation in {"GROUPREF", "GROUPREF_EXISTS"} else 1.0
