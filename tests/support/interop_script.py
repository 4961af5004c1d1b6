"""Drives both clients through other people's libraries, one scenario after another; prints what was recorded.

Run by test_interop.py with the interpreter of .venv-interop, inside a clone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

# None of these libraries may call home from a test.
os.environ.update(LANGCHAIN_TRACING_V2="false", LANGSMITH_TRACING="false", LOGFIRE_SEND_TO_LOGFIRE="false")

import workbench as wb

MODEL = "smollm2-135m"
LONG = "Tell me everything you know about mountains, rivers and lakes."
ws = wb.connect("answers", mode="live")


def records() -> list[dict]:
    columns = ["outcome", "streamed", "events", "error", "status", "output_tokens"]
    return ws.calls().select(columns).rows(named=True)


def told(name: str, before: int, said: object = None) -> None:
    print(json.dumps({"scenario": name, "said": said, "records": records()[before:]}), flush=True)


def langchain(**options):
    from langchain_openai import ChatOpenAI

    sync, both = ws.openai(), ws.openai_async()
    return ChatOpenAI(
        model=options.pop("model", MODEL),
        client=sync.chat.completions,
        root_client=sync,
        async_client=both.chat.completions,
        root_async_client=both,
        api_key="unused",
        max_tokens=options.pop("max_tokens", 8),
        max_retries=0,
    )


def agent(model: str = MODEL, max_tokens: int = 8):
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(openai_client=ws.openai_async())
    return Agent(OpenAIChatModel(model, provider=provider), model_settings={"max_tokens": max_tokens})


def langchain_sync() -> None:
    before = len(records())
    told("langchain answer", before, langchain().invoke("Say hello.").content)
    before = len(records())
    told("langchain stream", before, "".join(chunk.content for chunk in langchain().stream("Say hello.")))
    before = len(records())
    stream = langchain(max_tokens=200).stream(LONG)
    next(stream)
    stream.close()
    asyncio.run(settled(before))
    told("langchain abandoned", before)
    before = len(records())
    try:
        langchain(model="smolm2").invoke("Say hello.")
    except Exception as error:  # noqa: BLE001  whichever class the library makes of it
        told("langchain unknown model", before, type(error).__name__)
    before = len(records())
    try:
        langchain(max_tokens=8).invoke("x " * 9000)
    except Exception as error:  # noqa: BLE001  as above
        told("langchain error", before, type(error).__name__)


async def langchain_async() -> None:
    before = len(records())
    told("langchain async answer", before, (await langchain().ainvoke("Say hello.")).content)
    before = len(records())
    pieces = [chunk.content async for chunk in langchain().astream("Say hello.")]
    told("langchain async stream", before, "".join(pieces))
    before = len(records())
    stream = langchain(max_tokens=200).astream(LONG)
    await anext(stream)
    await stream.aclose()
    await settled(before)
    told("langchain async abandoned", before)
    before = len(records())
    await cancelled(langchain(max_tokens=400).ainvoke(LONG))
    await settled(before)
    told("langchain async cancelled", before)


async def pydantic_ai() -> None:
    before = len(records())
    told("pydantic-ai answer", before, (await agent().run("Say hello.")).output)
    before = len(records())
    async with agent().run_stream("Say hello.") as run:
        said = "".join([piece async for piece in run.stream_text(delta=True)])
    await settled(before)
    told("pydantic-ai stream", before, said)
    before = len(records())
    async with agent(max_tokens=200).run_stream(LONG) as run:
        async for _ in run.stream_text(delta=True):
            break
    await settled(before)
    told("pydantic-ai abandoned", before)
    before = len(records())
    await cancelled(agent(max_tokens=400).run(LONG))
    await settled(before)
    told("pydantic-ai cancelled", before)
    before = len(records())
    try:
        await agent().run("x " * 9000)
    except Exception as error:  # noqa: BLE001  as above
        told("pydantic-ai error", before, type(error).__name__)


async def cancelled(work) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.8)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    sys.exit("the work ended before it was cancelled")


async def settled(before: int) -> None:
    """Wait until the stream below has been closed: a library may close it a moment later."""
    for _ in range(200):
        if len(records()) > before:
            return
        await asyncio.sleep(0.05)


langchain_sync()
asyncio.run(langchain_async())
asyncio.run(pydantic_ai())
ws.close()
