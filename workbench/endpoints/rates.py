"""The rates of an endpoint: requests and tokens a minute, also shared by the processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import files
from workbench.errors import WorkbenchError

#: The length of the window that limits are stated for, in seconds.
MINUTE_S: Final = 60.0
#: The share of a minute's requests that may start at once.
_BURST: Final = 20
#: Remaining seconds below which a wait is over: the rounding of floats.
_ROUNDING_S: Final = 1e-9
#: No stated time lies further ahead, in seconds; a further one comes from another clock.
_HORIZON_S: Final = 3600.0
#: The boot of the machine, and the times of `Rates` in monotonic seconds since that boot.
_FORMAT: Final = struct.Struct("<8sddd")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """The stated limits of one endpoint, None where none is stated.

    `url` and `model` name the endpoint. `concurrent` is the number of calls in flight.
    """

    url: str
    model: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    @property
    def stated(self) -> bool:
        """Whether any limit is stated."""
        return any((self.requests_per_minute, self.tokens_per_minute, self.concurrent))

    @property
    def key(self) -> str:
        """The name of the endpoint's files of state."""
        return key_of(self.url, self.model)


def key_of(url: str, model: str) -> str:
    """Return the name of an endpoint's files of state: 16 hexadecimal digits."""
    return hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()[:16]


class Rates:
    """Two buckets, kept as the times at which they are full again (the generic cell rate algorithm).

    At most `requests_per_minute` requests start within any minute, a twentieth of them at once. The bucket of
    tokens holds a minute's tokens and fills continuously; a request of more tokens waits for a full bucket.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, limits: EndpointLimits) -> None:
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        burst = max(1, (requests or 0) // _BURST)
        self.gap_s = MINUTE_S / (requests - burst + 1) if requests else 0.0
        self.token_s = MINUTE_S / tokens if tokens else 0.0
        self._early_s = (burst - 1) * self.gap_s
        self._requests_full = self._tokens_full = self._paused = 0.0

    def take(self, tokens: int, now: float, *, spare: bool = False) -> float:
        """Take one request and its tokens and return 0, or take nothing and return the seconds to wait.

        With `spare`, the last request that may start at once stays in the bucket.
        """
        self._begin(now)
        try:
            wait = self._wait(tokens, now, spare=spare)
            if wait > _ROUNDING_S:
                return wait
            if self.gap_s:
                self._requests_full = max(self._requests_full, now) + self.gap_s
            if self.token_s:
                full = max(self._tokens_full, now) + tokens * self.token_s
                self._tokens_full = min(full, now + _HORIZON_S)
            return 0.0
        finally:
            self._end()

    def give_back(self, tokens: int, now: float) -> None:
        """Return reserved tokens that were not used; a negative number takes more."""
        if self.token_s and tokens:
            self._begin(now)
            try:
                full = max(self._tokens_full, now) - tokens * self.token_s
                self._tokens_full = max(full, now)
            finally:
                self._end()

    def pause(self, until: float, now: float) -> None:
        """Let nothing start before `until`, for an hour at most."""
        self._begin(now)
        try:
            self._paused = max(self._paused, min(until, now + _HORIZON_S))
        finally:
            self._end()

    def close(self) -> None:
        """Close nothing; a shared bucket closes its file."""

    def _wait(self, tokens: int, now: float, *, spare: bool) -> float:
        wait = self._paused - now
        if self.gap_s:
            early = self._early_s - self.gap_s if spare and self._early_s else self._early_s
            wait = max(wait, self._requests_full - early - now)
        if self.token_s:
            asked_s = min(tokens * self.token_s, MINUTE_S)
            wait = max(wait, max(self._tokens_full, now) + asked_s - MINUTE_S - now)
        return wait

    def _begin(self, now: float) -> None:
        """Read the state; a subclass locks it."""

    def _end(self) -> None:
        """Write the state; a subclass unlocks it."""


class SharedRates(Rates):
    """The rates in a small file that every process of this machine maps: a call costs some microseconds.

    The file is locked during each change, and a killed process loses its lock. A file of an earlier boot
    begins anew. Raises OSError when the file cannot be opened.
    """

    def __init__(self, limits: EndpointLimits, path: Path) -> None:
        super().__init__(limits)
        self._path = path
        self._pid = 0
        self._file = -1
        self._map: mmap.mmap | None = None
        self._open()

    def close(self) -> None:
        """Unmap and close the file."""
        if self._map is not None:
            self._map.close()
            os.close(self._file)
            self._map = None

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()

    def _open(self) -> mmap.mmap:
        """Map the file; after a fork again, because parent and child would share the lock."""
        files.make_folder(self._path.parent)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < _FORMAT.size:
            os.ftruncate(self._file, _FORMAT.size)
        self._map, self._pid, self._boot = mmap.mmap(self._file, _FORMAT.size), os.getpid(), _boot()
        return self._map

    def _begin(self, now: float) -> None:
        shared = self._map
        if shared is None or self._pid != os.getpid():
            shared = self._open()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        boot, requests, tokens, paused = _FORMAT.unpack_from(shared)
        # No time is more than an hour ahead; a damaged file may also hold NaN.
        latest = now + _HORIZON_S if boot == self._boot else float("-inf")
        self._requests_full = requests if requests <= latest else 0.0
        self._tokens_full = tokens if tokens <= latest else 0.0
        self._paused = paused if paused <= latest else 0.0

    def _end(self) -> None:
        assert self._map is not None  # noqa: S101  `_begin` mapped it
        times = (self._requests_full, self._tokens_full, self._paused)
        _FORMAT.pack_into(self._map, 0, self._boot, *times)
        fcntl.flock(self._file, fcntl.LOCK_UN)


def open_rates(limits: EndpointLimits, folder: Path) -> Rates:
    """Return the endpoint's rates, shared through a file in `folder`; unshared if that cannot be written."""
    if not (limits.requests_per_minute or limits.tokens_per_minute):
        return Rates(limits)
    try:
        return SharedRates(limits, folder / f"{limits.key}.rates")
    except (OSError, WorkbenchError):
        return Rates(limits)


def _boot() -> bytes:
    """Return eight bytes that name this boot of the machine, zeros where the system does not say."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return bytes(8)
    return hashlib.sha256(text).digest()[:8]
