"""Seal the request and the answer of a call to a model, for as long as its class of data may be kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Protocol

from workbench import wire
from workbench.content.store import ContentStore
from workbench.ports import Call
from workbench.types import Event


class Keeping(Protocol):
    """The days for which content of a class of data is kept."""

    def days(self, data_class: str) -> int | None:
        """Return the days for a class, "" being content without one; None for content that is not kept."""


class CallContent:
    """Seals the calls of a use case, and removes what is expired once a day.

    Only operations whose answers a model writes are kept.
    """

    def __init__(self, store: ContentStore, keeping: Keeping) -> None:
        self.store, self._keeping = store, keeping
        self._today = dt.date.min

    def applies(self, call: Call) -> bool:
        """Return whether the events of a call are needed."""
        return (
            call.port == "model"
            and (speaks := wire.DIALECTS.get(call.operation)) is not None
            and (speaks.generates)
        )

    def __call__(self, call: Call, events: Sequence[Event]) -> str | None:
        """Seal a call as it was asked and answered, and return the id; None when it is not kept."""
        context = call.context
        data_class = str(call.span.facts.get("data_class") or "")
        days = self._keeping.days(data_class)
        if days is None:
            return None
        now = context.clock.now().astimezone(dt.UTC)
        if now.date() > self._today:
            self._today = now.date()
            self.store.drop_expired(self._today)
        content = {
            "principal": context.principal.name, "operation": call.operation, "request": call.payload,
            "answer": _answer(call, events),
        }  # fmt: skip
        return self.store.seal(
            content,
            subject=context.subject,
            expires=now.date() + dt.timedelta(days=days),
            at=now.isoformat(timespec="microseconds"),
            use_case=context.use_case,
            tenant=context.tenant,
            trace_id=str(call.span.facts.get("trace_id") or ""),
            data_class=data_class,
        )


def _answer(call: Call, events: Sequence[Event]) -> Mapping[str, object] | None:
    return wire.dialect(call.operation).fold(events) if events else None
