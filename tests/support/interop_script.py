"""Drives both clients through other people's libraries, one scenario after another; prints what was recorded.

Run by test_interop.py inside a clone, with the interpreter and the name of an environment of the libraries.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import os
import sys
import traceback
from pathlib import Path

# None of these libraries may call home from a test.
os.environ.update(
    LANGCHAIN_TRACING_V2="false",
    LANGSMITH_TRACING="false",
    LITELLM_LOCAL_MODEL_COST_MAP="true",
    LOGFIRE_SEND_TO_LOGFIRE="false",
)

from interop_libraries import LIBRARIES
from scripted_endpoint import MODELS, ScriptedEndpoint

import workbench as wb
from workbench.workspace.save import save

EMBEDDED = "smollm2-135m"
CARD = """\
name: {name}
provider: openai
model: {name}
kind: chat
purpose: Tests.
licence: none
region: here
limits: {{context_tokens: 4096, max_output_tokens: 100}}
price_per_million: {{input_usd: 1, output_usd: 1}}
base_url: {url}
"""
BUDGETS = """
budgets:
  plenty: {usd: 100, calls: 100000, per: [tenant]}
  spent: {calls: 1, only: {purpose: spent}}
"""
COLUMNS = ["outcome", "streamed", "operation", "error", "status", "output_tokens", "fallback"]


class Run:
    """The scenarios of the libraries of one environment."""

    def __init__(self, server: ScriptedEndpoint) -> None:
        self.server = server
        self.ws = wb.connect("answers", mode="live")
        self.spent = wb.connect("answers", mode="live", purpose="spent")

    def records(self) -> list[dict]:
        frame = self.ws.calls()
        return frame.select([name for name in COLUMNS if name in frame.columns]).rows(named=True)

    async def tell(self, library: str, scenario: str, work) -> None:
        """Print what a scenario returned or raised, its records, and how many requests reached the server."""
        before, received = len(self.records()), self.server.received
        told = {"scenario": f"{library}: {scenario}"}
        try:
            said = await work
            told["said"] = said.model_dump() if hasattr(said, "model_dump") else said
        except Exception as error:  # noqa: BLE001  whichever class the library makes of it
            told |= {"raised": [kind.__name__ for kind in type(error).__mro__], "error": str(error)[:300]}
            if os.environ.get("WORKBENCH_INTEROP_TRACES"):
                traceback.print_exc()
        await self.settled()
        told |= {"records": self.records()[before:], "requests": self.server.received - received}
        print(json.dumps(told), flush=True)

    async def settled(self) -> None:
        """Wait until nothing is reserved: a library may close a stream late, or leave it to the collector."""
        gc.collect()
        for _ in range(100):
            if self.reserved() == 0:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError("a call stayed in flight")

    def reserved(self) -> float:
        return sum(row["reserved"] for row in self.ws.budget().frame().rows(named=True))

    async def scenarios(self, name: str, kind: type) -> None:
        def library(model="scripted", ws=self.ws):
            return kind(ws, model)

        await self.tell(name, "answer", library().answer())
        if getattr(kind, "stream", None):
            await self.tell(name, "stream", joined(library().stream()))
            await self.tell(name, "abandoned", abandoned(library("slow").stream()))
            await self.tell(name, "broken stream", joined(library("breaking").stream()))
        for verb in ("tools", "structured"):
            if getattr(kind, verb, None):
                await self.tell(name, verb, getattr(library(), verb)())
        if not kind.sync:
            await self.tell(name, "cancelled", self.cancelled(library("slow").answer()))
        for model in ("busy", "failing", "refusing", "unknown"):
            await self.tell(name, model, library(model).answer())
        await self.tell(name, "over budget", library(ws=self.spent).answer())
        if kind.embedded:
            await self.tell(name, "embedded model", library(EMBEDDED).answer("Say hello."))

    async def cancelled(self, work) -> str:
        """Cancel the work once its request has reached the server."""
        received = self.server.received
        task = asyncio.ensure_future(work)
        while self.server.received == received and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "not cancelled"

    async def main(self, environment: str) -> None:
        self.spent.openai().chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "Spend it."}]
        )
        only = os.environ.get("WORKBENCH_INTEROP_ONLY", "")
        for name, kind in LIBRARIES[environment].items():
            if only in name:
                version = importlib.metadata.version(kind.package)
                print(json.dumps({"library": name, "package": kind.package, "version": version}))
                await self.scenarios(name, kind)


async def joined(stream) -> str:
    return "".join([piece async for piece in stream])


async def abandoned(stream) -> str:
    """Leave a stream at its first text."""
    async for piece in stream:
        if piece:
            break
    await stream.aclose()
    return piece


def prepare(url: str) -> None:
    """Give this clone the cards of the endpoint, and budgets."""
    for name in MODELS:
        path = Path("pipelines", "models", name, "1.yaml")
        path.parent.mkdir(parents=True)
        path.write_text(CARD.format(name=name, url=url), encoding="utf-8")
        save(Path.cwd(), f"model/{name}", reason="a test")
    with Path("params.yaml").open("a", encoding="utf-8") as params:
        params.write(BUDGETS)


server = ScriptedEndpoint()
with server.serving() as url:
    prepare(url)
    run = Run(server)
    asyncio.run(run.main(sys.argv[1]))
    print(json.dumps({"reserved": run.reserved()}))
    run.ws.close()
    run.spent.close()
