"""Retries with full jitter and Retry-After, within one deadline for all attempts."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from workbench.controls.position import MODEL, READS, Position
from workbench.errors import DeadlineError, RateLimitedError, RefusedError, UnavailableError, WorkbenchError
from workbench.ports import Call, Handler
from workbench.types import Event

#: Outside of the limits: each attempt counts against rate limit, circuit breaker and budget. Writes are not
#: retried: a write may have succeeded although its answer is lost.
POSITION: Final = Position(
    name="retry",
    operations=MODEL | READS,
    after=("replay",),
    before=("rate_limit", "circuit_breaker", "budget"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Number of attempts and time limits, in seconds.

    `timeout_s` limits each wait within an attempt: for the first event and between events.
    `deadline_s` limits all attempts and pauses together if the call has no deadline. The pause
    after attempt n is uniform between 0 and `min(longest_s, first_s * 2**(n-1))`, or the server's
    Retry-After if that is longer (full jitter: AWS Architecture Blog, "Exponential
    Backoff And Jitter", 2015).
    """

    attempts: int = 4
    timeout_s: float = 60.0
    deadline_s: float = 300.0
    first_s: float = 0.5
    longest_s: float = 20.0


class Retry:
    """Retries calls that fail with a `retryable` error before the first event of a reply."""

    def __init__(self, policy: RetryPolicy | None = None, *, rng: random.Random | None = None) -> None:
        self._policy = policy or RetryPolicy()
        self._rng = rng or random.Random()  # noqa: S311  for jitter, not security

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on until it is answered or refused, or attempts or time run out."""
        clock = call.context.clock
        began = clock.monotonic()
        if call.deadline is None:
            call = dataclasses.replace(call, deadline=began + self._policy.deadline_s)
        first = call.span.facts.setdefault("first_attempt", began)  # all candidates count from it
        waited, attempts = 0.0, self._policy.attempts if call.retries is None else call.retries + 1
        for number in range(1, attempts + 1):
            child = call.span.attempt(
                candidate=call.target, started_s=round(clock.monotonic() - first, 6), waited_s=waited
            )
            attempt = _Attempt(call, self._policy, child, proceed)
            try:
                async with attempt:
                    while (event := await attempt.next()) is not None:
                        attempt.answering = True
                        yield event
            except WorkbenchError as error:
                last = number == attempts
                if not error.retryable or attempt.answering or last:
                    raise
                waited = self._pause(number, error, call)
            else:
                return
            await clock.sleep(waited)

    def _pause(self, number: int, error: WorkbenchError, call: Call) -> float:
        """Return the seconds until the next attempt; raise DeadlineError if that is after the deadline."""
        policy = self._policy
        wait = self._rng.uniform(0, min(policy.longest_s, policy.first_s * 2.0 ** min(number - 1, 64)))
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            wait = max(wait, error.retry_after_s)
        left = _left(call)
        if wait >= left:
            raise DeadlineError(
                f"{call.target}: attempt {number} failed: {error.message}; the next may start in "
                f"{wait:.1f} s, and only {max(left, 0):.1f} s are left",
                hint="repeat the call later, or with a later deadline",
            ) from error
        return round(wait, 6)


class _Attempt:
    """One attempt with its timeouts and its child record, which gets its outcome when the block ends."""

    def __init__(self, call: Call, policy: RetryPolicy, child: dict[str, Any], proceed: Handler) -> None:
        self._call = call
        self._policy = policy
        self._child = child
        self._proceed = proceed
        self._below: AsyncIterator[Event] | None = None
        self._watch = _WaitLimit()
        self.answering = False
        self._began = call.context.clock.monotonic()
        child.update(outcome="abandoned", error=None)

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if self._below is not None:
                await self._below.aclose()  # type: ignore[attr-defined]
        except BaseException as closing:
            error = closing
            raise
        finally:
            if error is None:
                self._child["outcome"] = "ok"
            elif isinstance(error, Exception | asyncio.CancelledError):
                self._child.update(outcome=_outcome(error), error=type(error).__name__)
            self._watch.close()
            self._child["duration_s"] = round(self._call.context.clock.monotonic() - self._began, 6)

    async def next(self) -> Event | None:
        """Return the next event, or None at the end; raise an error if the wait exceeds its limit."""
        left = _left(self._call)
        if left <= 0:
            raise DeadlineError(
                f"{self._call.target}: the deadline passed before the attempt",
                hint="repeat the call with a later deadline",
            )
        allowed = min(self._policy.timeout_s, left)
        self._watch.begin(allowed)
        self._call.span.timer = self._watch  # time in our own queue is none of the endpoint's
        try:
            if self._below is None:
                self._below = self._proceed(self._call)
            return await self._below.__anext__()
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError:
            if not self._watch.take_back():
                raise
        finally:
            self._watch.end()
        if allowed == left or _left(self._call) <= 0.001:
            raise DeadlineError(
                f"{self._call.target} did not finish before the call's deadline",
                hint="repeat the call with a later deadline, or with a lower max_tokens",
            )
        what = "stopped in the middle of its answer" if self.answering else "sent no answer"
        raise UnavailableError(f"{self._call.target} {what} for {allowed:g} s", hint="repeat the call")


class _WaitLimit:
    """Cancels a task that waits too long, as `asyncio.timeout` does, with one timer for all waits.

    A stream waits for each of its events: to arm and cancel a timer for each takes longer than to read it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None  # while it waits
        self._until = 0.0
        self._fired = False
        self._cancelling = 0

    def begin(self, seconds: float) -> None:
        """Begin a wait of the running task, which may take `seconds`."""
        self._task = task = asyncio.current_task()
        self._cancelling = 0 if task is None else task.cancelling()
        self._until = until = self._loop.time() + seconds
        if self._timer is None or until < self._timer.when():
            self._arm(until)

    def end(self) -> None:
        """End the wait. The timer stays: the next wait moves its end."""
        self._task = None
        if self._fired and self._timer is not None:
            self.close()

    def when(self) -> float | None:
        """Return the end of the wait in the loop's time, or None while it is put off."""
        return None if self._until == math.inf else self._until

    def reschedule(self, when: float | None) -> None:
        """Move the end of the wait, or put it off until it is moved again."""
        self._until = math.inf if when is None else when
        if when is not None and (self._timer is None or when < self._timer.when()):
            self._arm(when)

    def expired(self) -> bool:
        """Return whether the wait took too long."""
        return self._fired

    def take_back(self) -> bool:
        """Return whether this watch, and nobody else, cancelled the task; it takes its cancellation back."""
        return self._fired and self._task is not None and self._task.uncancel() <= self._cancelling

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, until: float) -> None:
        self.close()
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None or self._until == math.inf:
            return
        if self._loop.time() < self._until:
            self._arm(self._until)
        else:
            self._fired = True
            self._task.cancel()


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "refused" if isinstance(error, RefusedError) else "failed"


def _left(call: Call) -> float:
    """Return the seconds until the call's deadline, infinity if it has none."""
    deadline = call.deadline
    return float("inf") if deadline is None else deadline - call.context.clock.monotonic()
