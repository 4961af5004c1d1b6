"""The outbox of the ledger: notices posted once, and their delivery to each channel."""

# ruff: noqa: S608 - only names of tables and columns are put in; values are bound
from __future__ import annotations

import datetime as dt
from typing import Any

import orjson

from workbench.jobs.ledger.port import PendingDelivery, PostedNotice
from workbench.jobs.ledger.transactions import LedgerTransaction, Transactions, packed, time_of, utc

#: Longer than every pause between two tries of a channel.
_LONGEST = dt.timedelta(hours=2)
_POST = (
    "INSERT INTO notices (key, job, event, payload, channels, posted_at) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_ADDRESS = (
    "INSERT INTO deliveries (key, channel, state, tries, not_before, detail)"
    " VALUES (?, ?, 'pending', 0, ?, '') ON CONFLICT DO NOTHING"
)
_DUE = (
    "SELECT notices.*, channel, tries, detail FROM deliveries JOIN notices ON notices.key = deliveries.key"
    " WHERE state = 'pending' AND (not_before <= ? OR not_before > ?) ORDER BY number, channel LIMIT ?"
)
_LEASE = (
    "UPDATE deliveries SET not_before = ? WHERE key = ? AND channel = ? AND state = 'pending'"
    " AND (not_before <= ? OR not_before > ?)"
)
_DELIVERED = "UPDATE deliveries SET state = 'delivered', detail = ? WHERE key = ? AND channel = ?"
_FAILED = (
    "UPDATE deliveries SET state = ?, tries = tries + 1, not_before = ?, detail = ?"
    " WHERE key = ? AND channel = ? AND state = 'pending'"
)
_SETTLED = (
    "posted_at < ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.key = notices.key"
    " AND deliveries.state = 'pending')"
)


class Outbox(Transactions):
    """The part of a ledger about notices."""

    def post(self, notice: PostedNotice) -> bool:
        """Put a notice into the outbox; return False when its key was posted before."""
        with self._write() as db:
            now, payload = db.now.isoformat(), packed(notice.payload)
            values = (notice.key, notice.job, notice.event, payload, packed(notice.channels), now)
            if not db.execute(_POST, *values).rowcount:
                return False
            for channel in notice.channels:
                db.execute(_ADDRESS, notice.key, channel, now)
            return True

    def notices(self, job: str | None = None, *, limit: int = 50) -> list[PostedNotice]:
        """Return the newest notices of a job or of all jobs, the last posted first."""
        where, values = ("", ()) if job is None else (" WHERE job = ?", (job,))
        query = f"SELECT * FROM notices{where} ORDER BY number DESC LIMIT ?"
        return self._readable("notices", self._rows(query, *values, limit), posted_notice)

    def undelivered(self, limit: int = 50) -> list[PendingDelivery]:
        """Return the deliveries that are due, the oldest notice first."""
        with self._look() as db:
            rows = db.rows(_DUE, *_due_at(db.now), limit) if db else []
        return self._readable("notices", rows, _pending)

    def lease_delivery(self, key: str, channel: str, until: dt.datetime) -> bool:
        """Keep a due delivery from other processes until a time; return False when it is not due any more."""
        with self._write() as db:
            return bool(db.execute(_LEASE, utc(until), key, channel, *_due_at(db.now)).rowcount)

    def delivered(self, key: str, channel: str, detail: str = "") -> None:
        """Note that a channel was given a notice."""
        with self._write() as db:
            db.execute(_DELIVERED, detail, key, channel)

    def failed_delivery(self, key: str, channel: str, detail: str, not_before: dt.datetime | None) -> None:
        """Count a failed try; the next is due at `not_before`, or never when it is None."""
        with self._write() as db:
            state = "failed" if not_before is None else "pending"
            db.execute(_FAILED, state, utc(not_before or db.now), detail, key, channel)


def _due_at(now: dt.datetime) -> tuple[str, str]:
    """Return the time until which, and that after which, a delivery is due.

    No pause is longer than `_LONGEST`, so a later time is of before the clock was set back.
    """
    return now.isoformat(), (now + _LONGEST).isoformat()


def delete_settled(db: LedgerTransaction, before: dt.datetime) -> None:
    """Delete the notices posted before a time that no channel waits for, with their deliveries."""
    db.execute(f"DELETE FROM notices WHERE {_SETTLED}", utc(before))
    db.execute("DELETE FROM deliveries WHERE key NOT IN (SELECT key FROM notices)")


def posted_notice(row: Any) -> PostedNotice:
    """Return a row of the table `notices` as a value; an error for one that no workbench wrote."""
    payload, channels = orjson.loads(row["payload"]), orjson.loads(row["channels"])
    if not isinstance(payload, dict) or not isinstance(channels, list):
        raise TypeError("payload or channels is JSON of another form")
    return PostedNotice(
        key=row["key"], job=row["job"], event=row["event"], payload=payload,
        channels=tuple(map(str, channels)), posted_at=time_of(row["posted_at"]),
    )  # fmt: skip


def _pending(row: Any) -> PendingDelivery:
    return PendingDelivery(
        notice=posted_notice(row), channel=row["channel"], tries=row["tries"], detail=row["detail"]
    )
