"""Measure what each control costs a call: `make bench ARGS=controls`. Nothing is asserted.

The stack of a workspace stands around a model that answers at once, so that no network disturbs the figures.
What a control costs is the difference between the stack and the same stack without it; the least of many
rounds, taken in turns, counts. The texts are new on every call.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.boundary_arms import four_checks
from benchmarks.measuring import ROOT, Row
from workbench.config import ContentKeeping
from workbench.models import ModelCard
from workbench.ports import Call, Control
from workbench.records.tape import Tape
from workbench.types import Event
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.connection import connect
from workbench.workspace.moderating import Moderating

ROUNDS, CALLS = 60, 20
#: Controls that are on by default, and what is measured of them.
LABELS = {
    "policy": "the decision of the policies",
    "privacy": "the detector in request and answer, and pseudonyms",
    "audit": "the row of the audit log",
    "record": "the record with that row",
}
PARTS = tuple(LABELS)
#: 1,000 characters, by their findings.
PROSE = "Employees book travel with the agency. The limit is a fixed sum a day, and a receipt is kept. " * 11
TEXTS = {
    "clean": PROSE[:1000],
    "three findings": f"{PROSE[:300]} ada@example.com {PROSE[:300]} 4111 1111 1111 1111 {PROSE[:280]} "
    "+44 20 7946 0958",
}
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop",
         "message": {"role": "assistant", "content": "A taxi costs at most thirty euros. " * 4}}
    ],
    "usage": {"prompt_tokens": 90, "completion_tokens": 30, "total_tokens": 120},
}  # fmt: skip


class _Partly(Boundary):
    """A boundary without some of its controls, whose model answers at once."""

    def __init__(self, *missing: str, **given: Any) -> None:
        self._missing = missing
        super().__init__(**given)
        self._leaves["model"] = _answer

    def _controls(self, places: StatePaths) -> dict[str, Control]:
        controls = super()._controls(places)
        observe: Any = controls["observe"]
        if "audit" in self._missing:
            observe._audit = None
        if "content" in self._missing:
            observe._content = None
        if "record" in self._missing:
            del controls["observe"]
        return {name: control for name, control in controls.items() if name not in self._missing}


async def _answer(_: Call) -> AsyncIterator[Event]:
    yield Event(data=ANSWER)


def _boundary(folder: Path, *missing: str) -> Boundary:
    """Return a boundary with all controls that need no limits, but for some."""
    card = ModelCard.unsaved("m").overridden(provider="openai", base_url="http://127.0.0.1:9")
    return _Partly(
        *missing,
        root=ROOT,
        mode="live",
        tape=Tape(folder / "tape"),
        cards=[dataclasses.replace(card, name="smollm2-135m")],  # the model of the use case
        places=StatePaths(
            home=folder,
            moderating=Moderating(ROOT, folder, four_checks(), ("acme",)),
            keeping=ContentKeeping(keep="30 days"),
        ),
    )


def costs(*arms: tuple[str, ...], text: str, rounds: int = ROUNDS) -> dict[tuple[str, ...], float]:
    """Return the microseconds of CPU of a call, by the controls that are missing."""
    words = map("".join, itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=5))
    with ExitStack() as stack, asyncio.Runner() as runner:
        asks: dict[tuple[str, ...], Callable[[], Any]] = {}
        for missing in arms:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ws = connect("answers", root=ROOT, through=_boundary(folder, *missing))
            stack.callback(ws.close)
            model: Any = ws.model()

            async def ask(model: Any = model) -> None:
                for _ in range(CALLS):
                    turns = [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": f"{next(words)} {text}"},
                    ]
                    await model._chat(turns)

            asks[missing] = ask
        found: dict[tuple[str, ...], list[float]] = {missing: [] for missing in arms}
        for _ in range(rounds):
            for missing, ask in asks.items():
                began = time.process_time()
                runner.run(ask())
                found[missing].append((time.process_time() - began) / CALLS * 1e6)
    return {missing: min(took) for missing, took in found.items()}


def rows() -> Iterator[Row]:
    """The cost of a call, and what each control adds."""
    os.environ.setdefault("OPENAI_API_KEY", "x")
    default = ("moderation", "content")
    for name, text in TEXTS.items():
        without = {part: (*default, part) for part in PARTS}
        found = costs((), default, ("moderation",), ("content",), *without.values(), text=text)
        yield f"1,000 characters, {name}: a call with all of them", f"{found[()]:.0f} µs", "reported"
        yield f"1,000 characters, {name}: a call as it is by default", f"{found[default]:.0f} µs", "reported"
        added = {LABELS[part]: found[default] - found[missing] for part, missing in without.items()}
        added["four checks of moderation"] = found[("content",)] - found[default]
        added["sealed content"] = found[("moderation",)] - found[default]
        for label, took in added.items():
            yield f"1,000 characters, {name}: {label}", f"{took:.0f} µs", "reported"
