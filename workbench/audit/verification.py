"""Verify an audit log with its folder and the public key alone: every row, the order, and the signatures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workbench import files
from workbench.audit.lines import GENESIS, HEAD, Head, Link, link_of, row_of, segments_of
from workbench.audit.reading import lines_in
from workbench.audit.signing import Checkpoint, is_signed, key_id_of, public_key
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: Most problems that are told; the first one matters.
_MOST_TOLD: Final = 10
#: Rows behind the last checkpoint that a running log may have.
_MOST_UNSIGNED: Final = 1_000
_MOST_KEY, _MOST_ANCHOR = 1 << 16, 1 << 20
Keys = Mapping[str, "Ed25519PublicKey"]
#: The folder of the log in the folder that `workbench audit export` writes.
_LOG: Final = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A place at which a log is not as it was written: the number of the row, and the file and line."""

    row: int
    place: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Shown):
    """The result: the rows that were read, the last one that is signed, the problems, and what was noted."""

    folder: str
    rows: int
    first: int
    last: int
    signed: int
    signed_at: str
    head: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the log is as it was written."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        rest = {name: getattr(self, name) for name in ("folder", "rows", "first", "last", "signed", "head")}
        told = [{"row": item.row, "place": item.place, "what": item.what} for item in self.problems]
        return {**rest, "signed_at": self.signed_at, "passed": self.passed, "problems": told,
                "notes": list(self.notes)}  # fmt: skip

    def card(self) -> Card:
        """Return the card: the first bad row first."""
        head = ("row", "place", "problem")
        rows = [(str(item.row), item.place, item.what) for item in self.problems[:_MOST_TOLD]]
        more = len(self.problems) - len(rows)
        until = f"signed to row {self.signed} at {self.signed_at}" if self.signed else "not signed anywhere"
        unsigned = self.last - self.signed
        notes = [f"{self.rows:,} rows, {self.first} to {self.last}; {until}; head {self.head[:16]}"]
        if unsigned > 0:
            notes.append(f"no checkpoint signs the last {unsigned} rows yet")
        if more > 0:
            notes.append(f"and {more} further problems")
        return Card(
            title=f"audit log {self.folder}", head=head, rows=rows, notes=(*notes, *self.notes),
            verdict="pass" if self.passed else "fail",
        )  # fmt: skip


class _State:
    """What was read so far."""

    def __init__(self, keys: Keys, anchors: Mapping[int, str]) -> None:
        self.keys, self.anchors = keys, anchors
        self.seq, self.digest = 0, GENESIS
        self.first: Link | None = None
        self.rows = self.signed = self.signed_before = 0
        self.purges: list[tuple[int, int]] = []
        self.torn_bytes, self.expected, self.met = 0, 0, ""
        self.signed_at = self.torn = ""
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def bad(self, row: int, place: str, what: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(row=row, place=place, what=what))

    def take(self, line: bytes, place: str) -> None:
        """Check one line, and go on with what it states."""
        link = link_of(line)
        if link is None:
            self.bad(
                self.seq + 1, place, "the line is changed or incomplete: it has not the digest it states"
            )
            self.seq += 1
            self.digest = ""  # unknown, so that only one problem is told
            return
        self.rows += 1
        if self.first is None:
            self.first = link
            self.seq, self.digest = link.seq - 1, link.prev
        self._check_order(link, place)
        self.seq, self.digest = link.seq, link.digest
        if link.seq == self.expected:
            self.met = link.digest
        if self.anchors.get(link.seq, link.digest) != link.digest:
            self.bad(link.seq, place, "another log than that of the checkpoint kept elsewhere: a fork")
        self._check_activity(row_of(line), link, place)

    def _check_order(self, link: Link, place: str) -> None:
        due = self.seq + 1
        if link.seq > due:
            rows = f"row {due} is" if link.seq == due + 1 else f"rows {due} to {link.seq - 1} are"
            self.bad(due, place, f"{rows} missing before this row")
        elif link.seq < due:
            self.bad(link.seq, place, f"row {link.seq} follows row {self.seq}: rows are swapped, or a fork")
        elif self.digest and link.prev != self.digest:
            self.bad(link.seq, place, "it follows another row than the one before it: rows were replaced")

    def _check_activity(self, row: Mapping[str, Any], link: Link, place: str) -> None:
        match row.get("activity"):
            case "checkpoint":
                self._check_signature(row, link, place)
            case "repair" if row.get("status") == "Failure":
                self.bad(
                    self.seq, place, f"the writer found a loss before this row: {row.get('status_detail')}"
                )
            case "repair":
                self.notes.append(f"row {self.seq}: the writer says: {row.get('status_detail')}")
            case "purge":
                self.purges.append((link.seq, _whole((row.get("facts") or {}).get("first"))))

    def _check_signature(self, row: Mapping[str, Any], link: Link, place: str) -> None:
        point = Checkpoint(
            size=_whole(row.get("size")), head=str(row.get("head")), time=str(row.get("time_dt")),
            policy_set=str(row.get("policy_set")),
        )  # fmt: skip
        key = self.keys.get(str(row.get("key")))
        if key is None:
            self.bad(self.seq, place, f"the checkpoint is signed by the key {row.get('key')}, not by yours")
        elif (point.size, point.head) == (link.seq - 1, link.prev) and is_signed(
            point, str(row.get("signature")), key
        ):
            self.signed_before, self.signed, self.signed_at = self.signed, self.seq, point.time
        else:
            since = self.signed + 1
            self.bad(since, place, f"the checkpoint does not sign rows {since} to {self.seq - 1}")


def verify(folder: Path, public_keys: Iterable[Path], *, anchors: Iterable[Path] = ()) -> Verification:
    """Verify the audit log in a folder, which needs no repository and no state.

    `public_keys` are files of the public keys that signed it, and `anchors` are files with lines of it that
    were kept elsewhere. Raise ConfigError for a folder or a key that cannot be read, and for the
    folder around the log of an export.
    """
    keys = dict(_keys_of(public_keys))
    state = _State(keys, dict(_anchors_of(anchors)))
    before = _head_in(folder)
    if before is None and not segments_of(folder) and (folder / _LOG / HEAD).is_file():
        raise ConfigError(
            f"{folder} is an export, and its log is the folder {_LOG} in it",
            hint=f"workbench audit verify {shlex.quote(str(folder / _LOG))} --public-key …",
        )
    state.expected = before.seq if before is not None else 0
    for path in segments_of(folder):
        _read_segment(state, path)
    _check_begin(state)
    after = _head_in(folder)
    if before is None or after is None or before == after:
        _check_end(state, folder, after)
    else:  # rows were added while they were read
        _check_growth(state, before)
    for seq in sorted(seq for seq in state.anchors if seq > state.seq):
        state.bad(state.seq + 1, "the end", f"the log ends before row {seq}, which was kept elsewhere")
        break
    if not state.problems and state.seq - state.signed > (_MOST_UNSIGNED if state.signed else 0):
        since = max(state.signed + 1, state.first.seq if state.first else 1)
        state.bad(since, "the signatures", f"no checkpoint signs rows {since} to {state.seq}")
    state.problems.sort(key=lambda problem: problem.row)
    return Verification(
        folder=str(folder), rows=state.rows, first=state.first.seq if state.first else 0, last=state.seq,
        signed=state.signed, signed_at=state.signed_at, head=state.digest,
        problems=tuple(state.problems), notes=tuple(state.notes),
    )  # fmt: skip


def _read_segment(state: _State, path: Path) -> None:
    """Check the lines of a segment; what is no file of lines is a problem."""
    if not path.is_file() or path.is_symlink():
        state.bad(state.seq + 1, path.name, "it is not a regular file")
        return
    for n, line in enumerate(lines_in(path), start=1):
        if state.torn:
            state.bad(state.seq + 1, state.torn, "the line is incomplete")
            state.torn = ""
        if line.endswith(b"\n"):
            state.take(line[:-1], f"{path.name}:{n}")
        else:
            state.torn, state.torn_bytes = f"{path.name}:{n}", len(line)


def _check_begin(state: _State) -> None:
    """Check that the log begins with its first row, or where a purge says."""
    if state.first is None:
        state.bad(1, "the folder", "there is no intact row")
    elif state.first.seq > 1 and not any(
        state.first.seq <= begin and row < state.signed for row, begin in state.purges
    ):  # a purge that was interrupted leaves later rows than it states
        missing = f"rows 1 to {state.first.seq - 1} are missing"
        state.bad(1, "the beginning", f"{missing}, and no purge is stated in a signed row")
    elif state.first.seq == 1 and state.first.prev != GENESIS:
        state.bad(1, "the beginning", "the first row does not begin a log")


def _head_in(folder: Path) -> Head | None:
    try:
        return Head.parse(files.read_bytes(folder / HEAD, limit=_MOST_KEY))
    except FileNotFoundError:
        return None


def _check_growth(state: _State, before: Head) -> None:
    """Check that a log to which rows were added has all rows that it had."""
    if state.met != before.digest and before.seq:
        state.bad(before.seq, HEAD, f"row {before.seq} is not the one that the log ended with")
    state.torn = ""  # a row that was being written
    state.notes.append(f"rows were added meanwhile: what follows row {before.seq} is verified in part")


def _check_end(state: _State, folder: Path, head: Head | None) -> None:
    """Compare the last row with the file of the log's end, which a killed writer may leave one row behind."""
    if head is None:
        state.bad(state.seq, HEAD, "the file of the log's end is missing or damaged")
    elif state.torn and _size(folder / head.segment) <= head.size:
        state.bad(state.seq + 1, state.torn, "the line is incomplete: the log was cut")
    elif head.seq > state.seq:
        rows = (
            f"row {head.seq} is" if head.seq == state.seq + 1 else f"rows {state.seq + 1} to {head.seq} are"
        )
        state.bad(state.seq + 1, "the end", f"{rows} missing: the log was cut")
    elif head.seq == state.seq and state.digest and head.digest != state.digest:
        state.bad(state.seq, HEAD, "the last row is not the one that the log ended with")
    elif state.seq - head.seq > 1:
        state.bad(head.seq + 1, HEAD, f"{state.seq - head.seq} rows follow the end of the log")
    elif head.seq == state.seq and not state.problems and not _fits(state, folder, head):
        state.bad(state.seq, HEAD, "the file of the log's end was changed: it does not fit the last segment")
    if head is not None and state.torn and not state.problems:
        state.notes.append(f"{state.torn}: a killed writer left a torn row, which it never acknowledged")


def _fits(state: _State, folder: Path, head: Head) -> bool:
    """Return whether a head that names the last row names its segment, its end and its signature too."""
    signed = {state.signed, state.signed_before} if state.signed == state.seq else {state.signed}
    size = _size(folder / head.segment)
    last = [path.name for path in segments_of(folder) if _size(path)][-1:]
    begun = head.size == 0 and (folder / head.segment).is_file()  # no row is in it yet
    at_end = [head.segment] == last and head.size == size - (state.torn_bytes if state.torn else 0)
    return head.signed in signed and (begun or at_end)


def _keys_of(paths: Iterable[Path]) -> Iterator[tuple[str, Ed25519PublicKey]]:
    for path in paths:
        key = public_key(_read(path, limit=_MOST_KEY), where=str(path))
        yield key_id_of(key), key


def _anchors_of(paths: Iterable[Path]) -> Iterator[tuple[int, str]]:
    for path in paths:
        for n, line in enumerate(filter(None, _read(path, limit=_MOST_ANCHOR).split(b"\n")), start=1):
            link = link_of(line)
            if link is None:
                raise ConfigError(
                    f"{path}:{n} is no intact row of an audit log", hint="keep rows as export writes them"
                )
            yield link.seq, link.digest


def _read(path: Path, *, limit: int) -> bytes:
    try:
        return files.read_bytes(path, limit=limit)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=f"ls {path.parent}") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1
