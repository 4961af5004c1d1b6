"""Edit the text of params.yaml: insert a use case or a job, and take it out again, comments kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import config, files
from workbench.errors import ConfigError
from workbench.layout import PARAMS

#: A section without entries: `jobs:`, `jobs: {}`, `jobs: null`.
_EMPTY = re.compile(r"(?P<head>[\w\"']+\s*:)\s*(\{\s*\}|null|~)?\s*(?P<comment>#.*)?")
_TOP = re.compile(r"[^\s#]")
_MARK = re.compile(r"(---|\.\.\.)(\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One entry of a section of params.yaml, as text that is indented by two spaces."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    section: str
    name: str
    text: str


def inserted(text: str, blocks: list[Block]) -> str:
    """Return the text of params.yaml with each block at the end of its section.

    Raise ConfigError when the text is not in the form of blocks, or when the parsed result is not the old
    content with these entries added.
    """
    changed = text
    for block in blocks:
        changed = _inserted(changed, block)
    _check_added(text, changed, blocks)
    return changed


def removed(text: str, blocks: list[Block]) -> str:
    """Return the text of params.yaml without these blocks; ConfigError when one was changed or is missing."""
    changed = text
    for block in blocks:
        lines = _lines(changed)
        start, end = _entry(lines, block)
        if _plain(lines[start:end]) != _plain(_lines(_indented(block, _indent_of(lines, block.section)))):
            raise ConfigError(
                f"{PARAMS}: {block.section}.{block.name} was changed after `workbench init`",
                hint=f"workbench init {block.name} --undo --force   # removes it with the changes",
            )
        changed = _without(lines, start, end, block.section)
    return changed


def has(text: str, blocks: Sequence[Block]) -> bool:
    """Return whether the text of params.yaml has an entry of one of these names, whatever it holds."""
    raw = _raw(text)
    return any(block.name in (raw.get(block.section) or {}) for block in blocks)


def cut(text: str, blocks: list[Block]) -> str:
    """Return the text of params.yaml without these entries, whatever they hold now."""
    changed = text
    for block in blocks:
        lines = _lines(changed)
        if block.name in (_raw(changed).get(block.section) or {}):
            changed = _without(lines, *_entry(lines, block), block.section)
    return changed


def _without(lines: list[str], start: int, end: int, section: str) -> str:
    """Return the lines without an entry and the empty line before it.

    A section that has no entry left is empty, or in the case of `jobs` removed, because it may be missing.
    """
    if start and not lines[start - 1].strip():
        start -= 1
    left = [*lines[:start], *lines[end:]]
    place = _section(left, section)
    if place is not None and not _entries(left[place[0] + 1 : place[1]]):
        head = left[place[0]]
        if section == "jobs" and place[1] == place[0] + 1:
            blank = place[0] > 0 and not left[place[0] - 1].strip()
            left[place[0] - blank : place[1]] = []
        else:
            left[place[0]] = head.replace(":", ": {}", 1)
    return "".join(left)


def _entries(lines: list[str]) -> list[str]:
    """Return the lines of a section that are neither empty nor comments."""
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _inserted(text: str, block: Block) -> str:
    lines = _lines(text)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += newline
    place = _section(lines, block.section)
    if place is None:
        lines += [newline] * bool(lines) + [f"{block.section}:{newline}"]
        place = (len(lines) - 1, len(lines))
    start, end = place
    if found := _EMPTY.fullmatch(lines[start].rstrip("\r\n")):
        lines[start] = f"{found['head']}{'  ' + found['comment'] if found['comment'] else ''}{newline}"
    else:
        raise ConfigError(
            f"{PARAMS}:{start + 1}: {block.section} stands on one line, so no entry can be added below it",
            hint=f"write each entry of {block.section} on lines of its own, as docs/params.md shows",
        )
    new = _lines(_indented(block, _indent_of(lines, block.section)))
    made = [newline] * bool(_entries(lines[start + 1 : end])) + [
        line.rstrip("\r\n") + newline for line in new
    ]
    return "".join([*lines[:end], *made, *lines[end:]])


def _section(lines: list[str], section: str) -> tuple[int, int] | None:
    """Return the first line of a section and the line after its last entry or comment; None without it."""
    head = re.compile(rf"""["']?{re.escape(section)}["']?\s*:""")
    start = next((n for n, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        return None
    rest = range(start + 1, len(lines))
    stop = next((n for n in rest if _TOP.match(lines[n]) or _MARK.match(lines[n])), len(lines))
    while stop > start + 1 and not lines[stop - 1].startswith((" ", "\t")):
        stop -= 1  # empty lines, and comments of the next section
    while stop > start + 1 and not lines[stop - 1].strip():
        stop -= 1
    return start, stop


def _entry(lines: list[str], block: Block) -> tuple[int, int]:
    """Return the first line of an entry of a section and the line after its last."""
    place = _section(lines, block.section)
    indent = " " * _indent_of(lines, block.section)
    if place is not None:
        head = re.compile(rf"""{indent}["']?{re.escape(block.name)}["']?\s*:""")
        start = next((n for n in range(place[0] + 1, place[1]) if head.match(lines[n])), None)
        if start is not None:
            rest = range(start + 1, place[1])
            inside = re.compile(rf"\s*$|{indent}\s")
            end = next((n for n in rest if not inside.match(lines[n])), place[1])
            while not lines[end - 1].strip():
                end -= 1
            return start, end
    raise ConfigError(
        f"{PARAMS} has no {block.section}.{block.name} in the form that `workbench init` wrote",
        hint=f"remove it from {PARAMS} by hand, then: workbench check",
    )


def _indent_of(lines: list[str], section: str) -> int:
    """Return the indentation of a section's entries; 2 without an entry."""
    place = _section(lines, section)
    entries = _entries(lines[place[0] + 1 : place[1]]) if place else []
    return len(entries[0]) - len(entries[0].lstrip()) if entries else 2


def _indented(block: Block, indent: int) -> str:
    more = " " * (indent - 2)
    return "".join(more + line if line.strip() else line for line in _lines(block.text))


def _plain(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines]


def _lines(text: str) -> list[str]:
    """Return the lines of a text with their ends; a line ends with LF alone, as in YAML."""
    *whole, rest = text.split("\n")
    return [f"{line}\n" for line in whole] + [rest] * bool(rest)


def _check_added(before: str, after: str, blocks: list[Block]) -> None:
    """Raise ConfigError unless the parsed text is the former one with the blocks added."""
    old, new = _raw(before), _raw(after)
    expected: dict[str, Any] = {key: value for key, value in old.items() if value is not None}
    for block in blocks:
        parsed = files.parse_yaml(block.text, where=f"{PARAMS}: the new {block.section}.{block.name}")
        expected[block.section] = {**(expected.get(block.section) or {}), **parsed}
    if {key: value for key, value in new.items() if value is not None} != expected:
        names = ", ".join(f"{block.section}.{block.name}" for block in blocks)
        raise ConfigError(
            f"{PARAMS}: {names} cannot be inserted without changing other keys",
            hint="indent every entry of a section alike, without anchors that end in another section",
        )


def _raw(text: str) -> Mapping[str, Any]:
    return files.parse_yaml(text, where=str(PARAMS), hint=config.MALFORMED) if text.strip() else {}
