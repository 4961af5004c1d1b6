"""Deliver the notices of the ledger's outbox: each channel once, with growing pauses between failed tries."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench import _sync
from workbench.config.channels import ChannelSettings
from workbench.context import Clock
from workbench.errors import ConfigError, WorkbenchError
from workbench.notices import channels
from workbench.notices.notice import JobNotice

#: Tries of a channel before a notice is given up, and the seconds between the first two and at most.
TRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 8, 30.0, 3_600.0
_AT_ONCE, _BATCH = 4, 50
#: Another process delivers it.
_TAKEN = "taken"


class OutboxNotice(Protocol):
    """A posted notice, as the ledger keeps it."""

    @property
    def key(self) -> str:
        """The notice's key."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """The fields of the notice."""


class DueDelivery(Protocol):
    """A notice that a channel has not been given, and how often that failed."""

    @property
    def notice(self) -> OutboxNotice:
        """The notice."""

    @property
    def channel(self) -> str:
        """The name of the channel."""

    @property
    def tries(self) -> int:
        """The number of failed tries."""


class NoticeOutbox(Protocol):
    """The part of the ledger that deliveries need."""

    def undelivered(self, limit: int = 50) -> Sequence[DueDelivery]:
        """Return the deliveries that are due, the oldest notice first."""

    def lease_delivery(self, key: str, channel: str, until: dt.datetime) -> bool:
        """Keep a due delivery from other processes until a time; return False when it is not due any more."""

    def delivered(self, key: str, channel: str, detail: str = "") -> None:
        """Note that a channel was given a notice."""

    def failed_delivery(self, key: str, channel: str, detail: str, not_before: dt.datetime | None) -> None:
        """Count a failed try; the next is due at `not_before`, or never when it is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """How many deliveries were made, failed and will be tried again, or were given up; `said` says why."""

    made: int = 0
    failed: int = 0
    given_up: int = 0
    said: tuple[str, ...] = ()


def deliver(
    root: Path,
    outbox: NoticeOutbox,
    known: Mapping[str, ChannelSettings],
    *,
    clock: Clock,
    limit: int = _BATCH,
) -> Deliveries:
    """Deliver the notices that are due, and return what became of them."""
    return _sync.run(deliver_async(root, outbox, known, clock=clock, limit=limit))


async def deliver_async(
    root: Path,
    outbox: NoticeOutbox,
    known: Mapping[str, ChannelSettings],
    *,
    clock: Clock,
    limit: int = _BATCH,
) -> Deliveries:
    """Deliver the notices that are due, and return what became of them.

    `known` are the channels by name. One slow channel delays no other, and a failure of one raises nothing:
    it is counted in the outbox, which names the time of the next try.
    """
    due = await asyncio.to_thread(outbox.undelivered, limit)
    room = asyncio.Semaphore(_AT_ONCE)
    ended = await asyncio.gather(*(_deliver(root, outbox, known, item, clock, room) for item in due))
    found = [said for said in ended if said != _TAKEN]
    return Deliveries(
        made=found.count(""),
        failed=sum(1 for said in found if said and not said.startswith("given up")),
        given_up=sum(said.startswith("given up") for said in found),
        said=tuple(said for said in found if said),
    )


async def _deliver(
    root: Path,
    outbox: NoticeOutbox,
    known: Mapping[str, ChannelSettings],
    due: DueDelivery,
    clock: Clock,
    room: asyncio.Semaphore,
) -> str:
    """Deliver one notice to one channel and note it; return "", why it failed, or `_TAKEN`."""
    key, tries = due.notice.key, due.tries + 1
    async with room:
        until = clock.now() + dt.timedelta(seconds=2 * channels.LIMIT_S)
        if not await asyncio.to_thread(outbox.lease_delivery, key, due.channel, until):
            return _TAKEN
        try:
            notice = JobNotice.of_payload(due.notice.payload, key=key)
            channel = known.get(due.channel)
            if channel is None:
                raise ConfigError(f"channel {due.channel} is not in operations.yaml any more")
            await channels.send(root, due.channel, channel, notice, environment=os.environ)
        except WorkbenchError as error:
            last = tries >= TRIES
            said = f"{'given up: ' if last else ''}{error.message}"
            when = None if last else clock.now() + dt.timedelta(seconds=pause_s(tries))
            await asyncio.to_thread(outbox.failed_delivery, key, due.channel, said, when)
            return said
        await asyncio.to_thread(outbox.delivered, key, due.channel)
        return ""


def pause_s(tries: int) -> float:
    """Return the seconds before the next try after this number of failed ones."""
    return min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S)
