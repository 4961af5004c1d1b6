"""Drives both clients through other people's libraries, one scenario after another; prints what was recorded.

Run by test_interop.py inside a clone, with the interpreter and the name of an environment of the libraries.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path

# None of these libraries may call home from a test.
os.environ.update(
    LANGCHAIN_TRACING_V2="false",
    LANGSMITH_TRACING="false",
    LITELLM_LOCAL_MODEL_COST_MAP="true",
    LOGFIRE_SEND_TO_LOGFIRE="false",
)

from documented_pages import page_of
from interop_expected import scenarios_of
from interop_libraries import LIBRARIES
from scripted_endpoint import MODELS, ScriptedEndpoint

import workbench as wb
from workbench.workspace.save import save

EMBEDDED = "smollm2-135m"
#: The model of docs/libraries.md.
DOCUMENTED = "served-7b"
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

    def __init__(self, server: ScriptedEndpoint, url: str) -> None:
        self.server = server
        self.url = url
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
            told |= raised(error)
            if os.environ.get("WORKBENCH_INTEROP_TRACES"):
                traceback.print_exc()
        await self.settled()
        told |= {"records": self.records()[before:], "requests": self.server.received - received}
        print(json.dumps(told), flush=True)

    async def settled(self) -> None:
        """Wait until nothing is reserved: a library may close a stream late, or leave it to the collector."""
        for _ in range(100):
            if self.reserved() == 0:
                return
            gc.collect()
            await asyncio.sleep(0.05)
        raise TimeoutError("a call stayed in flight")

    def reserved(self) -> float:
        return sum(row["reserved"] for row in self.ws.budget().frame().rows(named=True))

    async def scenarios(self, name: str, kind: type) -> None:
        def library(model="scripted", ws=self.ws):
            return kind(ws, model)

        work = {
            "answer": lambda: library().answer(),
            "stream": lambda: joined(library().stream()),
            "abandoned": lambda: abandoned(library("slow").stream()),
            "broken stream": lambda: joined(library("breaking").stream()),
            "tools": lambda: library().tools(),
            "structured": lambda: library().structured(),
            "cancelled": lambda: self.cancelled(library("slow").answer()),
            "over budget": lambda: library(ws=self.spent).answer(),
            "embedded model": lambda: library(EMBEDDED).answer("Say hello."),
        }
        for scenario in scenarios_of(kind):
            # the other scenarios are named for the model that they ask
            begin = work.get(scenario, lambda model=scenario: library(model).answer())
            await self.tell(name, scenario, begin())
            gc.freeze()  # the library itself is no garbage, and looking through it takes half a second

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
                versions = {"version": version(kind.package), "openai": version("openai")}
                print(json.dumps({"library": name, "package": kind.package, **versions}))
                await self.scenarios(name, kind)
                if name == "LiteLLM":
                    await self.tell(name, "past the boundary", kind(self.ws, "scripted").ignored(self.url))
        await self.page(LIBRARIES[environment].values(), page_of("libraries.md"))

    async def page(self, kinds, text: str) -> None:
        """Run the code of docs/libraries.md for these libraries, and print what each block left behind."""
        beginning, *sections = text.split("\n### ")
        names = {}
        exec(code_of(beginning), names)
        for title in dict.fromkeys(kind.title for kind in kinds):
            (section,) = [found for found in sections if found.startswith(f"{title}\n")]
            before, received = len(self.records()), self.server.received
            compiled = compile(code_of(section), title, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if (running := eval(compiled, names)) is not None:
                await running
            outcomes = [record["outcome"] for record in self.records()[before:]]
            told = {"page": title, "outcomes": outcomes, "requests": self.server.received - received}
            print(json.dumps(told), flush=True)
        names["ws"].close()


def raised(error: BaseException) -> dict:
    """The classes of an error and of those that caused it, the status that one of them has, and its text."""
    classes, statuses, text = [], [], str(error)
    while error is not None:
        classes += [kind.__name__ for kind in type(error).__mro__]
        statuses += [status for status in [getattr(error, "status_code", None)] if status]
        error = error.__cause__ or error.__context__
    return {"raised": classes, "status": statuses[0] if statuses else None, "error": text[:300]}


async def joined(stream) -> str:
    return "".join([piece async for piece in stream])


async def abandoned(stream) -> str:
    """Leave a stream at its first text."""
    async for piece in stream:
        if piece:
            break
    await stream.aclose()
    return piece


def code_of(section: str) -> str:
    """The first code block of a section of the page."""
    return section.partition("```python\n")[2].partition("```")[0]


def prepare(url: str) -> None:
    """Give this clone the cards of the endpoint, and budgets."""
    for name in (*MODELS, DOCUMENTED):
        path = Path("pipelines", "models", name, "1.yaml")
        path.parent.mkdir(parents=True)
        path.write_text(CARD.format(name=name, url=url), encoding="utf-8")
        save(Path.cwd(), f"model/{name}", reason="a test")
    with Path("params.yaml").open("a", encoding="utf-8") as params:
        params.write(BUDGETS)


server = ScriptedEndpoint()
with server.serving() as url:
    prepare(url)
    run = Run(server, url)
    asyncio.run(run.main(sys.argv[1]))
    print(json.dumps({"reserved": run.reserved()}))
    run.ws.close()
    run.spent.close()
