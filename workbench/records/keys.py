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
from typing import Final

import orjson

from workbench import files
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
        parts = {
            "format": 1,
            "operation": self.operation,
            "identity": self.identity,
            "request": self.request,
            "case": self.case,
            "repeat": self.repeat,
            "n": self.n,
        }
        return hashlib.sha256(files.canonical(parts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recorded call. `result` is `{"events": […]}`, or `{"refused": {…}}` for a refusal.

    `latency_s` is the time of waiting for the model in all attempts. `processor` is the type of the machine's
    processor.
    """

    key: str
    question: RecordedRequest
    target: str
    result: JSON
    latency_s: float
    first_event_s: float | None
    processor: JSON

    def line(self) -> bytes:
        """Return the entry as one line; the key is first, so that an index parses nothing else."""
        asked = self.question
        return files.canonical(
            {
                "key": self.key,
                "occurrence": {"case": asked.case, "repeat": asked.repeat, "n": asked.n},
                "operation": asked.operation,
                "processor": self.processor,
                "request": asked.request,
                "result": self.result,
                "target": {"name": self.target, "identity": asked.identity},
                "timing": {"latency_s": self.latency_s, "first_event_s": self.first_event_s},
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Parse a stored line; raise ValueError or KeyError if it is not an entry."""
        fields = orjson.loads(line)
        where, target, timing = fields["occurrence"], fields["target"], fields["timing"]
        return cls(
            key=fields["key"],
            question=RecordedRequest(
                operation=fields["operation"],
                identity=target["identity"],
                request=fields["request"],
                case=where["case"],
                repeat=where["repeat"],
                n=where["n"],
            ),
            target=target["name"],
            result=fields["result"],
            latency_s=timing["latency_s"],
            first_event_s=timing["first_event_s"],
            processor=fields["processor"],
        )

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
