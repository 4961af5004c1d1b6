"""Values that cross rooms: events, usage, hits, replies. Nothing here knows how anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

JSON = Mapping[str, Any]
Port = Literal["model", "memory", "tool"]
Role = Literal["system", "user", "assistant", "tool"]
Verdict = Literal["pass", "fail", "undecided"]
Effect = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One piece of a reply. A plain reply is a stream of exactly one event.

    `data` is the wire JSON of the port: a `chat.completion.chunk` or a whole `chat.completion`
    for models, the returned value for memories and tools.
    """

    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer, as the endpoint counted them; `None` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input plus output, when both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Tokens of both; what one does not know counts by the other."""

        def both(one: int | None, two: int | None) -> int | None:
            return one if two is None else two if one is None else one + two

        return Usage(
            input_tokens=both(self.input_tokens, other.input_tokens),
            output_tokens=both(self.output_tokens, other.output_tokens),
            cached_tokens=both(self.cached_tokens, other.cached_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One document as its source wrote it, before chunking. `digest` is SHA-256 of what was read."""

    source: str
    title: str
    text: str
    tenant: str
    digest: str
    version: int = 1
    access: tuple[str, ...] = ("everyone",)
    valid_from: str | None = None
    expires: str | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One remembered chunk, as a store keeps it.

    `vector` is L2-normalised; dates are ISO 8601 days in UTC; `id` is the digest of tenant,
    source, source digest, position and text, so that adding the same source again changes nothing.
    """

    id: str
    text: str
    vector: tuple[float, ...]
    source: str
    source_digest: str
    position: int = 0
    title: str = ""
    version: int = 1
    access: tuple[str, ...] = ("everyone",)
    valid_from: str | None = None
    expires: str | None = None
    owner: str = ""
    embedding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One passage found. `score` is rounded to 4 decimals; equal scores are ordered by `id`.

    `stale` says that the source has changed, or is gone, since the passage was remembered.
    """

    id: str
    text: str
    source: str
    title: str
    version: int
    score: float
    tenant: str
    as_of: str
    stale: bool
    digest: str
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's answer with what is needed to trace it: usage, finish reason, trace id, sources."""

    text: str
    data: Any = None
    model: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    latency_s: float | None = None
    replayed: bool = False
    trace_id: str = ""
    prompt: str | None = None
    passages: tuple[Hit, ...] = ()
    raw: JSON = field(default_factory=dict, repr=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the passages the prompt carried, best first, each once."""
        return tuple(dict.fromkeys(hit.source for hit in self.passages))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat turn in the OpenAI wire format."""

    role: Role
    content: str

    def wire(self) -> dict[str, str]:
        """The turn as wire JSON."""
        return {"role": self.role, "content": self.content}


def wire_messages(messages: Sequence[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns as wire JSON, whether given as `Message` or already as mappings."""
    return [m.wire() if isinstance(m, Message) else dict(m) for m in messages]
