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
#: What an item is: a chunk of a source; what happened; what was learned; what was made of other items.
ItemKind = Literal["document", "episode", "fact", "summary"]
#: The kind that comes from sources and has versions; every other one is written by use.
KNOWLEDGE: ItemKind = "document"
#: The highest levels of classification and of trust; the lowest are 0.
MOST_CLASSIFIED, MOST_TRUSTED = 9, 3


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
    """One document as its source wrote it, before chunking. `digest` is SHA-256 of what was read.

    `expires` is the day from which the page is no longer in force: its chunks' `valid_to`.
    """

    source: str
    title: str
    text: str
    tenant: str
    digest: str
    version: int = 1
    access: tuple[str, ...] = ("everyone",)
    classification: int = 0
    subject: str = ""
    valid_from: str | None = None
    expires: str | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One remembered chunk, as a store gives it back: the one schema of every store and snapshot.

    `vector` is L2-normalised float32. `valid_from` and `valid_to` are ISO days in UTC: when it was
    true; an earlier day can be asked for. `created` and `expires` are UTC instants in the form
    2026-11-25T06:00:00Z: when it came to be, and from when on it may not be used any more, whatever
    day is asked for. `id` is the digest of tenant, source, source digest, position and text, so that
    adding the same source again changes nothing. `classification` is a level of 0 or more, seen by
    who has at least that clearance. `trust` is a level of 0 to 3, stamped by the workbench; that of a
    derived item is at most the least of its `parents`, which are ids. `subject` is whom it is about.
    """

    id: str
    text: str
    vector: tuple[float, ...]
    source: str
    source_digest: str
    kind: ItemKind = "document"
    position: int = 0
    title: str = ""
    version: int = 1
    access: tuple[str, ...] = ("everyone",)
    classification: int = 0
    owner: str = ""
    subject: str = ""
    trust: int = 0
    parents: tuple[str, ...] = ()
    created: str | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    expires: str | None = None
    embedding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One passage found. `score` is rounded to 4 decimals; equal scores are ordered by `id`.

    `stale` says that the declared source has it in another form now, or had it and has it no more.
    `memory_version` is the version of the tenant's knowledge it was found in (0: it was written by
    use), `since` the day from which it is valid, `age_days` the days from then to `as_of`. `allowed`
    says by which of the asker's groups, and at which level, it may be seen. `degraded` says that the
    store was away, and that it comes from the last snapshot.
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
    kind: ItemKind = "document"
    classification: int = 0
    trust: int = 0
    memory_version: int = 0
    since: str | None = None
    age_days: int | None = None
    allowed: str = ""
    degraded: bool = False


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
