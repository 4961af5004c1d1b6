"""Read an access file: which groups see which documents, for documents without front matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.retrieval import patterns
from workbench.retrieval.front_matter import check_value

#: The keys of a rule, and the key of front matter that each one stands for.
_KEYS = {"groups": "access", "classification": "classification", "expires": "expires"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFile:
    """The rules of an access file, in its order; of two that match a document, the later counts."""

    where: str
    rules: Mapping[str, Mapping[str, Any]]

    def of(self, name: str) -> dict[str, Any]:
        """Return what the rules state for the file at a relative path, by keys of front matter."""
        stated: dict[str, Any] = {}
        for pattern, rule in self.rules.items():
            if _matches(pattern, name):
                stated |= rule
        return stated

    def check_used(self, names: Sequence[str]) -> None:
        """Raise ConfigError when a rule matches none of the documents, such as one with a misspelled name."""
        unused = [rule for rule in self.rules if not any(_matches(rule, name) for name in names)]
        if unused:
            raise ConfigError(
                f"{self.where}: {unused[0]!r} matches no document ({nearest(unused[0], names)})",
                hint="correct the pattern, or remove its rule",
            )

    def check_agrees(self, name: str, front: Mapping[str, Any], where: str) -> None:
        """Raise ConfigError when a document's own front matter states another value than its rule."""
        for key, value in self.of(name).items():
            if key in front and front[key] != value:
                raise ConfigError(
                    f"{where}: {key} is {front[key]!r} in its front matter and {value!r} in {self.where}",
                    hint="state it in one of the two",
                )


def read(path: Path) -> AccessFile:
    """Return the rules of a YAML mapping from patterns to groups, or to the keys of a rule.

    ConfigError names an invalid pattern, key or value.
    """
    rules = {pattern: _rule(pattern, raw, str(path)) for pattern, raw in files.read_yaml(path).items()}
    return AccessFile(where=str(path), rules=rules)


def _rule(pattern: Any, raw: Any, where: str) -> dict[str, Any]:
    place = f"{where}: {pattern!r}"
    if not isinstance(pattern, str) or not pattern.strip("/"):
        raise ConfigError(f"{place}: a pattern is a relative path, such as 'hr/**' or '*.pdf'")
    patterns.matches(pattern, "")
    rule = {"groups": raw} if isinstance(raw, list) else raw
    if not isinstance(rule, dict) or not rule:
        raise ConfigError(f"{place}: expected a list of groups, or keys of {', '.join(_KEYS)}")
    for key, value in rule.items():
        if key not in _KEYS:
            raise ConfigError(f"{place}: unknown key {key!r} ({nearest(str(key), _KEYS)})")
        check_value(_KEYS[key], value, where=place, name=key)
    return {_KEYS[key]: value for key, value in rule.items()}


def _matches(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a relative path; one without a folder matches at any depth."""
    return patterns.matches(pattern if "/" in pattern else f"**/{pattern}", name)
