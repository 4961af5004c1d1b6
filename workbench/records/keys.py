"""Compute the key of a recorded call, and write and parse its stored line."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from workbench import files
from workbench.context import InvocationScope
from workbench.errors import ConfigError, RefusedError
from workbench.types import JSON, Event

#: Request fields that cannot change the answer; neither the key nor the tape includes them.
NOT_IN_KEY: Final[Mapping[str, str]] = {
    "user": "the end user's name for the provider; personal data, which the model never receives",
    "safety_identifier": "the newer name of `user`",
    "metadata": "labels for the provider's dashboard",
    "store": "whether the provider keeps a copy",
    "prompt_cache_key": "a hint for the provider's prompt cache",
    "request_id": "a random number of the attempt",
}
#: Client errors of account, route or load: a later call may succeed, so they are not recorded.
PASSING: Final = frozenset({401, 402, 403, 404, 407, 408, 409, 421, 423, 425, 429})
_SECRET: Final = re.compile(
    r"\bsk-(?=[\w-]*\d)[\w-]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\bBearer\s+(?=\S*\d)[\w.~+/-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
#: The key inside a line, which starts {"key":"…64 hexadecimal digits…".
_KEY_AT: Final = slice(8, 72)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """The identity of a recorded call: request, target and occurrence."""

    operation: str
    identity: JSON
    request: JSON
    case: str = ""
    repeat: int = 0
    n: int = 0

    @property
    def key(self) -> str:
        """The SHA-256 of these fields' canonical JSON, in hexadecimal digits."""
        identity, request = files.canonical(self.identity), files.canonical(self.request)
        return _key(self.operation, identity, request, (self.case, self.repeat, self.n))


class KeyedRequest:
    """A request and its target as canonical JSON, which a later change by the caller does not alter; its key.

    Identical requests in one invocation are numbered in their order. `pseudonymised` is the request as
    recordings hold it, None if that is the request itself; the key is that of the request.
    """

    __slots__ = ("_identity", "_occurrence", "_operation", "encoded", "key", "pseudonymised")

    def __init__(
        self, operation: str, identity: JSON, encoded: bytes, scope: InvocationScope | None = None
    ) -> None:
        self.encoded = encoded
        self.pseudonymised: bytes | None = None
        self._operation = operation
        self._identity = files.canonical(identity)
        self._occurrence = ("", 0, 0) if scope is None else (scope.case, scope.repeat, 0)
        self.key = self._key()
        # The key of the first of identical requests tells them from others.
        if scope is not None and (n := scope.number(self.key)):
            self._occurrence = (scope.case, scope.repeat, n)
            self.key = self._key()

    def question(self) -> RecordedRequest:
        """Return the request as an entry holds it."""
        case, repeat, n = self._occurrence
        return RecordedRequest(
            operation=self._operation,
            identity=orjson.loads(self._identity),
            request=orjson.loads(self.pseudonymised or self.encoded),
            case=case,
            repeat=repeat,
            n=n,
        )

    def answer_in(self, line: bytes) -> RecordedAnswer | None:
        """Return the answer in the stored line of this key; raise ValueError or KeyError if it is no entry.

        What the request and the target of a line are is known, so only the rest is parsed. None for a line
        with pseudonyms that are not those of this request: they cannot be restored.
        """
        if self.pseudonymised is not None:
            answer = self._sliced(line, b',"pseudonymised":%b,"result":' % self.pseudonymised)
            if answer is not None:
                return answer._replace(pseudonymised=True)
        answer = self._sliced(line, b',"request":%b,"result":' % self.encoded)
        if answer is not None:
            return answer
        entry = Entry.parse(line)  # another version wrote it in another form
        if entry.pseudonymised and files.canonical(entry.question.request) != self.pseudonymised:
            return None
        return RecordedAnswer(entry.result, entry.latency_s, entry.pseudonymised)

    def _sliced(self, line: bytes, asked: bytes) -> RecordedAnswer | None:
        begin, _, rest = line.partition(asked)
        result, _, rest = rest.rpartition(b',"target":{"identity":%b,"name":' % self._identity)
        timing = rest.rpartition(b',"timing":')[2]
        if not (begin and result and timing):
            return None
        # No text in JSON holds a quotation mark of its own, so no part was found within one.
        fields = orjson.loads(b'{"result":%b,"timing":%b' % (result, timing))
        return RecordedAnswer(fields["result"], fields["timing"]["latency_s"])

    def _key(self) -> str:
        return _key(self._operation, self._identity, self.encoded, self._occurrence)


def _key(operation: str, identity: bytes, request: bytes, occurrence: tuple[str, int, int]) -> str:
    """Return the key of a call whose identity and request are canonical JSON."""
    case, repeat, n = occurrence
    parts = {  # in the order of the names, as canonical JSON has them
        "case": case,
        "format": 1,
        "identity": orjson.Fragment(identity),
        "n": n,
        "operation": operation,
        "repeat": repeat,
        "request": orjson.Fragment(request),
    }
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


class RecordedAnswer(NamedTuple):
    """What an entry says of the answer: its result, and the time of waiting for the model in all attempts.

    `pseudonymised` is whether it holds pseudonyms of the request.
    """

    result: JSON
    latency_s: float
    pseudonymised: bool = False

    def events(self) -> list[Event]:
        """Return the recorded events; raise RefusedError if a refusal was recorded."""
        refused = self.result.get("refused")
        if refused is not None:
            raise RefusedError(
                refused["message"],
                hint=refused["hint"],
                status=refused["status"],
                body=refused["body"],
            )
        return [Event(data=data) for data in self.result["events"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recorded call. `result` is `{"events": […]}`, or `{"refused": {…}}` for a refusal.

    `latency_s` is the time of waiting for the model in all attempts. `processor` is the type of the machine's
    processor. `pseudonymised` is whether request and answer hold pseudonyms: the key is that of the request
    before, which nobody can ask again from here. A line names the request so, and older versions skip it.
    """

    key: str
    question: RecordedRequest
    target: str
    result: JSON
    latency_s: float
    first_event_s: float | None
    processor: JSON
    pseudonymised: bool = False

    def line(self) -> bytes:
        """Return the entry as one line; the key is first, so that an index parses nothing else."""
        asked = self.question
        return files.canonical(
            {
                "key": self.key,
                "occurrence": {"case": asked.case, "repeat": asked.repeat, "n": asked.n},
                "operation": asked.operation,
                "processor": self.processor,
                "pseudonymised" if self.pseudonymised else "request": asked.request,
                "result": self.result,
                "target": {"name": self.target, "identity": asked.identity},
                "timing": {"latency_s": self.latency_s, "first_event_s": self.first_event_s},
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Parse a stored line; raise ValueError or KeyError if it is not an entry."""
        fields = orjson.loads(line)
        pseudonymised = "pseudonymised" in fields
        where, target, timing = fields["occurrence"], fields["target"], fields["timing"]
        return cls(
            key=fields["key"],
            question=RecordedRequest(
                operation=fields["operation"],
                identity=target["identity"],
                request=fields["pseudonymised"] if pseudonymised else fields["request"],
                case=where["case"],
                repeat=where["repeat"],
                n=where["n"],
            ),
            target=target["name"],
            result=fields["result"],
            latency_s=timing["latency_s"],
            first_event_s=timing["first_event_s"],
            processor=fields["processor"],
            pseudonymised=pseudonymised,
        )

    def events(self) -> list[Event]:
        """Return the recorded events; raise RefusedError if a refusal was recorded."""
        return RecordedAnswer(self.result, self.latency_s).events()


def refusal(error: RefusedError) -> JSON | None:
    """Return the result to record for a refusal, or None if a later call may succeed."""
    if error.status is None or not 400 <= error.status < 500 or error.status in PASSING:
        return None
    parts = {"message": error.message, "hint": error.hint, "status": error.status, "body": error.body}
    return {"refused": parts}


def refuse_secrets(line: bytes) -> None:
    """Raise ConfigError with the path if canonical JSON contains text shaped like a key or token."""
    if _SECRET.search(line.decode()) is None:
        return
    found = (path for path, text in leaves(orjson.loads(line)) if _SECRET.search(f"{path} {text}"))
    raise ConfigError(
        f"{next(found, 'the call')} contains a text in the form of a key or token; it is not recorded",
        hint="remove it from the text, or call in mode 'live', which records nothing",
    )


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each scalar of a JSON value with its path, as `messages[1].content`, sorted by key."""
    if isinstance(value, Mapping) and value:
        for name in sorted(value):
            yield from leaves(value[name], f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for position, item in enumerate(value):
            yield from leaves(item, f"{path}[{position}]")
    else:
        yield path, value


@functools.cache
def processor() -> JSON:
    """Return the type of the processor; answers are byte-identical only on the same type."""
    wanted = {
        "vendor_id": "vendor", "cpu family": "family", "model": "model",
        "CPU implementer": "vendor", "CPU architecture": "family", "CPU part": "model",
    }  # fmt: skip
    found = {"machine": platform.machine()}
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = text.partition(":")
            if name.strip() in wanted:
                found.setdefault(wanted[name.strip()], value.strip())
    return found
