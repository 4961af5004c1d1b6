"""Privacy: replaces identifiers and secrets in requests by pseudonyms, and puts them back into answers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from workbench import wire
from workbench.config import DataRules, Destination
from workbench.context import current_invocation
from workbench.controls.position import MODEL, Position
from workbench.errors import ConfigError, PrivacyError, WorkbenchError
from workbench.ports import Call, Handler
from workbench.ports.privacy import DeclaredData, Detection, Detector
from workbench.types import JSON, Event
from workbench.wire.contents import contents, with_contents, without_tokens
from workbench.wire.passages import Replacement, occurrences, replaced
from workbench.wire.pseudonyms import RequestPseudonyms, mask
from workbench.wire.redaction import clean_error
from workbench.wire.restoring import RestoredAnswer

#: Inside of output, which judges the restored answer. Outside of all that keeps or sends a text: checks of
#: moderation may be models, and recordings and caches hold pseudonyms.
POSITION: Final = Position(
    name="privacy", operations=MODEL, after=("output",), before=("moderation", "cache", "replay")
)
#: Operations whose answer has texts.
_ANSWERED: Final = frozenset({"chat", "respond"})
_JSON_FORMS: Final = frozenset({"json_schema", "json_object"})
#: Events of one stream that are searched.
_MOST_EVENTS: Final = 20_000
#: Clean texts that are kept, their most characters, and marks of texts that were seen once.
_MOST_KEPT: Final = 256
_LONGEST_KEPT: Final = 20_000
_MOST_SEEN: Final = 4_096
#: The least characters of a column's value that a request is searched for: shorter ones stand in any text.
_LEAST_VALUE: Final = 4


class PrivacyControl:
    """Applies the rules of data classes to each request for its destination, and to its answer.

    `external` tells whether a target is outside of this process. Without `enforce` the model gets the request
    as it is, and the record says what would have been done; recordings are protected all the same.
    `logged` returns what stands in for a value in errors; by default that is its mask. `columns` are the
    classes of the inputs of cases by their names: while a case is answered, a request that contains the value
    of such a column has its class.
    """

    def __init__(
        self,
        detector: Detector,
        rules: DataRules,
        *,
        external: Callable[[str], bool],
        enforce: bool = True,
        logged: Replacement[Any] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self._detector = _CleanTexts(detector)
        self._columns = columns or {}
        self._logged = logged
        self._rules = rules
        self._external = external
        self._enforce = enforce

    def data_class(self, call: Call) -> str:
        """Return the highest class of data in a request; "" if there is none."""
        return self._rules.highest(self._request(call).classes)

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Pass the call on as its destination may see it; raise PrivacyError if that may see none of it."""
        destination: Destination = "external" if self._external(call.target) else "embedded"
        request = self._request(call)
        call.span.note(privacy={"destination": destination}, findings=dict(request.kinds))
        if request.classes:
            call.span.note(data_class=self._rules.highest(request.classes))
            call = self._passed(call, request, destination)
        if call.operation not in _ANSWERED:
            return proceed(call)
        return self._answer(call, proceed, request, destination)

    def _request(self, call: Call) -> RequestTexts:
        """Return what is found in the request; the candidates of a call and its repair share their texts."""
        before = call.span.recording
        known = before.found if isinstance(before, RequestTexts) else {}
        if isinstance(before, RequestTexts) and before.payload is call.payload:
            return before
        declared = self._declared(call) if self._columns else call.declared
        request = RequestTexts(call.payload, self._detector, self._rules, known, declared=declared)
        call.span.recording = request
        return request

    def _declared(self, call: Call) -> DeclaredData | None:
        """Return what is declared of the call, with the values of the case that is answered."""
        around = current_invocation()
        if around is None:
            return call.declared
        values = tuple(
            (text, name)
            for column, name in self._columns.items()
            for text in _texts_in(around.columns.get(column))
            if len(text) >= _LEAST_VALUE
        )
        return dataclasses.replace(call.declared or DeclaredData(), values=values)

    def _passed(self, call: Call, request: RequestTexts, destination: Destination) -> Call:
        """Return the call as the model may get it."""
        actions = {name: self._rules.action(name, destination) for name in sorted(request.classes)}
        if not self._enforce:
            doing = [f"privacy:{name}:{action}" for name, action in actions.items() if action != "pass"]
            call.span.note(would_refuse=[*call.span.facts.get("would_refuse", ()), *doing])
            return call
        if refused := [name for name, action in actions.items() if action == "refuse"]:
            kinds = sorted(request.kinds_of(refused))
            found = (
                f"found: {', '.join(kinds)}"
                if kinds
                else "a prompt's input, a memory or a column declares it"
            )
            raise PrivacyError(
                f"{call.target}: data of the class {refused[0]!r} may not go to a model of the destination "
                f"{destination!r}; {found}",
                hint=f"remove it from the request, or change data_classes.{refused[0]}.{destination} in "
                "params.yaml",
                kinds=kinds,
                destination=destination,
            )
        payload = request.at(destination)
        return call if payload is call.payload else dataclasses.replace(call, payload=payload)

    async def _answer(
        self, call: Call, proceed: Handler, request: RequestTexts, destination: Destination
    ) -> AsyncGenerator[Event, None]:
        taken: list[Event] = []
        speaks = wire.dialect(call.operation)
        restored = _restored(request, call, speaks) if request.values else None
        streamed = bool(call.payload.get("stream"))
        try:
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    if len(taken) < _MOST_EVENTS:
                        taken.append(event)
                    if restored is None or not request.restores:
                        yield event
                        continue
                    for data in _passed_on(restored, event.data, streamed=streamed):
                        yield Event(data=data)
        except WorkbenchError as error:
            for event in _held(restored):
                yield event
            request.clean(error, self._logged)
            raise
        for event in _held(restored):
            yield event
        with contextlib.suppress(WorkbenchError):  # an odd stream is its reader's
            self._note_answer(call, request, speaks.fold(taken) if len(taken) != 1 else taken[0].data)
        if restored is not None and request.restores:
            call.span.note(privacy={"destination": destination, **restored.counts.facts()})

    def _note_answer(self, call: Call, request: RequestTexts, answer: JSON) -> None:
        found = request.found_in(contents(answer))
        if found:
            classes = request.classes | {request.class_of(item) for item in found}
            kinds = Counter(request.kinds) + Counter(item.kind for item in found)
            call.span.note(findings=dict(kinds), data_class=self._rules.highest(classes))


class _CleanTexts:
    """A detector that searches a text again only if it found something in it, or has seen it once.

    Instructions come with every call. A text in which nothing is found is kept from the second time on.
    """

    def __init__(self, detector: Detector) -> None:
        self._find = detector.find
        self._clean: dict[str, tuple[Detection, ...]] = {}
        self._seen: set[int] = set()

    def find(self, text: str) -> tuple[Detection, ...]:
        """Return what the detector finds."""
        known = self._clean.get(text)
        if known is not None:
            return known
        found = self._find(text)
        if not found and len(text) <= _LONGEST_KEPT:
            self._keep(text)
        return found

    def _keep(self, text: str) -> None:
        mark = hash(text)
        if mark in self._seen:
            self._clean[text] = ()
        self._seen.add(mark)
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        if len(self._clean) > _MOST_KEPT:
            self._clean.clear()


def _texts_in(value: Any) -> Iterable[str]:
    """Yield the texts of a column's value, also those in lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)


def _passed_on(restored: RestoredAnswer, data: Any, *, streamed: bool) -> list[Any]:
    return restored.chunk(data) if streamed else [restored.whole(data)]


def _held(restored: RestoredAnswer | None) -> list[Event]:
    """Return the events of what is still held back of a stream."""
    return [Event(data=data) for data in restored.rest()] if restored is not None else []


def _restored(request: RequestTexts, call: Call, speaks: wire.Dialect) -> RestoredAnswer:
    as_json = speaks.output_format(call.payload)[0] in _JSON_FORMS
    return RestoredAnswer(request.names, as_json=as_json)


class RequestTexts:
    """What is found in the texts of one request, and its forms at the destinations.

    It is the form of the call in recordings, too: see `ports.privacy.RecordingForm`. `values` are what is
    found and what is declared. `restores` is whether the answer that comes may hold pseudonyms that
    were given for this request.
    """

    def __init__(
        self,
        payload: JSON,
        detector: Detector,
        rules: DataRules,
        known: Mapping[str, tuple[Detection, ...]],
        *,
        declared: DeclaredData | None = None,
    ) -> None:
        self.payload = payload
        self.found = dict(known) if known else {}
        self.restores = False
        self._detector = detector
        self._rules = rules
        try:
            self._texts = contents(payload)
        except RecursionError:
            raise ConfigError(
                "the request is nested too deeply", hint="pass texts, numbers, lists and mappings"
            ) from None
        detections = self.found_in(self._texts)
        self.kinds: dict[str, int] = {}
        self.classes: frozenset[str] = frozenset()
        self.values: dict[str, Detection] = {}
        self._names: RequestPseudonyms | None = None
        if declared is not None:
            self._declare(declared)
        if detections:
            self.kinds = Counter(self.kinds) + Counter(item.kind for item in detections)
            self.classes |= frozenset(map(self.class_of, detections))
            self._collect_values()

    @property
    def names(self) -> RequestPseudonyms:
        """The pseudonyms of the request's values."""
        if self._names is None:
            self._names = RequestPseudonyms(self._texts)
        return self._names

    def class_of(self, item: Detection) -> str:
        """Return the class of a detection in this repository."""
        return self._rules.class_of(item.kind, item.data_class)

    def kinds_of(self, classes: Iterable[str]) -> set[str]:
        """Return the kinds of the request's values of some classes."""
        wanted = set(classes)
        return {item.kind for item in self.values.values() if self.class_of(item) in wanted}

    def found_in(self, texts: Iterable[str]) -> list[Detection]:
        """Return what is in some texts; a text that was searched before is not searched again."""
        found, known, find = list[Detection](), self.found, self._detector.find
        for text in texts:
            items = known.get(text)
            if items is None:
                items = known[text] = find(text)
            if items:
                found += items
        return found

    def at(self, destination: Destination) -> JSON:
        """Return the request as a destination may see it; the same object if nothing changes."""
        if not self.values:
            return self.payload
        changed = with_contents(self.payload, self._change(destination))
        self.restores = self.restores or bool(self.names)
        return changed  # type: ignore[no-any-return]

    @property
    def unrecorded(self) -> bool:
        """Whether a class of the request may not be recorded."""
        return any(self._rules.action(name, "recordings") == "refuse" for name in self.classes)

    def request(self, fields: JSON) -> JSON:
        """Return fields of a request as recordings hold them; the same object if nothing changes."""
        if not self.values:
            return fields
        return with_contents(fields, self._change("recordings"))  # type: ignore[no-any-return]

    def answer(self, events: Sequence[JSON], operation: str) -> Sequence[JSON]:
        """Return the events of an answer as recordings hold them; the same object if nothing changes.

        A value of the request becomes its pseudonym. Another value cannot be restored, and is masked.
        """
        if operation not in _ANSWERED:
            return events
        speaks = wire.dialect(operation)
        whole = speaks.fold([Event(data=data) for data in events]) if len(events) > 1 else events[0]
        if not self.values and not self.found_in(contents(whole)):
            return events
        hidden = with_contents(whole, self._change_of_answer)
        if hidden is whole:
            return events
        hidden = without_tokens(hidden)
        return [hidden] if len(events) == 1 else list(speaks.unfold(hidden))

    def answered_by_recording(self) -> None:
        """State that the answer comes from a recording that holds pseudonyms of this request."""
        self.restores = True

    def restored(self, data: JSON, *, as_json: bool = False) -> JSON:
        """Return a request or an answer as the caller reads it, with the values of pseudonyms."""
        if not self.restores:
            return data
        return RestoredAnswer(self.names, as_json=as_json).whole(data)

    def clean(self, error: WorkbenchError, logged: Replacement[Any] | None = None) -> None:
        """Mask the identifiers and secrets in the texts of an error and of those that caused it.

        `logged` returns what stands in for a value in logs; by default that is its mask.
        """
        clean_error(error, self._replacing(logged) if logged is not None else self._masked)

    def _declare(self, declared: DeclaredData) -> None:
        """Add what is declared: classes, identifiers, and the classes of values that are in the request."""
        for value, kind, name in declared.identifiers:
            self.values[value] = Detection(start=0, end=len(value), kind=kind, data_class=name)
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        held = {name for value, name in declared.values if any(value in text for text in self._texts)}
        self.classes |= held.union(declared.classes)

    def _collect_values(self) -> None:
        for text in self._texts:
            for item in self.found[text]:
                self.values.setdefault(text[item.start : item.end], item)

    def _occurrences(self, text: str) -> Sequence[tuple[int, int, str, Detection]]:
        """Return where values are in a text: what is found in it, and values that other texts showed."""
        own = self.found_in((text,))
        return occurrences(text, own, self.values)

    def _change(self, destination: Destination) -> Callable[[str], str]:
        actions = {name: self._rules.action(name, destination) for name in self.classes}

        def replacement(value: str, item: Detection) -> str | None:
            action = actions.get(self.class_of(item), "mask")
            if action == "pass":
                return None
            return self.names.name(value, item.kind) if action == "pseudonymise" else mask(item.kind)

        return self._replacing(replacement)

    def _change_of_answer(self, text: str) -> str:
        def replacement(value: str, item: Detection) -> str | None:
            action = self._rules.action(self.class_of(item), "recordings")
            if action == "pass":
                return None
            known = self.names.known(value) if action == "pseudonymise" else None
            return known or mask(item.kind)

        if not self.restores:  # the model wrote what only looks like a pseudonym of the recording
            text = self.names.unnamed(text)
        return self._replacing(replacement)(text)

    def _masked(self, text: str) -> str:
        def replacement(_value: str, item: Detection) -> str | None:
            passes = self._rules.action(self.class_of(item), "logs") == "pass"
            return None if passes else mask(item.kind)

        return self._replacing(replacement)(text)

    def _replacing(self, replacement: Replacement[Detection]) -> Callable[[str], str]:
        return lambda text: replaced(text, self._occurrences(text), replacement)
