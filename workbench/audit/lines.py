"""The lines of the audit log: rows with their digests, the head of the log, and the names of segments.

A line is `{"hash":"H","prev":"P","seq":N,…}`. H is the SHA-256 digest of the line's bytes after `"hash":"H",`
and P is the H of the line before it, so that each line vouches for all earlier ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from workbench.errors import ConfigError

#: The `prev` of the first row of a log.
GENESIS: Final = "0" * 64
#: The bytes of a line before and behind its hash.
_START, _END = b'{"hash":"', b'",'
_BODY_AT: Final = len(_START) + 64 + len(_END)
_PREFIX = re.compile(rb'\{"hash":"([0-9a-f]{64})",("prev":"([0-9a-f]{64})","seq":([1-9]\d{0,17}),)')
#: Most bytes of a line; a longer one is damaged.
MOST_LINE: Final = 1 << 20
#: The file of the log's end, and its length in bytes.
HEAD: Final = "head.json"
HEAD_BYTES: Final = 256
_SEGMENT = re.compile(r"(\d{4}-\d\d-\d\d)\.(\d{12})\.jsonl")
_OPTIONS: Final = orjson.OPT_SORT_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The place of a row in the log: its number, its digest and that of the row before it."""

    seq: int
    digest: str
    prev: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a log: the open segment, its size, the last row, and the last row that is signed."""

    segment: str
    size: int
    seq: int
    digest: str
    signed: int

    def encoded(self) -> bytes:
        """Return the bytes of the file, of one length, so that a write replaces all of it."""
        fields = {
            "digest": self.digest, "segment": self.segment, "seq": self.seq, "signed": self.signed,
            "size": self.size,
        }  # fmt: skip
        return orjson.dumps(fields).ljust(HEAD_BYTES - 1) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Head | None:
        """Return the head in a file's bytes; None for other bytes."""
        try:
            found = cls(**orjson.loads(data))
        except (orjson.JSONDecodeError, TypeError):
            return None
        return found if _SEGMENT.fullmatch(str(found.segment)) and found.encoded() == data else None


def line_of(row: Mapping[str, Any], *, seq: int, prev: str) -> tuple[bytes, str]:
    """Return the line of a row, without its newline, and its digest.

    Raise TypeError for what is not JSON, and ConfigError for a row that no reader would take.
    """
    body = f'"prev":"{prev}","seq":{seq},'.encode() + orjson.dumps(row, option=_OPTIONS)[1:]
    if len(body) >= MOST_LINE - _BODY_AT:
        raise ConfigError(
            f"a row of the audit log would have {len(body):,} bytes; at most {MOST_LINE:,} are read again",
            hint="shorten the names of the call or the act",
        )
    digest = hashlib.sha256(body).hexdigest()
    return _START + digest.encode() + _END + body, digest


def link_of(line: bytes) -> Link | None:
    """Return the place that a line states; None unless its bytes have the digest that it states."""
    found = _PREFIX.match(line)
    if found is None or hashlib.sha256(line[_BODY_AT:]).hexdigest().encode() != found[1]:
        return None
    return Link(seq=int(found[4]), digest=found[1].decode(), prev=found[3].decode())


def row_of(line: bytes) -> dict[str, Any]:
    """Return the fields of a line; ValueError for a line that is no JSON, none for another value."""
    row = orjson.loads(line)
    return row if isinstance(row, dict) else {}


def segment_name(day: str, first: int) -> str:
    """Return the name of the segment that begins on a day with the row `first`."""
    return f"{day}.{first:012}.jsonl"


def first_of(segment: str) -> int:
    """Return the number of a segment's first row, by its name."""
    found = _SEGMENT.fullmatch(segment)
    return int(found[2]) if found else 0


def segments_of(folder: Path) -> list[Path]:
    """Return the segments of a log, oldest first; raise ConfigError when the folder cannot be read."""
    try:
        found = [path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name)]
    except OSError as error:
        raise ConfigError(
            f"{folder} is not a folder of an audit log: {error.strerror}",
            hint="name the folder that holds head.json, such as .workbench/state/audit",
        ) from None
    return sorted(found, key=lambda path: (first_of(path.name), path.name))
