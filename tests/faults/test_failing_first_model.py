"""A first model that fails and hangs, and a healthy fall-back, over real connections: who answers when."""

from __future__ import annotations

import asyncio
import random
import time

from aiohttp import web
from endpoint import endpoint, speaking
from falling_models import repository
from sizes import SOAK

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.testing.fakes import FakeModel

#: The deadline of a call in seconds, and the calls at once.
DEADLINE_S, AT_ONCE = 8.0, 64
CALLS = 5_000 if SOAK else 400


def failing(rng: random.Random):
    """An endpoint of which 30 % of requests fail and 5 % hang."""
    well = speaking(FakeModel(lambda _: "first"))

    async def answer(request: web.Request) -> web.StreamResponse:
        chance = rng.random()
        if chance < 0.30:
            return web.json_response({"error": {"message": "down"}}, status=503)
        if chance < 0.35:
            await asyncio.sleep(60)
        return await well(request)

    return answer


async def asked(ws: wb.Workspace, number: int, room: asyncio.Semaphore) -> tuple[float, str, str]:
    """Return the seconds of a call, its text and who answered; the error's name in place of a text."""
    async with room:
        began = time.monotonic()
        try:
            reply = await ws.model().chat_async(f"question {number}")
        except WorkbenchError as error:
            return time.monotonic() - began, type(error).__name__, ""
        return time.monotonic() - began, reply.text, reply.fallback


def test_of_a_thousand_calls_at_most_one_is_not_answered_inside_the_deadline(tmp_path):
    model = f"{{name: first, fallback: [second], seconds: {DEADLINE_S}}}"
    with (
        endpoint(failing(random.Random(7))) as down,
        endpoint(speaking(FakeModel(lambda _: "second"))) as up,
    ):
        root = repository(tmp_path, model=model, down=down, up=up)
        ws = wb.connect("small", root=root, mode="live")

        async def all_asked():
            room = asyncio.Semaphore(AT_ONCE)
            return await asyncio.gather(*(asked(ws, number, room) for number in range(CALLS)))

        done = asyncio.run(all_asked())
        records = ws.calls()
        ws.close()
    in_time = [text for seconds, text, _ in done if text in {"first", "second"} and seconds <= DEADLINE_S]
    assert len(in_time) >= 0.999 * CALLS
    by_fallback = [fallback for _, text, fallback in done if text == "second"]
    assert by_fallback and set(by_fallback) == {"second@1"}
    assert records.height == CALLS, "one record each"
    assert records.filter(records["fallback"] == "second@1").height == len(by_fallback)
