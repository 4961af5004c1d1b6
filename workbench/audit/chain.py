"""The writer of the audit log: appends rows to its segments, shared by processes, and signs checkpoints.

`head.json` holds the end of the log; its lock excludes other writers. A row is written before the head, and
before the call or act that it is of is acknowledged, so a kill loses no acknowledged row. What a writer finds
torn or missing it repairs or bridges, and a row of the log says so: the log never hides a loss.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from workbench import files, locking
from workbench.audit.lines import GENESIS, HEAD, HEAD_BYTES, Head, line_of, segment_name
from workbench.audit.repair import following, rebuilt, recovered
from workbench.audit.signing import Checkpoint, Signer
from workbench.context import Clock, SystemClock
from workbench.errors import WorkbenchError
from workbench.layout import AUDIT, AUDIT_KEYS

_log: Final = logging.getLogger(__name__)
#: Seconds between two looks whether the log is still there, before calls.
_LOOK_S: Final = 1.0
_EMPTY: Final = Head(segment="", size=0, seq=0, digest=GENESIS, signed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOptions:
    """How the audit log is written.

    `fsync` is when rows reach the disk: "each" before a row is acknowledged, "batch" within `batch_s`
    seconds, or "off" when the system chooses. Rows that a process acknowledged survive its kill in each
    case; "batch" and "off" may lose the last ones with the machine. A checkpoint is signed after `rows` rows
    or `seconds` seconds, and when the log is closed. A segment ends at `segment_bytes` and at the end of its
    day.
    """

    fsync: Literal["each", "batch", "off"] = "batch"
    batch_s: float = 0.1
    rows: int = 256
    seconds: float = 5.0
    segment_bytes: int = 16 << 20


class _Files:
    """The open files of a log, of this process: the head, and the open segment."""

    __slots__ = ("head", "inode", "name", "pid", "segment")

    def __init__(self, head: int) -> None:
        status = os.fstat(head)
        self.pid, self.head, self.inode = os.getpid(), head, (status.st_dev, status.st_ino)
        self.segment, self.name = -1, ""

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.head)
        if self.segment >= 0:
            os.close(self.segment)


class Chain:
    """Appends rows to the audit log in a folder, safe across threads and processes.

    The first row creates the folder. A thread syncs and signs in the background and ends when all is signed.
    """

    def __init__(
        self,
        folder: Path,
        keys: Path,
        options: ChainOptions | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.folder, self.keys = folder, keys
        self._options, self._clock = options or ChainOptions(), clock or SystemClock()
        self._mutex = threading.RLock()
        self._head_path = str(folder / HEAD)
        self._files: _Files | None = None
        self._head, self._raw = _EMPTY, b""
        self._policy_set = ""
        self._look_at = 0.0
        self._dirty = False
        self._unsigned_since: float | None = None
        self._flusher: threading.Thread | None = None
        self._stop = threading.Event()
        _chains.add(self)

    def open(self) -> None:
        """Open or create the log; raise UnavailableError when it cannot be written."""
        now = time.monotonic()
        if now < self._look_at and self._files is not None and self._files.pid == os.getpid():
            return  # a call looked a moment ago, and each row looks again
        if not self._is_current():
            with self._mutex, files.writing(self.folder):
                self._reopen()
        self._look_at = now + _LOOK_S

    def append(self, row: Mapping[str, Any], *, durable: bool = False) -> int:
        """Append a row and return its number; raise UnavailableError when it cannot be written.

        `row` has its time as `time_dt`. A `durable` row is on the disk when this returns.
        """
        copies: tuple[int, ...] = ()
        with self._mutex, files.writing(self.folder):
            opened = self._exclusive()
            try:
                head = self._written(opened, self._current(opened), row)
                if durable or self._options.fsync == "each":
                    copies = (os.dup(opened.segment),)
                else:
                    self._dirty = True
            finally:
                locking.release(opened.head)
            decision = row.get("decision") or {}
            self._policy_set = decision.get("policy_set") or self._policy_set
            if self._unsigned_since is None:
                self._unsigned_since = time.monotonic()
            if self._flusher is None:
                self._start()
        if copies:
            with files.writing(self.folder):
                _sync(copies)
        return head.seq

    def checkpoint(self) -> int | None:
        """Sign the rows so far, and return the number of the checkpoint's row; None when all are signed.

        Raise ConfigError for a wrong key.
        """
        if not os.path.exists(self._head_path):  # noqa: PTH110  asked often, and a Path takes longer
            return None
        signer = self._signer
        with files.writing(self.folder):
            with self._mutex:
                opened = self._exclusive()
                try:
                    signed = self._sign(opened, signer)
                    copies = (os.dup(opened.segment), os.dup(opened.head)) if signed else ()
                finally:
                    locking.release(opened.head)
            _sync(copies)
        return signed

    def close(self) -> None:
        """Sign and sync what is written, and close the files; a later row opens them again."""
        with self._mutex:
            self._stop.set()
            self._flusher = None  # the next row starts another, also if this one has not ended yet
        if self._unsigned_since is not None or self._dirty:
            self._flush(last=True)
        self._release()

    # -- files ----------------------------------------------------------------------------------

    def _is_current(self) -> bool:
        """Return whether the open head is this process's, and is the file at its path."""
        opened = self._files
        if opened is None or opened.pid != os.getpid():
            return False
        try:
            status = os.stat(self._head_path)  # noqa: PTH116  every call asks, and a Path takes longer
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (status.st_dev, status.st_ino) == opened.inode

    def _reopen(self) -> _Files:
        """Open and return the head, and forget what was open before."""
        self._release()
        files.make_folder(self.folder)
        self._files = _Files(files.open_regular(self.folder / HEAD, os.O_RDWR | os.O_CREAT, 0o600))
        self._raw = b""
        return self._files

    def _release(self) -> None:
        with self._mutex:
            opened, self._files = self._files, None
            if opened is not None and opened.pid == os.getpid():
                opened.close()

    def _exclusive(self) -> _Files:
        """Exclude other writers and return the open files, whose head the caller releases.

        A log that was deleted is created again.
        """
        while True:
            opened = self._files
            if opened is None or opened.pid != os.getpid():
                opened = self._reopen()
            locking.acquire(opened.head)
            try:
                current = self._is_current()
            except BaseException:
                locking.release(opened.head)
                raise
            if current:
                return opened
            locking.release(opened.head)
            self._reopen()

    # -- rows; the caller excludes other writers --------------------------------------------------

    def _current(self, opened: _Files) -> Head:
        """Return the end of the log; repair what a killed writer or another hand left."""
        raw, why, loss = os.pread(opened.head, HEAD_BYTES + 1, 0), "", False
        fresh = not self._raw
        if raw != self._raw or not raw:
            head = Head.parse(raw)
            if head is None:
                head = rebuilt(self.folder) or _EMPTY
                loss = bool(raw or head.seq)
                why = "the file of the log's end was missing or damaged" if loss else ""
            self._head = head
        later: Head | None = self._head if self._head.segment else None
        while later is not None:
            self._head = later
            size = self._segment_size(opened, self._head.segment)
            if size != self._head.size:
                self._head, said, lost = recovered(opened.segment, self._head, size)
                why, loss = why or said, loss or lost
            later = following(self.folder, self._head) if fresh else None
        if why:
            self._written(opened, self._head, self._repair_row(why, loss=loss))
        return self._head

    def _segment_size(self, opened: _Files, name: str) -> int:
        """Return the size of the open segment, which another process may have begun or a user deleted."""
        if opened.name == name:
            status = os.fstat(opened.segment)
            if status.st_nlink:
                return status.st_size
        self._open_segment(opened, name)
        return os.fstat(opened.segment).st_size

    def _open_segment(self, opened: _Files, name: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        descriptor = files.open_regular(self.folder / name, flags, 0o600)
        if opened.segment >= 0:
            os.close(opened.segment)
        opened.segment, opened.name = descriptor, name

    def _written(self, opened: _Files, head: Head, row: Mapping[str, Any]) -> Head:
        """Write a row, then the head, and return the head."""
        line, digest = line_of(row, seq=head.seq + 1, prev=head.digest)
        head = self._with_room(opened, head, str(row["time_dt"])[:10])
        try:
            left = memoryview(line + b"\n")
            while left:
                left = left[os.write(opened.segment, left) :]
        except OSError:
            os.ftruncate(opened.segment, head.size)
            raise
        size = head.size + len(line) + 1
        head = Head(segment=head.segment, size=size, seq=head.seq + 1, digest=digest, signed=head.signed)
        self._keep(opened, head)
        return head

    def _with_room(self, opened: _Files, head: Head, day: str) -> Head:
        """Return the head with the segment that the next row goes to."""
        if head.segment and head.size < self._options.segment_bytes and day <= head.segment[:10]:
            return head
        if opened.segment >= 0:
            os.fsync(opened.segment)
        name = segment_name(day, head.seq + 1)
        self._open_segment(opened, name)
        files.sync_folder(self.folder)
        head = dataclasses.replace(head, segment=name, size=os.fstat(opened.segment).st_size)
        self._keep(opened, head)  # before its first row: the next writer looks there after a kill
        return head

    def _keep(self, opened: _Files, head: Head) -> None:
        self._head, self._raw = head, head.encoded()
        os.pwrite(opened.head, self._raw, 0)

    def _repair_row(self, why: str, *, loss: bool) -> dict[str, Any]:
        status = "Failure" if loss else "Success"
        return {"activity": "repair", "status": status, "status_detail": why, "time_dt": self._now()}

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="microseconds")

    # -- signing and syncing ------------------------------------------------------------------------

    @functools.cached_property
    def _signer(self) -> Signer:
        return Signer.load(self.keys)

    def _sign(self, opened: _Files, signer: Signer) -> int | None:
        """Write a checkpoint unless all rows are signed, and return its number; the caller holds the lock."""
        head = self._current(opened)
        self._unsigned_since = None
        if head.seq == head.signed:
            return None
        head = self._written(opened, head, self._signed(head, signer))
        self._keep(opened, dataclasses.replace(head, signed=head.seq))
        self._dirty = False
        return head.seq

    def _signed(self, head: Head, signer: Signer) -> dict[str, Any]:
        """Return the row of a checkpoint of all rows so far."""
        point = Checkpoint(size=head.seq, head=head.digest, time=self._now(), policy_set=self._policy_set)
        return {
            "activity": "checkpoint", "size": point.size, "head": point.head, "time_dt": point.time,
            "policy_set": point.policy_set, "key": signer.key_id, "signature": signer.sign(point),
        }  # fmt: skip

    def _start(self) -> None:
        """Start the thread that syncs and signs; none can start while the interpreter ends."""
        self._stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._stop,), name="workbench-audit", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._flusher = thread

    def _run(self, stop: threading.Event) -> None:
        """Sync and sign until everything is, then end; the next row starts another thread."""
        while not stop.wait(self._options.batch_s):
            self._flush()
            with self._mutex:
                if self._unsigned_since is None and not self._dirty:
                    if self._flusher is threading.current_thread():
                        self._flusher = None
                        self._release()
                    return

    def _flush(self, *, last: bool = False) -> None:
        """Sync the rows that are not yet, and sign them when it is time; a failure is logged."""
        try:
            if self._dirty:
                self._sync_rows()
            if last or self._is_due():
                self.checkpoint()
        except (OSError, WorkbenchError) as error:
            self._unsigned_since, self._dirty = None, False  # tried again after the next row
            _log.warning("the audit log has rows that no checkpoint signs: %s", error)

    def _sync_rows(self) -> None:
        with self._mutex:
            opened, self._dirty = self._files, False
            wanted = opened is not None and opened.segment >= 0 and self._options.fsync != "off"
            copies = (os.dup(opened.segment),) if opened is not None and wanted else ()
        _sync(copies)

    def _is_due(self) -> bool:
        since, head = self._unsigned_since, self._head
        if since is None:
            return False
        old = time.monotonic() - since >= self._options.seconds
        return old or head.seq - head.signed >= self._options.rows

    def _forked(self) -> None:
        """Forget, in a new child process, the thread and the lock of the parent."""
        opened, self._files = self._files, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()  # a copy would keep the lock of a parent that is killed meanwhile
        self._mutex, self._flusher = threading.RLock(), None
        self._dirty, self._unsigned_since = False, None


@functools.lru_cache(maxsize=64)
def chain_at(home: Path, options: ChainOptions | None = None) -> Chain:
    """Return this process's writer of the audit log below a folder of state."""
    return Chain(home / AUDIT, home / AUDIT_KEYS, options)


def _sync(copies: Sequence[int]) -> None:
    """Write files to the disk, which takes milliseconds, and close these copies of their descriptors."""
    try:
        for copy in copies:
            os.fsync(copy)
    finally:
        for copy in copies:
            os.close(copy)


_chains: weakref.WeakSet[Chain] = weakref.WeakSet()


def _close_all() -> None:
    for chain in list(_chains):
        chain.close()


def _after_fork() -> None:
    for chain in list(_chains):
        chain._forked()  # noqa: SLF001  of this file


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
