"""The circuit breaker of an endpoint: closed, open or half open, by the failures of a sliding window."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from workbench.errors import CircuitOpenError

State = Literal["closed", "open", "half-open"]
#: The parts of the window that are counted together.
_PARTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long; times are in seconds.

    It opens when at least `calls` calls ended within `window_s` and the share `failing` of them failed. It
    stays open for `open_s`, and for twice as long after each failed probe, up to `longest_s`.
    """

    window_s: float = 30.0
    calls: int = 20
    failing: float = 0.5
    open_s: float = 10.0
    longest_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of a breaker's state: when, why, and when the next probe is; times are ISO texts in UTC."""

    state: State
    since: str
    reason: str = ""
    probe_at: str = ""


class Breaker:
    """One endpoint's breaker. Every method may be called from any thread; times are monotonic seconds.

    `changed` receives each transition, outside of the lock.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy | None = None,
        *,
        changed: Callable[[Transition], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._policy = policy or BreakerPolicy()
        self._changed = changed
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._counts = [[0, 0] for _ in range(_PARTS)]  # calls and failures of each part of the window
        self._part = 0
        self._open_s = self._policy.open_s
        self._until = 0.0
        self._probing = False
        self.last = Transition(state="closed", since="")

    @property
    def state(self) -> State:
        """The state of the breaker."""
        return self._state

    def admit(self, now: float) -> bool:
        """Let a call through and return whether it is the probe; raise CircuitOpenError while it is open."""
        if self._state == "closed":  # read without the lock: a call that just passes counts as before
            return False
        with self._lock:
            state = self.state  # it may have changed
            if state == "closed":
                return False
            if state == "open" and now >= self._until:
                self._state, self._probing = "half-open", False
            if self._state == "open" or (self._probing and now < self._until):
                raise self._refusal(now)
            # A probe that hangs makes room for another after the time that the breaker would be open.
            self._probing, self._until = True, now + self._open_s
            return True

    def record(self, now: float, failure: str, *, probe: bool, now_is: Callable[[], dt.datetime]) -> None:
        """Count a call that ended at `now`; `failure` says what failed, and is empty for an answer.

        `now_is` returns the time of the wall clock, for a transition.
        """
        with self._lock:
            changed = self._probed(now, failure, now_is) if probe else self._counted(now, failure, now_is)
        if changed is not None:
            self._changed(changed)

    def forget(self, *, probe: bool) -> None:
        """End a call that says nothing about the endpoint; a probe makes room for another."""
        if probe:
            with self._lock:
                self._probing = False

    def _probed(self, now: float, failure: str, now_is: Callable[[], dt.datetime]) -> Transition | None:
        self._probing = False
        if self._state != "half-open":
            return None
        if failure:
            self._open_s = min(2 * self._open_s, self._policy.longest_s)
            return self._open(now, f"the probe failed: {failure}", now_is())
        self._state, self._open_s = "closed", self._policy.open_s
        self._counts = [[0, 0] for _ in range(_PARTS)]
        self.last = Transition(state="closed", since=_text(now_is()), reason="the probe was answered")
        return self.last

    def _counted(self, now: float, failure: str, now_is: Callable[[], dt.datetime]) -> Transition | None:
        if self._state != "closed":  # a call that began before
            return None
        count = self._current(now)
        count[0] += 1
        if not failure:
            return None
        count[1] += 1
        calls, failed = (sum(part[n] for part in self._counts) for n in (0, 1))
        policy = self._policy
        if calls < policy.calls or failed < policy.failing * calls:
            return None
        why = f"{failed} of {calls} calls failed within {policy.window_s:g} s, the last by {failure}"
        return self._open(now, why, now_is())

    def _current(self, now: float) -> list[int]:
        """Return the counts of the present part of the window, and clear the parts that are over."""
        part = int(now / (self._policy.window_s / _PARTS))
        for passed in range(max(self._part + 1, part - _PARTS + 1), part + 1):
            self._counts[passed % _PARTS] = [0, 0]
        self._part = max(part, self._part)
        return self._counts[self._part % _PARTS]

    def _open(self, now: float, why: str, at: dt.datetime) -> Transition:
        self._state, self._until = "open", now + self._open_s
        probe_at = _text(at + dt.timedelta(seconds=self._open_s))
        self.last = Transition(state="open", since=_text(at), reason=why, probe_at=probe_at)
        return self.last

    def _refusal(self, now: float) -> CircuitOpenError:
        left = max(0.0, self._until - now)
        if self._state == "open":
            when = f"the next probe is in {left:.1f} s"
        else:
            when = f"one probe is being answered, for {left:.1f} s at most"
        return CircuitOpenError(
            f"{self.name} is not asked since {self.last.since}, because {self.last.reason}; {when}",
            hint="ask again after the probe; `workbench doctor` shows the state of endpoints",
            retry_after_s=round(left, 3),
        )


def _text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="seconds")
