"""Value types of all rooms: events, usage, pages, items, hits, replies and messages."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

JSON = Mapping[str, Any]
Port = Literal["model", "memory", "tool"]
Role = Literal["system", "user", "assistant", "tool"]
Verdict = Literal["pass", "fail", "undecided"]
#: The verdict on a difference. `same`: the two agree on every case, which is observed and not tested.
Effect = Literal["better", "worse", "undecided", "same"]
#: Kinds of items: a chunk of a source, an event, a learned fact, a summary of other items.
ItemKind = Literal["document", "episode", "fact", "summary"]
#: The kind built from sources, with versions; the other kinds are written at run time.
KNOWLEDGE: ItemKind = "document"
#: The highest levels of classification and of trust; the lowest are 0.
MOST_CLASSIFIED, MOST_TRUSTED = 9, 3
#: The name, in place of a model's, of an answer that params.yaml states. No card has a name with a space.
STATED = "stated answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One part of a reply. An unstreamed reply is a stream of one event.

    `data` is the wire JSON of the port: a `chat.completion.chunk` or a whole `chat.completion`
    for models, the returned value for memories and tools.
    """

    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The endpoint's token counts of one answer; a missing count is None.

    `cached_tokens` are part of `input_tokens`, and `reasoning_tokens` of `output_tokens`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input plus output tokens; None when either is missing."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of both; a missing count is ignored."""

        def both(left: int | None, right: int | None) -> int | None:
            return left if right is None else right if left is None else left + right

        return Usage(
            input_tokens=both(self.input_tokens, other.input_tokens),
            output_tokens=both(self.output_tokens, other.output_tokens),
            cached_tokens=both(self.cached_tokens, other.cached_tokens),
            reasoning_tokens=both(self.reasoning_tokens, other.reasoning_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One document of a source, before chunking. `digest` is the SHA-256 of the content read.

    `expires` is the first day on which the page is invalid; it becomes its chunks' `valid_to`.
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
    """One stored chunk, in the schema of every store and snapshot.

    `vector` is L2-normalised float32. `valid_from` and `valid_to` are ISO days in UTC and bound the
    validity; a search can request an earlier day. `created` and `expires` are UTC instants such as
    2026-11-25T06:00:00Z; an expired item is never returned, whatever day is requested. `id` is the
    digest of tenant, source, source digest, position and text, so adding a source again has no effect.
    `classification` is a level of 0 or more, the clearance a reader needs. `trust` is a level from 0 to
    3, set by the workbench; a derived item has at most the lowest trust of its `parents` (item ids).
    `subject` is the person the item is about.
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
    """One passage of a search result. `score` has 4 decimals; equal scores are ordered by `id`.

    `stale` is true when the declared source has changed or removed the passage. `memory_version` is the
    version of the tenant's knowledge (0 for items written at run time). `since` is the first valid day,
    `age_days` the days from `since` to `as_of`. `allowed` names the requester's group and the level that
    grant access. `degraded` is true when the store was unavailable and the last snapshot answered.
    `data_class` is the class of data that the memory's spec declares, "" for none. `valid_to` is the first
    day on which the passage is invalid. `words_rank` and `vector_rank` are the places, from 1, in the
    rankings by words and by meaning that `score` fuses; None in one that does not list the passage.
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
    data_class: str = field(default="", repr=False)  # a template may hold the text form of a hit
    # What explains a hit does not make it another one.
    valid_to: str | None = field(default=None, repr=False, compare=False)
    words_rank: int | None = field(default=None, repr=False, compare=False)
    vector_rank: int | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemHit(Hit):
    """A hit with the item that a store found, on which the boundary makes the exact decision.

    It equals a hit of the same fields. The boundary removes the item: callers get a `Hit`.
    """

    item: Item = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hit) and _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash(self.plain())

    def plain(self) -> Hit:
        """Return the hit without its item."""
        made = object.__new__(
            Hit
        )  # field by field: a search makes many, and the constructor takes 3 times as long
        for write, value in zip(_WRITE_FIELDS, _read_fields(self), strict=True):
            write(made, value)
        return made


_HIT_FIELDS = tuple(one.name for one in fields(Hit))
_read_fields = operator.attrgetter(*_HIT_FIELDS)
_compared = operator.attrgetter(*(one.name for one in fields(Hit) if one.compare))
_WRITE_FIELDS = tuple(getattr(Hit, name).__set__ for name in _HIT_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's answer with its trace data: usage, finish reason, trace id and sources.

    `reason` is empty for a complete text, otherwise what the text lacks: `truncated` at the limit of tokens,
    `filtered`, `refusal`, `tool_call` or `empty`. `fallback` names the model that answered because those
    before it could not, or is `stated answer` for an answer that params.yaml states; it is empty for the
    first model. `fallback_reason` is one word for the first model's failure, such as `unavailable`.
    """

    text: str
    data: Any = None
    model: str
    finish_reason: str | None = None
    reason: str = ""
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    latency_s: float | None = None
    replayed: bool = False
    fallback: str = ""
    fallback_reason: str = ""
    trace_id: str = ""
    prompt: str | None = None
    passages: tuple[Hit, ...] = ()
    raw: JSON = field(default_factory=dict, repr=False)

    @property
    def degraded(self) -> bool:
        """Whether a fall-back answered in place of the first model."""
        return bool(self.fallback)

    @property
    def sources(self) -> tuple[str, ...]:
        """The distinct sources of the prompt's passages, best first."""
        return tuple(dict.fromkeys(hit.source for hit in self.passages))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat turn in the OpenAI wire format."""

    role: Role
    content: str

    def wire(self) -> dict[str, str]:
        """Return the turn as wire JSON."""
        return {"role": self.role, "content": self.content}


def wire_messages(messages: Sequence[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return turns as wire JSON; mappings are copied unchanged."""
    return [m.wire() if isinstance(m, Message) else dict(m) for m in messages]
