"""The texts of a request and of its answer, by their origin, and how they are replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from workbench.moderation.fence import fenced_parts
from workbench.types import JSON
from workbench.wire.shape import list_of, mapping_of, texts_of

#: Who wrote a text: the use case, its user, a model before, a tool, a document; the answer, a call of a tool.
Origin = Literal["system", "user", "assistant", "tool", "passage", "answer", "call"]
Path = tuple[str | int, ...]
_ROLES: Final[Mapping[str, Origin]] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
#: Texts that nobody of the use case wrote, in a request.
UNTRUSTED: Final[frozenset[Origin]] = frozenset({"tool", "passage"})
_REMOVED: Final = "[removed]"
_WORD: Final = re.compile(r"\w+")
#: How many runs of how many words tell whether a changed passage stands in the turns.
_PROBES, _RUN = 16, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a text, where the text is in the JSON, and where the part begins in it.

    A text that stands nowhere in the JSON as it is has no path.
    """

    origin: Origin
    text: str = field(repr=False)
    path: Path = ()
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a check may compare a text with: the texts of the request, the tenant and the other tenants."""

    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    tenant: str = ""
    tenants: tuple[str, ...] = ()

    def texts(self, *origins: Origin) -> list[str]:
        """Return the texts of these origins, in the order of the request."""
        return [piece.text for piece in self.pieces if piece.origin in origins]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Why a check fired: its score, and the ranges of the text that it is about, if it knows any."""

    score: float | None = None
    spans: tuple[tuple[int, int], ...] = ()


def request_pieces(payload: JSON, passages: Sequence[str] = ()) -> tuple[Piece, ...]:
    """Return the texts of a chat or a response request; what is fenced or is a passage has its own piece.

    A passage that a template changed, so that its words stand in the turns and its text does not, is a piece
    without a path. What is fenced is found by its marks, whatever became of its text. Untrusted JSON with
    escapes, such as the result of a tool, is there once more as it reads, without a path.
    """
    whole = [*_chat(payload), *_responses(payload)]
    wanted = [text for text in dict.fromkeys(passages) if text.strip()]
    found: list[Piece] = []
    seen: set[str] = set()
    for piece in whole:
        found += _divided(piece, wanted, seen)
    missing = [text for text in wanted if text not in seen]
    if missing and not any(fenced_parts(piece.text) for piece in whole):
        words = f" {' '.join(word for piece in whole for word in _WORD.findall(piece.text))} "
        found += [Piece(origin="passage", text=text) for text in missing if _is_mostly_in(text, words)]
    untrusted = [piece for piece in found if piece.origin in UNTRUSTED]
    return (*found, *(read for piece in untrusted if (read := _unescaped(piece)) is not None))


def answer_pieces(answer: JSON) -> tuple[Piece, ...]:
    """Return the texts of a whole answer of either dialect, and the arguments of the tools that it calls.

    The texts of JSON with escapes are there once more as they read, without a path.
    """
    found = [*_completions(answer), *_outputs(answer)]
    read = [piece for each in found if (piece := _unescaped(each)) is not None]
    return (*found, *read)


def with_text(data: JSON, path: Path, text: str) -> dict[str, Any]:
    """Return a copy of the JSON with another text at a path."""
    changed: dict[str, Any] = _changed(data, path, text)
    return changed


def without(text: str, spans: Sequence[tuple[int, int]], *, by: str = _REMOVED) -> str:
    """Return the text with each range replaced; ranges that touch or overlap are replaced once."""
    pieces, at = [], 0
    for start, end in merged(spans):
        pieces += [text[at:start], by]
        at = end
    return "".join([*pieces, text[at:]])


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges in their order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _changed(value: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    if isinstance(value, Mapping):
        return {**value, path[0]: _changed(value[path[0]], path[1:], text)}
    return [_changed(part, path[1:], text) if n == path[0] else part for n, part in enumerate(value)]


def _is_mostly_in(text: str, words: str) -> bool:
    """Return whether half of some runs of a text's words are among the words of the turns."""
    own = _WORD.findall(text)
    step = max(1, len(own) // _PROBES)
    runs = [f" {' '.join(own[at : at + _RUN])} " for at in range(0, max(1, len(own) - _RUN + 1), step)]
    return 2 * sum(run in words for run in runs) >= len(runs)


def _divided(piece: Piece, passages: Sequence[str], seen: set[str]) -> Iterator[Piece]:
    """Yield the parts of a turn: what is fenced, what is a passage, and what is left of it."""
    spans = fenced_parts(piece.text)
    for passage in passages:
        if (at := piece.text.find(passage)) >= 0:
            seen.add(passage)
            spans.append((at, at + len(passage)))
    at = 0
    for start, end in merged([span for span in spans if span[0] < span[1]]):
        if start > at:
            yield replace(piece, text=piece.text[at:start], start=at)
        yield replace(piece, origin="passage", text=piece.text[start:end], start=start)
        at = end
    if at < len(piece.text):
        yield replace(piece, text=piece.text[at:], start=at)


def _texts(value: Any, path: Path, origin: Origin) -> Iterator[Piece]:
    """Yield a text, or the texts of a list of parts."""
    if isinstance(value, str):
        yield Piece(origin=origin, text=value, path=path)
    for number, part in enumerate(list_of(value)):
        if isinstance(part, str):
            yield Piece(origin=origin, text=part, path=(*path, number))
        elif isinstance(text := mapping_of(part).get("text"), str):
            yield Piece(origin=origin, text=text, path=(*path, number, "text"))


def _chat(payload: JSON) -> Iterator[Piece]:
    for number, turn in enumerate(list_of(payload.get("messages"))):
        message = mapping_of(turn)
        origin = _ROLES.get(str(message.get("role")), "user")
        yield from _texts(message.get("content"), ("messages", number, "content"), origin)


def _responses(payload: JSON) -> Iterator[Piece]:
    yield from _texts(payload.get("instructions"), ("instructions",), "system")
    asked = payload.get("input")
    if isinstance(asked, str):
        yield Piece(origin="user", text=asked, path=("input",))
        return
    for number, turn in enumerate(list_of(asked)):
        item = mapping_of(turn)
        if "role" in item:
            origin = _ROLES.get(str(item["role"]), "user")
            yield from _texts(item.get("content"), ("input", number, "content"), origin)
        else:  # the result of a tool
            yield from _texts(item.get("output"), ("input", number, "output"), "tool")
            yield from (Piece(origin="tool", text=text) for text in texts_of(item.get("results")))


def _completions(answer: JSON) -> Iterator[Piece]:
    for number, choice in enumerate(list_of(answer.get("choices"))):
        message, at = mapping_of(mapping_of(choice).get("message")), ("choices", number, "message")
        for name in ("content", "reasoning_content", "reasoning"):
            yield from _texts(message.get(name), (*at, name), "answer")
        for n, call in enumerate(list_of(message.get("tool_calls"))):
            made = mapping_of(mapping_of(call).get("function")).get("arguments")
            yield from _texts(made, (*at, "tool_calls", n, "function", "arguments"), "call")
        made = mapping_of(message.get("function_call")).get("arguments")
        yield from _texts(made, (*at, "function_call", "arguments"), "call")


def _outputs(answer: JSON) -> Iterator[Piece]:
    for number, raw in enumerate(list_of(answer.get("output"))):
        item, at = mapping_of(raw), ("output", number)
        for name in ("content", "summary"):
            yield from _texts(item.get(name), (*at, name), "answer")
        for name in ("arguments", "input"):
            yield from _texts(item.get(name), (*at, name), "call")


def _unescaped(piece: Piece) -> Piece | None:
    """Return the texts of a piece that is JSON with escapes, as they read; None for another."""
    if "\\" not in piece.text or not re.match(r"\s*[\[{\"]", piece.text):
        return None
    try:
        read = "\n".join(texts_of(orjson.loads(piece.text)))
    except orjson.JSONDecodeError:
        return None
    return Piece(origin=piece.origin, text=read)
