"""Write and read tombstones, which prevent an older snapshot from restoring forgotten items.

The log is an append-only file of JSON lines; each line is on disk before its verb returns. Lines hold keyed
digests only: the file reveals nothing without the key, and with the key only whether a known name is
forgotten. Back it up: without it, a restored snapshot contains forgotten items.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import orjson

from workbench import files
from workbench.errors import ConfigError, CorruptError
from workbench.memory.cipher import IdCipher
from workbench.records.log import Lines
from workbench.types import Item

_DIGEST = re.compile(r"[0-9a-f]{32}")
_MOST_BYTES = 1 << 30
_HINT = "restore this file from your backup of .workbench/state"
#: Maps a kind of name ("id", "subject" or "source") and its value to the digest in the log.
Token = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TombstoneLine:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    at: str
    key: str
    verb: Literal["forget", "admit"]
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """For each digest, the numbers of the last line that forgot it and of the last line that admitted it."""

    forgotten: Mapping[str, int] = field(default_factory=dict)
    admitted: Mapping[str, int] = field(default_factory=dict)


#: The tombstones of a missing file. One object, because callers compare by identity.
_NOTHING = Tombstones()


def _gone(items: Sequence[Item], marks: Tombstones, token: Token) -> frozenset[str]:
    """Return the ids of forgotten items; an item with a forgotten parent is forgotten too."""
    since = {item.id: _own(item, marks, token) for item in items}
    again = {item.id: marks.admitted.get(token("id", item.id), 0) for item in items}

    def of_parent(key: str) -> int:
        if key in since:
            return since[key] if since[key] > again[key] else 0
        mark = token("id", key)
        forgotten = marks.forgotten.get(mark, 0)
        return forgotten if forgotten > marks.admitted.get(mark, 0) else 0

    derived = [item for item in items if item.parents]
    changed = True
    while changed:
        changed = False
        for item in derived:
            latest = max(since[item.id], *map(of_parent, item.parents))
            changed = changed or latest > since[item.id]
            since[item.id] = latest
    return frozenset(key for key, line in since.items() if line > again[key])


def _own(item: Item, marks: Tombstones, token: Token) -> int:
    names = (("id", item.id), ("subject", item.subject), ("source", item.source))
    return max(marks.forgotten.get(token(kind, value), 0) for kind, value in names if value)


class TombstoneLog:
    """The tombstones of one repository's memories: forgotten ids, subjects and sources, and ids added again.

    Safe across threads and processes. `names` has the key of the live stores. A line written with another
    key raises ConfigError, because its digests match no name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = Lines(path, durable=True)
        self._read: tuple[tuple[int, int, int], str, Tombstones] | None = None

    def forget(
        self,
        tenant: str,
        *,
        memory: str,
        names: IdCipher,
        at: str,
        ids: Sequence[str] = (),
        subject: str | None = None,
        source: str | None = None,
    ) -> None:
        """Write tombstones for these names in a tenant's memory; `at` is a UTC instant.

        The selector's names are written before the store deletes, so that a crash in between forgets too
        much rather than too little. The ids of the deleted items are written afterwards.
        """
        token = _token(names, tenant, memory)
        given = [("id", key) for key in sorted(set(ids))]
        given += [(kind, name) for kind, name in (("subject", subject), ("source", source)) if name]
        self._append("forget", [token(kind, value) for kind, value in given], names, at)

    def admit(
        self,
        tenant: str,
        items: Iterable[Item],
        *,
        memory: str,
        names: IdCipher,
        at: str,
        since: Tombstones | None = None,
    ) -> int:
        """Lift the tombstones of `items` that were added again; return how many had one.

        Other items of the same subject or source stay forgotten. `since` are the tombstones read before the
        write: an item that was forgotten after them keeps its new tombstone.
        """
        gone = self.forgotten(tenant, items, memory=memory, names=names)
        self.keep(tenant, gone, memory=memory, names=names, at=at, since=since)
        return len(gone)

    def keep(
        self,
        tenant: str,
        ids: Iterable[str],
        *,
        memory: str,
        names: IdCipher,
        at: str,
        since: Tombstones | None = None,
    ) -> None:
        """Lift the tombstones of the items with these ids.

        Ids that were forgotten after the tombstones `since` keep theirs: a `forget` writes the ids after it
        has deleted the items, so its line is the later fact even when this one is written last.
        """
        token = _token(names, tenant, memory)
        self._append("admit", [token("id", key) for key in sorted(ids)], names, at, since=since)

    def forgotten(
        self, tenant: str, items: Iterable[Item], *, memory: str, names: IdCipher
    ) -> frozenset[str]:
        """Return the ids of those of a tenant's `items` that have a tombstone and were not added again.

        A tombstone names an item's id, subject or source, or one of its parents.
        """
        marks = self.marks(names)
        return _gone(list(items), marks, _token(names, tenant, memory)) if marks.forgotten else frozenset()

    def named(self, tenant: str, ids: Iterable[str], *, memory: str, names: IdCipher) -> frozenset[str]:
        """Return those of a tenant's `ids` whose own tombstone was not lifted."""
        marks, token = self.marks(names), _token(names, tenant, memory)
        if not marks.forgotten:
            return frozenset()
        mark = {key: token("id", key) for key in ids}
        return frozenset(
            key for key, each in mark.items() if marks.forgotten.get(each, 0) > marks.admitted.get(each, 0)
        )

    def marks(self, names: IdCipher) -> Tombstones:
        """Read the file; return the same object until the file changes.

        CorruptError when a complete line was changed, ConfigError when it was written with another key.
        """
        try:
            with open(files.open_regular(self.path), "rb") as file:  # noqa: PTH123  of a descriptor
                status = os.fstat(file.fileno())
                if status.st_size > _MOST_BYTES:
                    raise ConfigError(f"{self.path} is larger than {_MOST_BYTES} bytes", hint=_HINT)
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if self._read is None or self._read[:2] != (seen, names.fingerprint):
                    self._read = (seen, names.fingerprint, self._parsed(file.read(), names))
                return self._read[2]
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            raise ConfigError(f"cannot read {self.path}: {error.strerror}", hint=_HINT) from error

    def _parsed(self, data: bytes, names: IdCipher) -> Tombstones:
        forgotten: dict[str, int] = {}
        admitted_again: dict[str, int] = {}
        # Text after the last line end is not acknowledged: its writer was killed or is still writing.
        for number, text in enumerate(data.split(b"\n")[:-1], start=1):
            line = self._line(text, number)
            if line.key != names.fingerprint:
                raise ConfigError(
                    f"{self.path}:{number} was written with another key of memories",
                    hint="restore the key from your backup of .workbench/state",
                )
            target = forgotten if line.verb == "forget" else admitted_again
            target |= dict.fromkeys(line.digests, number)
        return Tombstones(forgotten=forgotten, admitted=admitted_again)

    def _line(self, text: bytes, number: int) -> _TombstoneLine:
        where = f"{self.path}:{number}"
        try:
            line = files.parse(_TombstoneLine, orjson.loads(text), where=where)
        except (orjson.JSONDecodeError, ConfigError):
            line = None
        if line is None or not all(map(_DIGEST.fullmatch, line.digests)):
            raise CorruptError(f"{where} is not a tombstone: the line was changed", hint=_HINT)
        return line

    def _append(
        self, verb: str, digests: Sequence[str], names: IdCipher, at: str, *, since: Tombstones | None = None
    ) -> None:
        if not digests:
            return
        with self._lines.writing() as append:
            now = self.marks(names)  # raises for another key or a changed file, before the write
            if since is not None:
                digests = [key for key in digests if now.forgotten.get(key) == since.forgotten.get(key)]
            if digests:
                line = {"at": at, "key": names.fingerprint, "verb": verb, "digests": list(digests)}
                append(files.canonical(line))


def _token(names: IdCipher, tenant: str, memory: str) -> Token:
    return functools.partial(_digest, names, tenant, memory)


@functools.lru_cache(maxsize=200_000)
def _digest(names: IdCipher, tenant: str, memory: str, kind: str, value: str) -> str:
    return names.uuid(tenant, "forgotten", memory, kind, value).hex
