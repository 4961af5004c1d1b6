"""The store of sealed content: files by the day on which they expire, and entries encrypted one by one.

A line of EXPIRES.jsonl is one entry: what is known without a key, and the encrypted request and answer. Its
id begins with the day, so that it is found in one file; to remove what is expired is to remove whole files.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import files
from workbench.content.keys import ContentKeys, SubjectKey
from workbench.errors import CorruptError, NotFoundError
from workbench.records.log import Lines

_ID = re.compile(r"(\d{8})-[0-9a-f]{16}")
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
#: Most bytes of a line that is read, and files that stay open for writing.
_MOST_LINE, _MOST_OPEN = 1 << 28, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentEntry:
    """What is known of sealed content without its key. `at` is a UTC time, and `expires` a day.

    `of` is the id of the content that an opening is of, and "" for content.
    """

    id: str
    at: str
    expires: str
    use_case: str
    tenant: str
    trace_id: str
    data_class: str
    subject_uid: str
    key: str
    of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One opening of content: who opened it, when, and the reason that was stated."""

    at: str
    principal: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedContent:
    """Opened content: who asked, the operation, the request as it was asked, and the answer.

    The answer is None for a call that had none. `openings` are the earlier ones: who, when and why.
    """

    entry: ContentEntry
    principal: str
    operation: str
    request: Any
    answer: Any
    openings: tuple[Opening, ...] = ()


class ContentStore:
    """Seals, opens, lists and removes the content below a folder; safe across threads and processes."""

    def __init__(self, folder: Path, keys: ContentKeys) -> None:
        self.folder, self.keys = folder, keys
        self._open: dict[str, Lines] = {}

    def seal(self, content: dict[str, Any], *, subject: str, expires: dt.date, **known: str) -> str:
        """Keep content about a subject until a day, and return its id.

        `known` are the fields of the entry that stay readable. Raise UnavailableError when it cannot be
        written, and ConfigError for a wrong master key.
        """
        key = self.keys.of(known["tenant"], subject)
        entry = ContentEntry(
            id=_new_id(f"{expires:%Y%m%d}"), expires=expires.isoformat(),
            subject_uid=key.name if subject else "", key=f"{key.name}:{key.id}", **known,
        )  # fmt: skip
        self._append(entry, key, content)
        return entry.id

    def note_opening(self, entry: ContentEntry, opening: Opening) -> None:
        """Keep, sealed as the content and as long, that it was opened; NotFoundError when it was erased."""
        key = self.keys.named(*_key_of(entry))
        day, _, _ = entry.id.partition("-")
        note = dataclasses.replace(entry, id=_new_id(day), at=opening.at, of=entry.id)
        self._append(note, key, dataclasses.asdict(opening))

    def _append(self, entry: ContentEntry, key: SubjectKey, content: dict[str, Any]) -> None:
        sealed = key.encrypt(orjson.dumps(content, default=_type_of, option=_OPTIONS), _about(entry))
        line = {**_fields(entry), "sealed": base64.b64encode(sealed).decode()}
        self._lines(entry.id.partition("-")[0]).append(orjson.dumps(line))

    def entry(self, content: str) -> ContentEntry:
        """Return what is known of content without its key; raise NotFoundError for an id without content."""
        return self._found(content)[0]

    def open(self, content: str) -> OpenedContent:
        """Return opened content.

        Raise NotFoundError for an id without content and for content that was erased, and CorruptError for
        content that was changed.
        """
        entry, sealed, openings = self._found(content)
        key = self.keys.named(*_key_of(entry))
        opened = orjson.loads(key.decrypt(sealed, _about(entry)))
        notes = tuple(Opening(**orjson.loads(key.decrypt(data, _about(note)))) for note, data in openings)
        return OpenedContent(entry=entry, openings=notes, **opened)

    def entries(self) -> Iterator[ContentEntry]:
        """Yield what is kept, those that expire first before the others; damaged lines are left out."""
        for path in self._files():
            for line in _lines_of(path):
                with contextlib.suppress(CorruptError):
                    entry, _ = _parsed(line, path)
                    if not entry.of:
                        yield entry

    def is_readable(self, entry: ContentEntry) -> bool:
        """Return whether the key of an entry is still there."""
        try:
            self.keys.named(*_key_of(entry))
        except NotFoundError:
            return False
        return True

    def purge(self, today: dt.date) -> int:
        """Remove what expired before `today`, and return the number of entries."""
        removed = sum(1 for path in self._expired(today) for _ in _lines_of(path))
        self.drop_expired(today)
        return removed

    def drop_expired(self, today: dt.date) -> None:
        """Remove what expired before `today`, without reading it."""
        for path in self._expired(today):
            with files.writing(path):
                path.unlink(missing_ok=True)

    def _expired(self, today: dt.date) -> list[Path]:
        return [path for path in self._files() if path.stem < f"{today:%Y%m%d}"]

    def erase(self, tenant: str, subject: str) -> bool:
        """Make everything about a tenant's subject unreadable; return whether anything was kept."""
        return self.keys.erase(tenant, subject)

    def _lines(self, day: str) -> Lines:
        if day not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[day] = Lines(self.folder / f"{day}.jsonl")
        return self._open[day]

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.jsonl") if path.stem.isdigit())

    def _found(self, content: str) -> tuple[ContentEntry, bytes, list[tuple[ContentEntry, bytes]]]:
        """Return an entry with its encrypted content, and those of its openings."""
        match = _ID.fullmatch(content)
        path = self.folder / f"{match[1]}.jsonl" if match else None
        found: list[tuple[ContentEntry, bytes]] = []
        damaged: CorruptError | None = None
        if path is not None:
            for line in (line for line in _lines_of(path) if content.encode() in line):
                try:
                    found.append(_parsed(line, path))
                except CorruptError as error:  # perhaps a torn line of a kill
                    damaged = error
        if mine := [item for item in found if item[0].id == content and not item[0].of]:
            return *mine[0], [item for item in found if item[0].of == content]
        if damaged is not None:
            raise damaged
        raise unknown_content(content)


def unknown_content(content: str) -> NotFoundError:
    """Return the error for an id without content; it names no other id, which may be of another tenant."""
    return NotFoundError(
        f"no sealed content has the id {files.shortened(content)!r}",
        hint="workbench content list; expired content is removed",
    )


def _parsed(line: bytes, path: Path) -> tuple[ContentEntry, bytes]:
    try:
        raw = orjson.loads(line)
        known = {name: str(raw[name]) for name in _NAMES}
        return ContentEntry(**known), base64.b64decode(raw["sealed"])
    except (ValueError, KeyError, TypeError):
        raise CorruptError(f"{path} has a damaged line", hint="restore it from your backup") from None


_NAMES: Final = tuple(item.name for item in fields(ContentEntry))


def _new_id(day: str) -> str:
    return f"{day}-{secrets.token_hex(8)}"


def _key_of(entry: ContentEntry) -> tuple[str, str]:
    """Return the name and the id of an entry's key."""
    name, _, key_id = entry.key.partition(":")
    return name, key_id


def _fields(entry: ContentEntry) -> dict[str, str]:
    return {name: getattr(entry, name) for name in _NAMES}


def _about(entry: ContentEntry) -> bytes:
    """Return what the encryption binds: none of it can be changed without the key."""
    return orjson.dumps(_fields(entry), option=_OPTIONS)


def _lines_of(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while line := file.readline(_MOST_LINE):
            if line.strip():
                yield line


def _type_of(value: object) -> str:
    return type(value).__name__
