"""A small detector for tests of what happens to detections, and models that repeat what they are asked."""

from __future__ import annotations

import re

from workbench import wire
from workbench.ports.privacy import Detection
from workbench.types import Event

_KINDS = {
    "email": (re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}"), "personal"),
    "phone": (re.compile(r"\+\d{2} \d{3} \d{7}"), "personal"),
    "person": (re.compile(r"Jane O'Neil|José \"Pepe\" Núñez|Max Muster"), "personal"),
    "card": (re.compile(r"\b4111 ?1111 ?1111 ?1111\b"), "personal"),
    "secret": (re.compile(r"sk-test-[a-z0-9]{24}"), "secret"),
}
EMAIL, PHONE, PERSON = "jane@acme.example", "+49 170 1234567", "Jane O'Neil"
QUOTED, SECRET = 'José "Pepe" Núñez', "sk-test-" + "a1b2c3d4" * 3
ALL = (EMAIL, PHONE, PERSON, QUOTED, SECRET)


class SmallDetector:
    """Finds the kinds of this file, and counts the texts that it searched."""

    def __init__(self) -> None:
        self.searched: list[str] = []

    def find(self, text: str) -> tuple[Detection, ...]:
        self.searched.append(text)
        found = [
            Detection(start=match.start(), end=match.end(), kind=kind, data_class=data_class)
            for kind, (pattern, data_class) in _KINDS.items()
            for match in pattern.finditer(text)
        ]
        apart: list[Detection] = []
        for item in sorted(found, key=lambda item: item.start):
            if not apart or item.start >= apart[-1].end:
                apart.append(item)
        return tuple(apart)


def echoed(call, answer: str | None = None) -> str:
    """The last text of the request, or a stated answer."""
    if answer is not None:
        return answer
    asked = call.payload.get("messages") or call.payload.get("input")
    return asked if isinstance(asked, str) else asked[-1]["content"]


class Echo:
    """A model that answers with the last text that it got, in pieces of `size` characters if streamed."""

    def __init__(self, answer: str | None = None, *, size: int = 1, fails: Exception | None = None) -> None:
        self.answer, self.size, self.fails = answer, size, fails
        self.got: list[dict] = []

    async def __call__(self, call):
        self.got.append(call.payload)
        if self.fails is not None:
            raise self.fails
        text = echoed(call, self.answer)
        for data in answers(call, text, self.size):
            yield Event(data=data)


def answers(call, text: str, size: int) -> list[dict]:
    """The events of an answer in the dialect of the call."""
    speaks = wire.dialect(call.operation)
    whole = {"id": "a-1", **speaks.stated("small", text, 0)}
    if not call.payload.get("stream"):
        return [whole]
    pieces = [text[at : at + size] for at in range(0, len(text), size)] or [""]
    if call.operation == "chat":
        chunks = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        return [{"object": "chat.completion.chunk", "choices": [chunk]} for chunk in chunks]
    unfolded = speaks.unfold(whole)
    at = next(n for n, event in enumerate(unfolded) if event["type"] == "response.output_text.delta")
    deltas = [{**unfolded[at], "delta": piece} for piece in pieces]
    return [*unfolded[:at], *deltas, *unfolded[at + 1 :]]
