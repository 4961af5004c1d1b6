"""Recorded calls: what identifies one, how it is stored, and the tape that keeps a stage's.

A tape is canonical JSON lines: a header, then one entry per recorded call sorted by key, so that
the same calls are the same bytes on every machine. A journal is the same entries in the order they
were answered: the cache of exploring, and where an interrupted run's answers wait.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import files, wire
from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError
from workbench.observations import Lines
from workbench.types import JSON, Event

FORMAT: Final = "workbench-tape/1"

#: Fields of a request that cannot change its answer, so neither the key nor the tape has them.
NOT_IN_KEY: Final[Mapping[str, str]] = {
    "user": "names the end user to the provider; personal, and the model never sees it",
    "safety_identifier": "the same, by its newer name",
    "metadata": "labels for the provider's dashboard",
    "store": "whether the provider keeps a copy",
    "prompt_cache_key": "a hint where the provider looks for a cached prefix",
    "request_id": "a random number of this attempt",
}

#: Client errors that are about the account, the route or the moment: asking again may be answered.
PASSING: Final = frozenset({401, 402, 403, 404, 407, 408, 409, 421, 423, 425, 429})

_SECRET: Final = re.compile(
    r"\bsk-(?=[\w-]*\d)[\w-]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\bBearer\s+(?=\S*\d)[\w.~+/-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_KEY_AT: Final = slice(8, 72)  # a line starts {"key":"…64 hex…"
_CONFLICT: Final = (b"<<<<<<<", b"=======", b">>>>>>>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that identifies one recorded call: the request, whom it was put to, and the occurrence."""

    operation: str
    identity: JSON
    request: JSON
    case: str = ""
    repeat: int = 0
    n: int = 0

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of everything that can change the answer."""
        parts = {
            "format": 1,
            "operation": self.operation,
            "identity": self.identity,
            "request": self.request,
            "case": self.case,
            "repeat": self.repeat,
            "n": self.n,
        }
        return hashlib.sha256(files.canonical(parts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recorded call. `result` is `{"events": […]}`, or `{"refused": {…}}` for a refusal.

    `latency_s` is the time spent waiting for the model, all attempts together; `processor` is what
    answered when the model ran on this machine.
    """

    key: str
    question: Question
    target: str
    result: JSON
    latency_s: float
    first_event_s: float | None
    processor: JSON

    def line(self) -> bytes:
        """The entry as one line. The key comes first, so that an index need not parse the rest."""
        asked = self.question
        return files.canonical(
            {
                "key": self.key,
                "occurrence": {"case": asked.case, "repeat": asked.repeat, "n": asked.n},
                "operation": asked.operation,
                "processor": self.processor,
                "request": asked.request,
                "result": self.result,
                "target": {"name": self.target, "identity": asked.identity},
                "timing": {"latency_s": self.latency_s, "first_event_s": self.first_event_s},
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """The entry of a line; `ValueError` or `KeyError` when it is not one."""
        fields = orjson.loads(line)
        where, target, timing = fields["occurrence"], fields["target"], fields["timing"]
        return cls(
            key=fields["key"],
            question=Question(
                operation=fields["operation"],
                identity=target["identity"],
                request=fields["request"],
                case=where["case"],
                repeat=where["repeat"],
                n=where["n"],
            ),
            target=target["name"],
            result=fields["result"],
            latency_s=timing["latency_s"],
            first_event_s=timing["first_event_s"],
            processor=fields["processor"],
        )

    def events(self) -> list[Event]:
        """The recorded reply in its recorded pieces; raises the recorded refusal."""
        refused = self.result.get("refused")
        if refused is not None:
            raise RefusedError(
                refused["message"],
                hint=refused["hint"],
                status=refused["status"],
                body=refused["body"],
            )
        return [Event(data=data) for data in self.result["events"]]


def refusal(error: RefusedError) -> JSON | None:
    """The result to record for a refusal, or None when asking again may be answered."""
    if error.status is None or not 400 <= error.status < 500 or error.status in PASSING:
        return None
    parts = {"message": error.message, "hint": error.hint, "status": error.status, "body": error.body}
    return {"refused": parts}


def refuse_secrets(line: bytes) -> None:
    """`ConfigError` naming the place if canonical JSON holds something shaped like a key or a token."""
    if _SECRET.search(line.decode()) is None:
        return
    found = (path for path, text in leaves(orjson.loads(line)) if _SECRET.search(f"{path} {text}"))
    raise ConfigError(
        f"{next(found, 'the call')} holds what looks like a key or a token; it is not recorded",
        hint="take it out of the text, or ask in mode 'live', which stores nothing",
    )


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every scalar of a JSON value with its path, as `messages[1].content`, keys in order."""
    if isinstance(value, Mapping) and value:
        for name in sorted(value):
            yield from leaves(value[name], f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for position, item in enumerate(value):
            yield from leaves(item, f"{path}[{position}]")
    else:
        yield path, value


@functools.cache
def processor() -> JSON:
    """The processor's type: identical answers are promised only on the same one."""
    wanted = {
        "vendor_id": "vendor", "cpu family": "family", "model": "model",
        "CPU implementer": "vendor", "CPU architecture": "family", "CPU part": "model",
    }  # fmt: skip
    found = {"machine": platform.machine()}
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = text.partition(":")
            if name.strip() in wanted:
                found.setdefault(wanted[name.strip()], value.strip())
    return found


class Tape:
    """The recordings of one stage, by key. Parsed when asked for, not when opened."""

    def __init__(self, path: Path, lines: Mapping[str, bytes] | None = None) -> None:
        self.path = path
        self._lines = dict(lines or {})

    @classmethod
    def read(cls, path: Path) -> Tape:
        """The tape in a file, checked to the byte; `CorruptError` naming the line. Zero bytes: empty."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"{path}: there is no such tape", hint="`make repro` creates it") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot read this tape ({error.strerror})") from None
        if not data:
            return cls(path)
        first, _, body = data.partition(b"\n")
        header = _header(path, first)
        lines = body.split(b"\n")
        keys = [line[_KEY_AT].decode("ascii", "replace") for line in lines[:-1]]
        whole = header["digest"] == hashlib.sha256(body).hexdigest() and not lines[-1]
        if not whole or header["entries"] != len(keys) or any(map(str.__ge__, keys, keys[1:])):
            raise _corrupt(path, *_fault(lines, header))
        return cls(path, dict(zip(keys, lines, strict=False)))

    def get(self, key: str) -> Entry | None:
        """The recording under a key, if there is one."""
        line = self._lines.get(key)
        return None if line is None else Entry.parse(line)

    def line(self, key: str) -> bytes:
        """The recording under a key as stored."""
        return self._lines[key]

    def entries(self) -> Iterator[Entry]:
        """Every recording, in the order of their keys."""
        return map(Entry.parse, self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)


def write(path: Path, lines: Iterable[bytes]) -> bool:
    """Write a tape atomically; false, and the file untouched, when it holds these bytes already."""
    entries = sorted(lines, key=lambda line: line[_KEY_AT])
    body = b"".join(line + b"\n" for line in entries)
    head = {"format": FORMAT, "entries": len(entries), "digest": hashlib.sha256(body).hexdigest()}
    data = files.canonical(head) + b"\n" + body if entries else b""
    return files.write_atomic(path, data)


def _corrupt(path: Path, line: int, what: str) -> CorruptError:
    again = f"`git checkout -- {path}`, or delete it and rerun `dvc repro`, which asks again"
    if "merge" in what:
        again = f"`git checkout --ours -- {path}`, then `dvc repro` asks for what that side lacks"
    return CorruptError(f"{path}:{line}: {what}", hint=again)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    if line.startswith(_CONFLICT):
        raise _corrupt(path, 1, "markers of an unresolved merge")
    try:
        header = orjson.loads(line)
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        header = {}
    found = str(header.get("format"))
    if found.startswith("workbench-tape/") and found != FORMAT:
        raise CorruptError(
            f"{path}:1: a tape of format {found!r}; this workbench reads {FORMAT!r}",
            hint=f"install the workbench that wrote it, or delete {path} and rerun `dvc repro`",
        )
    if set(header) != {"format", "entries", "digest"} or found != FORMAT:
        raise _corrupt(path, 1, "no tape header: this is not a tape, or its first line is damaged")
    return header


def _fault(lines: Sequence[bytes], header: JSON) -> tuple[int, str]:
    """Line and reason why the lines below the header are not what was written."""
    before = ""
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=2):
        what = _line_fault(line, before)
        if what and number == len(lines) + 1 and lines[-1]:
            what = "the file is cut off in this line"
        if what:
            return number, what
        before = line[_KEY_AT].decode()
    count = len(lines) - 1
    if count != header["entries"]:
        return count + 1, f"the file ends here with {count} entries; {header['entries']} were written"
    return 1, "an entry was edited by hand: the digest of the entries is another one"


def _line_fault(line: bytes, before: str) -> str:
    if line.startswith(_CONFLICT):
        return "markers of an unresolved merge"
    try:
        line.decode()
        entry = Entry.parse(line)
        key = entry.question.key
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return "not an entry of a tape"
    if entry.key != key:
        return "edited by hand: the key is not the one of this request"
    if entry.key <= before:
        return "out of order: entries are sorted by key, each key once"
    return ""


class Journal:
    """Answers in the order they came, in one append-only file: cache and safety net.

    Opened when first needed. A line that is not whole (its writer was killed) is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Lines(path)
        self._index: dict[str, tuple[int, int]] = {}
        self._read_to = 0

    def open(self) -> None:
        """`UnavailableError` now if answers could not be kept later."""
        self._file.open()

    def append(self, key: str, line: bytes) -> None:
        """Keep an answer; it is what this key finds from now on."""
        self._index[key] = (self._file.append(line), len(line))

    def get(self, key: str) -> Entry | None:
        """The newest answer under a key, also when another process wrote it meanwhile."""
        line = self.line(key)
        if line is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Entry.parse(line)
        return None

    def line(self, key: str) -> bytes | None:
        """An answer as stored."""
        if key not in self._index and self._file.size() != self._read_to:
            self._extend_index()
        if key not in self._index:
            return None
        line = self._file.read(*self._index[key])
        return line if line[_KEY_AT] == key.encode() and line.endswith(b"}") else None

    def _extend_index(self) -> None:
        """Index what was appended since; the keys stand at a fixed place, nothing is parsed."""
        if self._file.size() < self._read_to:  # deleted and begun again
            self._index, self._read_to = {}, 0
        data = self._file.read(self._read_to)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line_key = data[start + _KEY_AT.start : start + _KEY_AT.stop]
            if data.startswith(b'{"key":"', start) and data.endswith(b"}", start, end):
                self._index[line_key.decode("ascii", "replace")] = (self._read_to + start, end - start)
            start = end + 1
        self._read_to += start


def compare_answers(recorded: Entry, live: Sequence[Event]) -> list[str]:
    """What differs between a recorded answer and a live one: text, usage, finish reason, count. [] is equal.

    Ids, time stamps and the way a stream was cut into pieces are not compared.
    """
    refused = recorded.result.get("refused")
    if refused is not None:
        return [f"answered now, refused with {refused['status']} when recorded"]
    before, now = wire.fold(recorded.events()), wire.fold(live)
    reads = {
        "text": wire.text_of,
        "usage": wire.usage_of,
        "finish_reason": wire.finish_of,
        "tokens": wire.tokens_of,
    }
    return [name for name, read in reads.items() if read(before) != read(now)]
