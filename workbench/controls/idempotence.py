"""Idempotence of a slot: a repeat of a job's slot does not write into a memory a second time.

The place of a write is the slot, the memory, its tenant, the case and the number of the write in that case.
The slot comes from the runner, never from the notebook. Before a write its place is noted, afterwards its
result. A repeat that is given the same at a place gets the noted result, and the store is not asked. One that
is given something else, because another version or input runs the slot, replaces what the run before wrote
there. A kill between the store's answer and the note repeats the write: the ids of remembered items derive
from the place, so the store finds them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

from workbench import files
from workbench.context import current_invocation, instant
from workbench.controls.position import WRITES, Position
from workbench.errors import CorruptError
from workbench.ports import Added, Call, Forgotten, Handler, Purged, Remembered, Selector, written_id
from workbench.records.slot_writes import SlotWrite, SlotWrites
from workbench.types import Event, Item

#: Inside of access, which demands the principal's own stamps of an item: the ids of a slot replace them.
#: Staged documents are invisible and named by their content; only their publication is an effect.
POSITION: Final = Position(
    name="idempotence", operations=WRITES - {"memory.stage"}, after=("access",), before=("output",)
)
_RESULTS: Final[Mapping[str, type[Any]]] = {
    "add": Added, "publish": Added, "remember": Remembered, "forget": Forgotten, "purge": Purged,
    "hold": int, "release": int,
}  # fmt: skip
#: Arguments and fields of items that the time of the run decides, and vectors, which follow from the text.
_TIMED: Final = frozenset({"now", "budget", "restored"})
_DERIVED: Final = frozenset({"id", "created", "expires", "vector"})
#: The case of a write: its memory and tenant, and the task's case.
_Line = tuple[str, ...]


class Idempotence:
    """Makes the memory writes of the slot `slot` once, whatever runs it and however often.

    `writes` is the log of the slot. `keyed` returns a digest of a tenant's texts that only this repository
    can compute: the log and the stores name neither cases nor texts.
    """

    def __init__(self, slot: str, *, writes: SlotWrites, keyed: Callable[..., str]) -> None:
        self._slot, self._writes, self._keyed = slot, writes, keyed
        self._counts: Counter[_Line] = Counter()
        #: The cases in which this run was given something else than the run before.
        self._changed: set[_Line] = set()

    def applies(self, call: Call) -> bool:
        """Return whether a call writes: a dry run does not."""
        return not call.payload.get("dry_run")

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass a write on once; yield its noted result when the slot has made it before."""
        line, number = self._place(call)
        place = self._digest(line, number)
        call, ids = self._named(call, place)
        given, known = self._given(call), self._writes.found(place)
        if known is not None and known.given != given:
            self._changed.add(line)
            self._make_again(line, number + 1)
        if known is not None and known.result is not None and line not in self._changed:
            call.span.note(source="slot")
            yield Event(data=_result(call.operation, known.result))
            return
        if known is not None and known.ids and line in self._changed:
            await _forget(call, proceed, known.ids)
        self._writes.put(place, SlotWrite(given=given, ids=ids))
        async for event in proceed(call):
            done = event.data
            if ids:
                done = dataclasses.replace(done, ids=tuple(item.id for item in call.payload["items"]))
            self._writes.put(place, SlotWrite(given=given, ids=ids, result=_plain(done)))
            yield Event(data=done)

    def _make_again(self, line: _Line, number: int) -> None:
        """Note that the results of a case's writes from `number` on do not hold: an earlier one is replaced.

        A repeat of this run makes them again too, when this one is killed before it does.
        """
        while (known := self._writes.found(place := self._digest(line, number))) is not None:
            if known.result is not None:
                self._writes.put(place, dataclasses.replace(known, result=None))
            number += 1

    def _place(self, call: Call) -> tuple[_Line, int]:
        """Return the case of a write, and its number in that case."""
        made, context = current_invocation(), call.context
        case = (made.case, made.task, str(made.repeat)) if made is not None else ("", "", "")
        line = (context.use_case, call.target, str(call.identity.get("version", "")), context.tenant, *case)
        number = self._counts[line]
        self._counts[line] += 1
        return line, number

    def _digest(self, line: _Line, number: int) -> str:
        """Return the digest of the place of a write."""
        tenant = line[3]
        return self._keyed(tenant, "slot-write", self._slot, *line, str(number))

    def _named(self, call: Call, place: str) -> tuple[Call, tuple[str, ...]]:
        """Return the call with ids of the place for its generated ones, and these ids.

        Ids that the caller chose stay: writing them again changes nothing.
        """
        if call.operation != "remember":
            return call, ()
        tenant, items = call.context.tenant, list(call.payload["items"])
        names = {
            item.id: self._keyed(tenant, "slot-item", place, str(n))
            for n, item in enumerate(items)
            if item.id == written_id(tenant, item)
        }
        made = [
            dataclasses.replace(
                item, id=names.get(item.id, item.id), parents=tuple(names.get(p, p) for p in item.parents)
            )
            for item in items
        ]
        return dataclasses.replace(call, payload={**call.payload, "items": made}), tuple(names.values())

    def _given(self, call: Call) -> str:
        """Return the digest of what a write is given, without what differs in each run."""
        told = {name: _told(value) for name, value in call.payload.items() if name not in _TIMED}
        text = files.canonical({"verb": call.operation, **told}).decode()
        return self._keyed(call.context.tenant, "slot-given", text)


def _told(value: Any) -> Any:
    """Return an argument as JSON; documents by their ids, which are digests of their content."""
    if isinstance(value, Item):
        if value.kind == "document":
            return value.id
        fields = dataclasses.asdict(dataclasses.replace(value, vector=()))
        return {name: item for name, item in fields.items() if name not in _DERIVED}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_told(item) for item in value] if isinstance(value, list | tuple) else value


async def _forget(call: Call, proceed: Handler, ids: Sequence[str]) -> None:
    """Remove the items that the run before wrote at the place."""
    payload = {"what": Selector(ids=tuple(ids)), "now": instant(call.context.clock.now())}
    async for _ in proceed(dataclasses.replace(call, operation="forget", payload=payload)):
        pass


def _plain(done: Any) -> Any:
    return done if isinstance(done, int) else dataclasses.asdict(done)


def _result(verb: str, noted: Any) -> Any:
    """Return the result of a verb from its JSON; CorruptError for a changed log."""
    kind = _RESULTS[verb]
    try:
        if kind is int:
            return int(noted)
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in noted.items()})
    except (AttributeError, TypeError, ValueError):
        raise CorruptError(
            f"the log of the slot's memory writes has no result of {verb!r} where one belongs",
            hint="it was changed by hand: restore .workbench/state/job-writes from a backup",
        ) from None
