"""What was forgotten, so that an older snapshot never brings it back.

An append-only file of JSON lines, each on the disk before the verb that wrote it returns. It holds
keyed digests only: who reads it learns nothing without the key, and with the key can only ask about
names already known. It is state: with it lost, a snapshot restored gives back all that it holds.
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

from workbench import files, locking
from workbench.errors import ConfigError, CorruptError
from workbench.memory.cipher import IdCipher
from workbench.types import Item

_DIGEST = re.compile(r"[0-9a-f]{32}")
_HINT = "put back this file from your backup of .workbench/state"
#: The digest of what an item is named by: "id", "subject" or "source", and its value.
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
    """For each digest the number of the last line that forgot it, and of the last that admitted it."""

    forgotten: Mapping[str, int] = field(default_factory=dict)
    admitted: Mapping[str, int] = field(default_factory=dict)


#: Where nothing was ever forgotten: the one object that says so, as a file unchanged has one.
_NOTHING = Tombstones()


def _gone(items: Sequence[Item], marks: Tombstones, token: Token) -> frozenset[str]:
    """Ids of what may not come back; what was forgotten is handed down from parents to children."""
    since = {item.id: _own(item, marks, token) for item in items}
    again = {item.id: marks.admitted.get(token("id", item.id), 0) for item in items}

    def of_parent(one: str) -> int:
        if one in since:
            return since[one] if since[one] > again[one] else 0
        mark = token("id", one)
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
    return frozenset(one for one, line in since.items() if line > again[one])


def _own(item: Item, marks: Tombstones, token: Token) -> int:
    names = (("id", item.id), ("subject", item.subject), ("source", item.source))
    return max(marks.forgotten.get(token(kind, value), 0) for kind, value in names if value)


class TombstoneLog:
    """The tombstones of one repository's memories: ids, subjects and sources forgotten, ids added again.

    Safe across threads and processes. `names` has the key of the live stores; a line written under
    another key is a ConfigError, because what it names could not be recognised.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
        """Note that these were forgotten in a tenant's memory at `at`; nothing given, nothing noted.

        What a selector names is noted before the store is asked, so that a crash between the two
        forgets too much rather than too little; the ids that went, afterwards.
        """
        token = _token(names, tenant, memory)
        given = [("id", one) for one in sorted(set(ids))]
        given += [(kind, one) for kind, one in (("subject", subject), ("source", source)) if one]
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
        """Note that `items` were added again, of their own accord; how many had been forgotten.

        These very items come back; others of the same subject or source stay forgotten. With the marks
        `since` before they were written, what somebody has taken away since is not admitted.
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
        """Note that the items with these ids are not forgotten, whatever was said of them before.

        Not of those that were forgotten by their own ids after the marks `since`: who takes an item out of
        a store notes its id afterwards, and that is the later word however late this one comes.
        """
        token = _token(names, tenant, memory)
        self._append("admit", [token("id", one) for one in sorted(ids)], names, at, since=since)

    def forgotten(
        self, tenant: str, items: Iterable[Item], *, memory: str, names: IdCipher
    ) -> frozenset[str]:
        """Ids of those of a tenant's `items` that were forgotten and not added again.

        By its id, its subject or its source, or with a parent that was.
        """
        marks = self.marks(names)
        return _gone(list(items), marks, _token(names, tenant, memory)) if marks.forgotten else frozenset()

    def named(self, tenant: str, ids: Iterable[str], *, memory: str, names: IdCipher) -> frozenset[str]:
        """Those of a tenant's `ids` that were forgotten by that very id, and not admitted since."""
        marks, token = self.marks(names), _token(names, tenant, memory)
        if not marks.forgotten:
            return frozenset()
        mark = {one: token("id", one) for one in ids}
        return frozenset(
            one for one, each in mark.items() if marks.forgotten.get(each, 0) > marks.admitted.get(each, 0)
        )

    def marks(self, names: IdCipher) -> Tombstones:
        """What the file says, the same object until it changes.

        CorruptError when a whole line of it is not as it was written.
        """
        try:
            with open(files.open_regular(self.path), "rb") as file:  # noqa: PTH123  of a descriptor
                status = os.fstat(file.fileno())
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
        # What stands after the last line end was never acknowledged: its writer was killed, or writes it now.
        for number, text in enumerate(data.split(b"\n")[:-1], start=1):
            line = self._line(text, number)
            if line.key != names.fingerprint:
                raise ConfigError(
                    f"{self.path}:{number} was written with another key of memories",
                    hint="put back the key from your backup of .workbench/state",
                )
            target = forgotten if line.verb == "forget" else admitted_again
            target |= dict.fromkeys(line.digests, number)
        return Tombstones(forgotten=forgotten, admitted=admitted_again)

    def _line(self, text: bytes, number: int) -> _TombstoneLine:
        where = f"{self.path}:{number}"
        try:
            line = files.parse(_TombstoneLine, orjson.loads(text), where=where)
        except (orjson.JSONDecodeError, ConfigError):
            raise CorruptError(f"{where} is not as it was written", hint=_HINT) from None
        if not all(map(_DIGEST.fullmatch, line.digests)):
            raise CorruptError(f"{where} is not as it was written", hint=_HINT)
        return line

    def _append(
        self, verb: str, digests: Sequence[str], names: IdCipher, at: str, *, since: Tombstones | None = None
    ) -> None:
        if not digests:
            return
        try:
            files.make_folder(self.path.parent)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                locking.acquire(descriptor)  # released with the descriptor
                now = self.marks(names)  # of a file of another key, or one that was changed: no further line
                if since is not None:
                    digests = [one for one in digests if now.forgotten.get(one) == since.forgotten.get(one)]
                if digests:
                    line = {"at": at, "key": names.fingerprint, "verb": verb, "digests": list(digests)}
                    _write(descriptor, files.canonical(line) + b"\n")
            finally:
                os.close(descriptor)
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise files.unwritable(self.path, error) from error


def _write(descriptor: int, record: bytes) -> None:
    """Put `record` after the last whole line and onto the disk; all of it or nothing."""
    end = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":  # cut off what a killed writer left
        end -= 1
    os.ftruncate(descriptor, end)
    try:
        written = 0
        while written < len(record):
            written += os.pwrite(descriptor, record[written:], end + written)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _token(names: IdCipher, tenant: str, memory: str) -> Token:
    return functools.partial(_digest, names, tenant, memory)


@functools.lru_cache(maxsize=200_000)
def _digest(names: IdCipher, tenant: str, memory: str, kind: str, value: str) -> str:
    return names.uuid(tenant, "forgotten", memory, kind, value).hex
