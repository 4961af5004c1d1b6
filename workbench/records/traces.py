"""The index of trace ids beside a Parquet file of calls: sorted keys of 8 bytes, and the row of each."""

from __future__ import annotations

import bisect
import errno
import os
from collections.abc import Iterable
from pathlib import Path

_KEY, _ROW = 8, 4


def key_of(trace: str) -> bytes:
    """Return the first 64 bits of a trace id, or of the bytes of another text."""
    try:
        key = bytes.fromhex(trace[: 2 * _KEY])
    except ValueError:
        key = trace.encode()[:_KEY]
    return key.ljust(_KEY, b"\0")


def index_of(traces: Iterable[str | None]) -> bytes:
    """Return the index of a file whose rows have these trace ids: all keys, then all rows."""
    pairs = sorted((key_of(trace or ""), row) for row, trace in enumerate(traces))
    return b"".join(key for key, _ in pairs) + b"".join(row.to_bytes(_ROW, "big") for _, row in pairs)


def count(path: Path) -> int:
    """Return the number of rows that an index knows."""
    return path.stat().st_size // (_KEY + _ROW)


def rows_of(path: Path, trace: str) -> list[int]:
    """Return the rows whose key is that of `trace`: a binary search, without reading the whole index.

    Raise OSError when there is no index, or one that is no list of keys and rows.
    """
    wanted = key_of(trace)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        n, odd = divmod(os.fstat(descriptor).st_size, _KEY + _ROW)
        if odd or not n:
            raise OSError(errno.EIO, "the index is damaged")
        row = bisect.bisect_left(range(n), wanted, key=lambda i: os.pread(descriptor, _KEY, i * _KEY))
        found = []
        while row < n and os.pread(descriptor, _KEY, row * _KEY) == wanted:
            found.append(int.from_bytes(os.pread(descriptor, _ROW, n * _KEY + row * _ROW), "big"))
            row += 1
        return sorted(found)
    finally:
        os.close(descriptor)
