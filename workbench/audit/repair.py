"""Find the end of an audit log after a kill, a full disk or another hand, and say what was lost."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from workbench.audit.lines import Head, Link, first_of, link_of, row_of, segments_of


def recovered(segment: int, head: Head, size: int) -> tuple[Head, str, bool]:
    """Return the head that fits an open segment of `size` bytes, what was found, and whether rows were lost.

    Complete rows behind the head are kept: their writer was killed before it wrote the head. A torn row,
    which was never acknowledged, is removed. Rows that are missing stay missing in the numbering.
    """
    if size < head.size:
        if size and os.pread(segment, 1, size - 1) != b"\n":
            os.write(segment, b"\n")
            size += 1
        why = f"the segment lost {head.size - size} bytes before row {head.seq + 1}"
        return dataclasses.replace(head, size=size), why, True
    tail = os.pread(segment, size - head.size, head.size)
    *lines, torn = tail.split(b"\n")
    kept, at = 0, head
    for line in lines:
        link = link_of(line)
        if link is None or (link.seq, link.prev) != (at.seq + 1, at.digest):
            break
        at = _advanced(at, link, line)
        kept += 1
    foreign = len(lines) - kept
    if torn:
        os.ftruncate(segment, size - len(torn))
    at = dataclasses.replace(at, size=size - len(torn))
    if foreign:
        return at, f"the segment held {foreign} foreign lines after row {at.seq}", True
    why = f"a torn row of {len(torn)} bytes was removed; it was not acknowledged" if torn else ""
    return at, why, False


def following(folder: Path, head: Head) -> Head | None:
    """Return the head at the beginning of the segment that follows it; None when none has rows.

    The disk may have a segment and an older head after the machine lost its power.
    """
    for path in segments_of(folder):
        if first_of(path.name) == head.seq + 1 and path.name != head.segment and path.stat().st_size:
            return dataclasses.replace(head, segment=path.name, size=0)
    return None


def rebuilt(folder: Path) -> Head | None:
    """Return the head of a log by its segments, as of its last intact row; None without one."""
    for path in reversed(segments_of(folder)):
        data = path.read_bytes()
        last, signed = None, 0
        for line in data.split(b"\n"):
            link = link_of(line)
            if link is not None:
                last = link
                signed = link.seq if b'"activity":"checkpoint"' in line else signed
        if last is not None:
            size = data.rfind(b"\n") + 1  # what is behind it is torn
            return Head(segment=path.name, size=size, seq=last.seq, digest=last.digest, signed=signed)
    return None


def _advanced(head: Head, link: Link, line: bytes) -> Head:
    signed = link.seq if row_of(line).get("activity") == "checkpoint" else head.signed
    size = head.size + len(line) + 1
    return Head(segment=head.segment, size=size, seq=link.seq, digest=link.digest, signed=signed)
