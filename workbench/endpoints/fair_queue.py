"""The calls in flight to one endpoint and those that wait, ordered so that no tenant starves another."""

from __future__ import annotations

import bisect
import heapq
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from workbench.endpoints.rates import MINUTE_S, EndpointLimits, Rates

#: Calls in flight from which on one is kept free for a tenant that has none.
_SPARE_FROM: Final = 4
#: Seconds by which a timer may be late.
_TIMER_S: Final = 0.001
#: Tenants whose finish times are kept, the latest ones, when twice as many have one.
_MOST_TENANTS: Final = 1000


class Ticket:
    """A call's place in the queue. `wake` is called from any thread when the ticket should look again.

    `wake` returns False when nobody waits any more.
    """

    __slots__ = ("cost", "gone", "granted", "number", "start", "tenant", "tokens", "until", "wake")

    def __init__(self, tenant: str, tokens: int) -> None:
        self.tenant, self.tokens = tenant, tokens
        self.granted = self.gone = False
        self.start = self.cost = 0.0
        self.number = 0
        #: When its own timer wakes it, if it waits for a rate.
        self.until = float("inf")
        self.wake: Callable[[], bool] = _awake

    def __lt__(self, other: Ticket) -> bool:
        return (self.start, self.number) < (other.start, other.number)


def _awake() -> bool:
    return True


class FairQueue:
    """Start-time fair queueing of tenants (Goyal, Vin and Cheng, 1996), over rates and calls in flight.

    Each call costs its tenant the time that the scarcest rate needs for it. The call with the earliest
    virtual start goes first, so a tenant that asks little passes one that asks much. While two tenants call,
    one that is ahead of its share leaves the last free place, and the last request that may start at once, to
    the others. A tenant has at most `most` waiting calls. All methods may be called from any thread.
    """

    def __init__(self, limits: EndpointLimits, rates: Rates, *, most: int = 1000) -> None:
        self.limits = limits
        self.rates = rates
        self.most = most
        self.in_flight = 0
        self._lock = threading.RLock()  # a collected coroutine may leave while another call is entered
        self._heap: list[Ticket] = []
        self._waiting: Counter[str] = Counter()
        self._waiting_tokens = 0
        #: Start and number of each waiting ticket, sorted.
        self._line: list[tuple[float, int]] = []
        self._finish: dict[str, float] = {}
        self._virtual = 0.0
        self._number = 0
        #: The last tenant that called, with the time, and the last one besides it.
        self._last = self._other = ("", float("-inf"))
        self._mean_s = 0.0
        self._gone = 0

    @property
    def waiting(self) -> int:
        """The number of waiting calls."""
        return self._waiting.total()

    def enter(self, tenant: str, tokens: int, now: float) -> Ticket | None:
        """Return a ticket, granted if the call may start; None if the tenant has too many waiting calls."""
        ticket = Ticket(tenant, tokens)
        with self._lock:
            if self._heap and self._waiting[tenant] >= self.most:
                return None
            ticket.cost = max(self.rates.gap_s, tokens * self.rates.token_s) or 1.0
            ticket.start = start = max(self._virtual, self._finish.get(tenant, 0.0))
            self._finish[tenant] = start + ticket.cost
            if tenant != self._last[0]:
                self._other = self._last
            self._last = (tenant, now)
            if len(self._finish) > 2 * _MOST_TENANTS:
                late = heapq.nlargest(_MOST_TENANTS, self._finish.items(), key=lambda item: item[1])
                self._finish = dict(late)
            if not self._heap:
                spare = start > self._virtual and self._contested(tenant, now)
                if self._has_place(spare=spare) and not self.rates.take(tokens, now, spare=spare):
                    self._virtual, ticket.granted = start, True
                    self.in_flight += 1
                    return ticket
            self._number += 1
            ticket.number = self._number
            self._waiting[tenant] += 1
            self._waiting_tokens += tokens
            bisect.insort(self._line, (start, ticket.number))
            heapq.heappush(self._heap, ticket)
            self._nudge(self._grant(now), now)
        return ticket

    def poll(self, ticket: Ticket, now: float) -> float | None:
        """Start what may start; return the seconds until the ticket may, None if another event decides."""
        with self._lock:
            wait = self._grant(now)
            if wait is None or self._heap[0] is not ticket:
                self._nudge(wait, now)
                return None
            ticket.until = now + wait
            return wait

    def leave(self, ticket: Ticket, now: float) -> None:
        """Give up a waiting ticket, or a granted one whose call did not start; nothing for one that left."""
        with self._lock:
            if ticket.gone:
                return
            ticket.gone = True
            if ticket.granted:
                self.in_flight -= 1
                self.rates.give_back(ticket.tokens, now)
            else:
                self._forget(ticket)
                finish = self._finish.get(ticket.tenant, 0.0) - ticket.cost
                self._finish[ticket.tenant] = max(self._virtual, finish)
                self._gone += 1
                if 2 * self._gone > len(self._heap):
                    self._heap = [item for item in self._heap if not item.gone]
                    heapq.heapify(self._heap)
                    self._gone = 0
            self._nudge(self._grant(now), now)

    def release(self, ticket: Ticket, now: float, *, used: int | None, seconds: float) -> None:
        """End a call in flight, which took `seconds` and `used` tokens; None is an unknown number."""
        with self._lock:
            self.in_flight -= 1
            self._mean_s += (seconds - self._mean_s) * (0.1 if self._mean_s else 1.0)
            if used is not None and used != ticket.tokens:
                self.rates.give_back(ticket.tokens - used, now)
            if self._heap:
                self._nudge(self._grant(now), now)

    def pause(self, until: float, now: float) -> None:
        """Start no call before `until`."""
        with self._lock:
            self.rates.pause(until, now)

    def wait_s(self, ticket: Ticket, now: float) -> float:
        """Return how long the ticket is expected to wait, in seconds, by the calls before it."""
        with self._lock:
            ahead = bisect.bisect_left(self._line, (ticket.start, ticket.number))
            tokens = ahead * self._waiting_tokens / max(len(self._line), 1)  # those ahead are like all others
            wait = self._grant(now) or 0.0
            wait = max(wait + ahead * self.rates.gap_s, tokens * self.rates.token_s)
            if places := self.limits.concurrent:
                wait = max(wait, ahead // places * self._mean_s)
            return wait

    def _grant(self, now: float) -> float | None:
        """Start the calls that may start; return the seconds that the next one waits for a rate.

        None when none waits, or when it waits for a call in flight to end.
        """
        while self._heap:
            head = self._heap[0]
            if head.gone:
                heapq.heappop(self._heap)
                self._gone -= 1
                continue
            spare = head.start > self._virtual and self._contested(head.tenant, now)
            if not self._has_place(spare=spare):
                return None
            wait = self.rates.take(head.tokens, now, spare=spare)
            if wait > 0:
                return wait
            heapq.heappop(self._heap)
            self._start(head, now)
        return None

    def _nudge(self, wait: float | None, now: float) -> None:
        """Wake the first ticket if it waits for a rate and its own timer is later, or is not set."""
        if wait is not None and now + wait < self._heap[0].until - _TIMER_S:
            self._heap[0].wake()

    def _start(self, ticket: Ticket, now: float) -> None:
        self._virtual = max(self._virtual, ticket.start)
        self._forget(ticket)
        ticket.granted = True
        self.in_flight += 1
        if not ticket.wake():  # its loop has ended
            ticket.gone = True
            self.in_flight -= 1
            self.rates.give_back(ticket.tokens, now)

    def _has_place(self, *, spare: bool) -> bool:
        places = self.limits.concurrent
        if places is None:
            return True
        return self.in_flight < (places - 1 if spare and places >= _SPARE_FROM else places)

    def _contested(self, tenant: str, now: float) -> bool:
        """Return whether another tenant called within the last minute."""
        other, at = self._other if self._last[0] == tenant else self._last
        return bool(other) and now - at < MINUTE_S

    def _forget(self, ticket: Ticket) -> None:
        """Remove the ticket from the counts of waiting calls."""
        self._waiting_tokens -= ticket.tokens
        del self._line[bisect.bisect_left(self._line, (ticket.start, ticket.number))]
        self._waiting[ticket.tenant] -= 1
        if not self._waiting[ticket.tenant]:
            del self._waiting[ticket.tenant]
