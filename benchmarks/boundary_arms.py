"""One arm of benchmarks/boundary.py in a process of its own: `boundary_arms.py ARM URL CALLS`.

Prints JSON: CPU milliseconds of this process and wall seconds for all calls, 64 at once, after 64 calls that
are not counted; and its peak memory. It imports the library of its arm only, because a peer has its own
environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import sys
import tempfile
import time

AT_ONCE = 64
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How much is a taxi? " * 12},
]

#: Two budgets that every call takes from, and the limits of the endpoint.
BUDGETS = """
budgets:
  month: {usd: 1000000, per: [tenant, month]}
  day: {tokens: 1000000000, calls: 1000000000, per: [principal, day]}
"""
#: The checks of moderation that need no model, with the direction that they read.
CHECKS = {"instructions": "in", "characters": "in", "exfiltration": "out", "prompt_leak": "out"}
ENDPOINT = {"requests_per_minute": 10**9, "tokens_per_minute": 10**13, "concurrent": 256}


async def fan_out(ask, calls: int) -> None:
    """Ask `calls` times by 64 workers."""
    left = iter(range(calls))

    async def worker():
        for number in left:
            await ask(number)

    await asyncio.gather(*(worker() for _ in range(min(AT_ONCE, calls))))


def measured(run, calls: int, **more) -> dict:
    """CPU and wall time of `run(calls)` after a warm-up."""
    run(AT_ONCE)
    cpu, wall = time.process_time(), time.perf_counter()
    run(calls)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_ms": cpu / calls * 1e3, "wall_s": wall, "calls_s": calls / wall, "peak_mb": peak, **more}


def looped(ask, calls: int, **more) -> dict:
    """As `measured`, for an async function on one loop of this thread."""
    with asyncio.Runner() as runner:
        return measured(lambda count: runner.run(fan_out(ask, count)), calls, **more)


def openai_bare(url: str, calls: int) -> dict:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)

    async def ask(_):
        await client.chat.completions.create(model="m", messages=MESSAGES)

    return looped(ask, calls)


def openai_stream(url: str, calls: int) -> dict:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)

    async def ask(_):
        async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass

    return looped(ask, calls)


def aiohttp_bare(url: str, calls: int) -> dict:
    import aiohttp
    import orjson

    session = None

    async def ask(_):
        nonlocal session
        session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = orjson.dumps({"model": "m", "messages": MESSAGES})
        async with session.post(f"{url}/chat/completions", data=body) as response:
            orjson.loads(await response.read())

    return looped(ask, calls)


def four_checks():
    """The rules of moderation with the checks that need no model."""
    from workbench.config import ModerationHook, ModerationRules

    checks = [ModerationHook(check=name, direction=way, severity="refuse") for name, way in CHECKS.items()]
    return ModerationRules(checks=tuple(checks))


@contextlib.contextmanager
def workspace(url: str, mode: str = "live", *, limited: bool = False, governed: bool = False):
    """A workspace of the use case `answers` whose model is the server; its state is in a new folder.

    `limited` states budgets, limits of a run and limits of the endpoint, none of which is reached. `governed`
    has four checks of moderation and keeps sealed content, which are off by default.
    """
    from pathlib import Path

    from workbench.config import ContentKeeping, RunLimits
    from workbench.models import ModelCard
    from workbench.models.card import Price
    from workbench.records.tape import Tape
    from workbench.workspace.boundary import Boundary, StatePaths
    from workbench.workspace.connection import connect
    from workbench.workspace.moderating import Moderating

    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        card = ModelCard.unsaved("m").overridden(provider="openai", base_url=url)
        card = dataclasses.replace(card, name="smollm2-135m")  # the model of the use case
        limits = None
        if limited:
            Path(folder, "params.yaml").write_text(BUDGETS)
            price = Price(input_usd=0.1, output_usd=0.2)
            most = dataclasses.replace(card.limits, **ENDPOINT)
            card = dataclasses.replace(card, price_per_million=price, limits=most)
            limits = ("limits", RunLimits(calls=10**9, tokens=10**12, usd=1e9, seconds=1e6))
        places = StatePaths(home=Path(folder), limits=limits)
        if governed:
            moderating = Moderating(root, Path(folder), four_checks(), ("acme",))
            keeping = ContentKeeping(keep="30 days")
            places = dataclasses.replace(places, moderating=moderating, keeping=keeping)
        through = Boundary(root, mode=mode, tape=Tape(Path(folder) / "t"), cards=[card], places=places)
        ws = connect("answers", root=root, through=through)
        yield ws
        ws.close()


def ours_model(url: str, calls: int) -> dict:
    with workspace(url) as ws:
        model = ws.model()

        async def ask(_):
            await model.chat_async(MESSAGES)

        return looped(ask, calls)


def new_turns(number: int) -> list[dict]:
    """The turns of a call whose question nobody asked before."""
    return [MESSAGES[0], {"role": "user", "content": f"Case {number}. {MESSAGES[1]['content']}"}]


def ours_new(url: str, calls: int) -> dict:
    with workspace(url) as ws:
        model = ws.model()

        async def ask(number):
            await model.chat_async(new_turns(number))

        return looped(ask, calls)


def ours_all(url: str, calls: int) -> dict:
    with workspace(url, limited=True, governed=True) as ws:
        model = ws.model()

        async def ask(number):
            await model.chat_async(new_turns(number))

        return looped(ask, calls)


def ours_limited(url: str, calls: int) -> dict:
    with workspace(url, limited=True) as ws:
        model = ws.model()

        async def ask(_):
            await model.chat_async(MESSAGES)

        return looped(ask, calls)


def ours_threads(url: str, calls: int) -> dict:
    from concurrent.futures import ThreadPoolExecutor

    with workspace(url) as ws, ThreadPoolExecutor(AT_ONCE) as pool:
        model = ws.model()
        return measured(lambda count: list(pool.map(lambda _: model.chat(MESSAGES), range(count))), calls)


def ours_stream(url: str, calls: int) -> dict:
    with workspace(url) as ws:
        model = ws.model()

        async def ask(_):
            async for _ in model.stream_async(MESSAGES):
                pass

        return looped(ask, calls)


def ours_openai(url: str, calls: int) -> dict:
    with workspace(url) as ws:
        client = ws.openai_async()

        async def ask(_):
            await client.chat.completions.create(model="m", messages=MESSAGES)

        return looped(ask, calls)


def ours_openai_stream(url: str, calls: int) -> dict:
    with workspace(url) as ws:
        client = ws.openai_async()

        async def ask(_):
            async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
                pass

        return looped(ask, calls)


def litellm(url: str, calls: int) -> dict:
    import litellm

    async def ask(_):
        await litellm.acompletion(
            model="openai/m", api_base=url, api_key="x", messages=MESSAGES, num_retries=0
        )

    return looped(ask, calls)


def langchain(url: str, calls: int) -> dict:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", base_url=url, api_key="x", max_retries=0)

    async def ask(_):
        await model.ainvoke([(turn["role"], turn["content"]) for turn in MESSAGES])

    return looped(ask, calls)


def pydantic_ai(url: str, calls: int) -> dict:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=url, api_key="x")
    agent = Agent(OpenAIChatModel("m", provider=provider), system_prompt=MESSAGES[0]["content"])

    async def ask(_):
        await agent.run(MESSAGES[1]["content"])

    return looped(ask, calls)


def mlflow(url: str, calls: int) -> dict:
    """All traces are written when the time ends. One writer, because ten lock its SQLite store and fail.

    MLflow imports LiteLLM, and so httpx, in a thread at the first call; `openai` fails on a module that is
    imported halfway.
    """
    os.environ["MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS"] = "1"
    import litellm  # noqa: F401
    import mlflow as tracking
    import openai

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        tracking.set_tracking_uri(f"sqlite:///{folder}/mlflow.db?timeout=60")
        tracking.openai.autolog()
        client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)

        async def ask(_):
            await client.chat.completions.create(model="m", messages=MESSAGES)

        def run(count: int) -> None:
            runner.run(fan_out(ask, count))
            tracking.flush_trace_async_logging()

        made = measured(run, calls)
        kept = len(tracking.search_traces(max_results=AT_ONCE + calls, return_type="list"))
        if kept != AT_ONCE + calls:
            raise RuntimeError(f"{kept} of {AT_ONCE + calls} traces were written")
        return made


def inspect(url: str, calls: int) -> dict:
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.solver import generate

    model = get_model("openai/m", base_url=url, api_key="x", responses_api=False)

    def run(count: int) -> None:
        samples = [Sample(input=MESSAGES[1]["content"]) for _ in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            task = Task(dataset=samples, solver=generate())
            evaluate(
                task,
                model=model,
                max_connections=AT_ONCE,
                max_samples=AT_ONCE,
                log_dir=folder,
                display="none",
            )

    return measured(run, calls)


ARMS = (
    openai_bare, openai_stream, aiohttp_bare, ours_model, ours_new, ours_limited, ours_all, ours_threads,
    ours_stream, ours_openai, ours_openai_stream, litellm, langchain, pydantic_ai, mlflow, inspect,
)  # fmt: skip


if __name__ == "__main__":
    name, server, count = sys.argv[1:]
    print(json.dumps(next(arm for arm in ARMS if arm.__name__ == name)(server, int(count))))
