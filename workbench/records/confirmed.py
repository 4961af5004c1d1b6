"""The log of recorded answers that this machine asked live, or asked again with the same answer."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from workbench import files
from workbench.context import instant, is_instant
from workbench.records.keys import Entry
from workbench.records.log import Lines

How = Literal["asked", "again"]
#: Keys of recordings, best with the digest of each answer.
Keys = Iterable[str] | Mapping[str, str]
_COMMAND: Final = "make repro LIVE=1"
#: A larger file is compacted when it has more lines than this multiple of its keys.
_SMALL_BYTES, _LINES_PER_KEY = 1 << 16, 4
_MOST_BYTES = 1 << 30
_is_instant = functools.lru_cache(maxsize=10_000)(is_instant)  # many lines have the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How many of the given answers were confirmed live.

    `n` are confirmed, the last of them at the UTC instant `last_at` ("" for none). `different` were answered
    differently when they were last asked.
    """

    n: int
    last_at: str = ""
    different: int = 0

    def text(self, total: int) -> str:
        """Return one sentence about `total` judged answers, with the command that confirms the others."""
        if not total:
            return "there are no judged answers to confirm live"
        if self.n:
            said = f"{self.n} of {total} judged answers {'was' if self.n == 1 else 'were'} confirmed live"
            said += f" on this machine, last on {self.last_at[:10]}"
        else:
            said = f"none of the {total} judged answers was ever confirmed live on this machine"
        if self.different:
            said += f"; {self.different} answered differently when asked again"
        return said if self.n >= total else f"{said}: {_COMMAND}"


class Confirmed:
    """An append-only log of the keys of recordings whose answers the model itself gave on this machine.

    A key is confirmed when its newest line says that the answer was the same. The order of the lines
    counts, not their times, so that a clock that is set back changes nothing. Damaged lines are skipped. The
    file is compacted when most of its lines are outdated; processes may write at once. Where keys come with
    the digests of their answers (`answers_of`), a line of another answer to the same key does not count: the
    recording has been replaced since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = Lines(path)

    def note(self, keys: Keys, *, how: How, at: dt.datetime, same: bool = True) -> None:
        """Append one line for each key: asked live ("asked") or asked again ("again") at the time `at`.

        `same` is False when the answer differs from the recorded one. UnavailableError when the file cannot
        be written.
        """
        said = {"at": instant(at), "how": how, "same": same}
        lines = [{"key": key, **_answer(digest), **said} for key, digest in _digests(keys).items()]
        if not lines:
            return
        with self._lines.writing() as append:
            append(b"\n".join(map(files.canonical, lines)))
            self._compact()

    def of(self, keys: Keys) -> Summary:
        """Return how many of the recordings with these keys were confirmed, and when the last one was."""
        newest = self._newest(keys)
        same = [line for line in newest if line["same"]]
        last = same[-1]["at"] if same else ""
        return Summary(n=len(same), last_at=last, different=len(newest) - len(same))

    def outcomes(self, keys: Keys) -> dict[str, bool]:
        """Return, for each of these keys that the log has, whether its newest answer was the same."""
        return {line["key"]: line["same"] for line in self._newest(keys)}

    def _newest(self, keys: Keys) -> list[dict[str, Any]]:
        """Return the newest line of each of these keys, oldest first, without those of another answer."""
        wanted = _digests(keys)
        found = (line for line in _newest_of(self._read()) if line["key"] in wanted)
        return [
            line for line in found if wanted[line["key"]] in ("", line.get("answer", wanted[line["key"]]))
        ]

    def _read(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return list(_parsed(files.read_bytes(self.path, limit=_MOST_BYTES)))
        return []

    def _compact(self) -> None:
        """Keep the newest line of each key if most lines are outdated; the caller excludes other writers."""
        if self.path.stat().st_size <= _SMALL_BYTES:
            return
        lines = self._read()
        newest = _newest_of(lines)
        if len(lines) > _LINES_PER_KEY * len(newest):
            files.write_atomic(self.path, b"".join(files.canonical(line) + b"\n" for line in newest))


def answers_of(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the digest of each recorded answer by key; times and processors do not count."""
    return {entry.key: files.digest(entry.result)[:32] for entry in entries}


def _digests(keys: Keys) -> Mapping[str, str]:
    return keys if isinstance(keys, Mapping) else dict.fromkeys(keys, "")


def _answer(digest: str) -> dict[str, str]:
    return {"answer": digest} if digest else {}


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the undamaged lines."""
    for text in filter(None, data.split(b"\n")):
        with contextlib.suppress(orjson.JSONDecodeError):
            line = orjson.loads(text)
            if isinstance(line, dict) and _is_whole(line):
                yield line


def _is_whole(line: dict[str, Any]) -> bool:
    at = line.get("at")
    return (
        isinstance(line.get("key"), str)
        and isinstance(line.get("same"), bool)
        and line.get("how") in ("asked", "again")
        and isinstance(at, str)
        and _is_instant(at)
        and isinstance(line.get("answer", ""), str)
    )


def _newest_of(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last line of each key, in the order of the file."""
    newest: dict[str, dict[str, Any]] = {}
    for line in lines:
        newest.pop(line["key"], None)
        newest[line["key"]] = line
    return list(newest.values())
